"""Each source reads its database as published, and says of a broken record what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from shared.data.sources import wfdb_folder
from shared.data.sources.base import RecordError, fold_by_patient, read_wfdb
from shared.errors import UserError
from shared.leads import LEADS
from tests.golden import real_data
from tests.shared.data.wfdb_records import draw_ecg, write_record

# ---------------------------------------------------------------- one WFDB record


def test_record_comes_back_in_millivolt(tmp_path: Path) -> None:
    ecg = draw_ecg()
    recording, comments = read_wfdb(write_record(tmp_path, "a", ecg, fs=257, comments=["Age: 60"]))
    np.testing.assert_allclose(recording.signal, ecg, atol=1e-5)
    assert recording.signal.dtype == np.float32
    assert (recording.fs, tuple(recording.leads), comments) == (257.0, LEADS, ["Age: 60"])


@pytest.mark.parametrize(("unit", "factor"), [("mV", 1.0), ("uV", 1e-3), ("V", 1e3), ("MV", 1.0)])
def test_unit_of_the_header_counts(tmp_path: Path, unit: str, factor: float) -> None:
    recording, _ = read_wfdb(write_record(tmp_path, "a", draw_ecg(), unit=unit))
    np.testing.assert_allclose(recording.signal, draw_ecg() * factor, atol=1e-5 * factor)


def edit_header(path: Path, old: str, new: str) -> None:
    header = path.with_name(f"{path.name}.hea")
    text = header.read_text()
    assert old in text
    header.write_text(text.replace(old, new))


def cut(path: Path, share: float) -> None:
    content = path.with_suffix(".dat").read_bytes()
    path.with_suffix(".dat").write_bytes(content[: int(len(content) * share)])


BREAK: dict[str, tuple[Any, str, str]] = {
    "no header": (lambda p: p.with_suffix(".hea").unlink(), "missing file", r"a\.hea does not exist"),
    "no signal": (
        lambda p: p.with_suffix(".dat").unlink(),
        "missing file",
        r"a\.hea names a\.dat, which does not exist",
    ),
    "half the signal": (lambda p: cut(p, 0.5), "unreadable signal", "a: truncated or damaged"),
    "one byte short": (lambda p: cut(p, 0.99999), "unreadable signal", "a: truncated or damaged"),
    "empty signal": (lambda p: cut(p, 0), "unreadable signal", "a: truncated or damaged"),
    "empty header": (lambda p: p.with_suffix(".hea").write_text(""), "unreadable header", r"a\.hea"),
    "binary header": (lambda p: p.with_suffix(".hea").write_bytes(bytes(range(256))), "unreadable header", r"a\.hea"),
    "no signal lines": (
        lambda p: p.with_suffix(".hea").write_text("a 0 250 2500\n"),
        "unreadable header",
        "names no signal",
    ),
    "longer in the header": (lambda p: edit_header(p, " 2500\n", " 9999\n"), "unreadable signal", "truncated"),
    "no sample": (lambda p: edit_header(p, " 2500\n", " 0\n"), "unreadable signal", "a: truncated or damaged"),
    "unknown unit": (lambda p: edit_header(p, "/mV", "/mmHg"), "unknown unit", "lead I is in 'mmHg'; expected mV"),
}


@pytest.mark.parametrize("how", BREAK)
def test_broken_record_says_what_is_wrong(tmp_path: Path, how: str) -> None:
    damage, reason, said = BREAK[how]
    path = write_record(tmp_path, "a", draw_ecg())
    damage(path)
    with pytest.raises(RecordError, match=said) as error:
        read_wfdb(path)
    assert error.value.reason == reason


def test_record_error_survives_another_process() -> None:
    """Results travel between processes; a plain exception with two arguments would not."""
    function, arguments = RecordError("reason", "detail").__reduce__()[:2]
    again = function(*arguments)
    assert (again.reason, again.detail, str(again)) == ("reason", "detail", "detail")


# ---------------------------------------------------------------- a folder of WFDB records


def folder_config(root: Path, **values: Any) -> wfdb_folder.Config:
    return wfdb_folder.Config(root=root, out=root / "out", **values)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three records in two folders."""
    for folder, name in (("g1", "a"), ("g1", "b"), ("g2", "c")):
        write_record(tmp_path / folder, name, draw_ecg(num_samples=10))
    return tmp_path


def write_csv(root: Path, text: str) -> Path:
    (root / "labels.csv").write_text(text)
    return root / "labels.csv"


def test_every_header_is_a_record(tree: Path) -> None:
    index = wfdb_folder.index(folder_config(tree))
    assert index.record.tolist() == ["g1/a", "g1/b", "g2/c"]
    assert index.patient.tolist() == index.record.tolist()
    assert index.fold.between(1, 10).all()
    assert wfdb_folder.index(folder_config(tree, pattern="g2/*.hea")).record.tolist() == ["g2/c"]


def test_empty_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"no WFDB header matches .* below {tmp_path}"):
        wfdb_folder.index(folder_config(tmp_path))


def test_root_must_be_given_and_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="`root` is not set"):
        wfdb_folder.index(wfdb_folder.Config(out=tmp_path))
    with pytest.raises(UserError, match="nowhere is not a folder"):
        wfdb_folder.index(folder_config(tmp_path / "nowhere"))


@pytest.mark.parametrize("names", [("g1/a", "g1/b", "g2/c"), ("a", "b", "c"), ("a.hea", " b", "g2/c.hea")])
def test_labels_join_by_path_or_file_name(tree: Path, names: tuple[str, ...]) -> None:
    lines = zip(names, ("AF; SB", "", "NSR"), ("p", "p", "q"), (3, 3, 7), strict=True)
    csv = write_csv(tree, "record,dx,who,part\n" + "".join(f"{n},{d},{w},{f}\n" for n, d, w, f in lines))
    columns = {"label_column": "dx", "patient_column": "who", "fold_column": "part"}
    index = wfdb_folder.index(folder_config(tree, labels_csv=csv, **columns))
    assert index.labels.tolist() == [["AF", "SB"], [], ["NSR"]]
    assert index.patient.tolist() == ["p", "p", "q"]
    assert index.fold.tolist() == [3, 3, 7]
    assert index.fold.dtype.kind == "i"


@pytest.mark.parametrize("option", ["record_column", "label_column", "patient_column", "fold_column"])
def test_csv_without_the_column(tree: Path, option: str) -> None:
    csv = write_csv(tree, "record,dx\na,AF\n")
    with pytest.raises(UserError, match=rf"labels\.csv has no column 'nope' \({option}\)\. Its columns: record, dx"):
        wfdb_folder.index(folder_config(tree, labels_csv=csv, **{option: "nope"}))


def test_unknown_records_are_counted_aloud(tree: Path) -> None:
    csv = write_csv(tree, "record,dx\na,AF\nx,AF\ny,AF\n")
    with pytest.warns(UserWarning, match=r"2 line\(s\) name no record .*first: x, y.*; 2 record\(s\) have no line"):
        index = wfdb_folder.index(folder_config(tree, labels_csv=csv, label_column="dx"))
    assert index.labels.tolist() == [["AF"], [], []]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("record,dx\nx,AF\n", r"no line of .*labels\.csv names a record .* has x, the folder 'g1/a'"),
        ("record,dx\n", r"no line of .*labels\.csv names a record"),
        ("record,dx\n,AF\n", r"no line of .*labels\.csv names a record"),
        ("", r"labels\.csv is not a readable CSV"),
        ("record,dx\na,AF\na,SB\n", "names record 'a' more than once"),
    ],
)
def test_csv_that_cannot_be_joined(tree: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        wfdb_folder.index(folder_config(tree, labels_csv=write_csv(tree, text), label_column="dx"))


def test_csv_that_does_not_exist(tree: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.csv does not exist"):
        wfdb_folder.index(folder_config(tree, labels_csv=tree / "gone.csv"))


def test_one_line_must_not_label_two_records(tree: Path) -> None:
    write_record(tree / "g2", "a", draw_ecg(num_samples=10))
    csv = write_csv(tree, "record,dx\na,AF\nb,SB\nc,SB\n")
    with pytest.raises(UserError, match="several records are named a"):
        wfdb_folder.index(folder_config(tree, labels_csv=csv, label_column="dx"))


def test_header_comments_give_age_sex_and_diagnoses(tmp_path: Path) -> None:
    write_record(
        tmp_path, "a", draw_ecg(), comments=["Age: 61", "Sex: Female", "Dx: 426783006,164889003", "Rx: Unknown"]
    )
    write_record(tmp_path, "b", draw_ecg(), comments=["<age>: 20", "<sex>: M", "no colon", "Dx:"])
    write_record(tmp_path, "c", draw_ecg(), comments=["Age: NaN", "Sex: Unknown"])
    config = folder_config(tmp_path)
    a, b, c = (result.info for result in wfdb_folder.read(config, wfdb_folder.index(config)))  # type: ignore[union-attr]
    assert a == {"age": 61, "sex": 1.0, "dx": ["164889003", "426783006"]}
    assert b == {"age": 20, "sex": 0.0}
    assert c.keys() == {"age"}
    assert np.isnan(c["age"])


def test_headers_say_whose_record_it_is(tmp_path: Path) -> None:
    for name, comment in (
        ("a", "Patient ID: 7"),
        ("b", "<subject_id>: 7"),
        ("c", "patient:7 "),
        ("d", "Age: 300"),
        ("e", "SN: 7"),
    ):
        write_record(tmp_path, name, draw_ecg(), comments=[comment])
    config = folder_config(tmp_path)
    infos = [result.info for result in wfdb_folder.read(config, wfdb_folder.index(config))]  # type: ignore[union-attr]
    fold = int(fold_by_patient(pd.Series(["7"]))[0])
    assert infos == [{"patient": "7", "fold": fold}] * 3 + [{"age": 90.0}, {}]
    own = folder_config(tmp_path, patient_keys=["sn"])
    assert wfdb_folder.read(own, wfdb_folder.index(own))[4].info == {"patient": "7", "fold": fold}  # type: ignore[union-attr]


def test_linked_folders_are_followed_each_once(tmp_path: Path) -> None:
    write_record(tmp_path / "elsewhere", "far", draw_ecg())
    write_record(tmp_path / "root" / "g1", "near", draw_ecg())
    (tmp_path / "root" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "g1" / "loop").symlink_to(tmp_path / "root")
    found = wfdb_folder.index(folder_config(tmp_path / "root")).record.tolist()
    assert found == ["g1/near", "link/far"]
    assert wfdb_folder.index(folder_config(tmp_path / "root", pattern="g?/*.hea")).record.tolist() == ["g1/near"]


@pytest.mark.parametrize(
    "line", ["a.mat 12 250 2500 05-May-2020 14:50:55", "a.dat 12 250.0 2500", "a 12 250 2500 1/2/3 x"]
)
def test_record_lines_that_only_say_more_are_read(tmp_path: Path, line: str) -> None:
    path = write_record(tmp_path, "a", draw_ecg(), comments=["Age: 60"])
    edit_header(path, path.with_suffix(".hea").read_text().splitlines()[0], line)
    recording, comments = read_wfdb(path)
    np.testing.assert_allclose(recording.signal, draw_ecg(), atol=1e-5)
    assert (recording.fs, comments) == (250.0, ["Age: 60"])


def test_a_channel_that_is_no_ecg_is_passed_over(tmp_path: Path) -> None:
    path = write_record(tmp_path, "a", np.vstack([draw_ecg(), 20 + draw_ecg()[:1]]), leads=[*LEADS, "ABP"])
    text = path.with_suffix(".hea").read_text().splitlines()
    text[13] = text[13].replace("/mV", "/mmHg")
    path.with_suffix(".hea").write_text("\n".join(text) + "\n")
    recording, _ = read_wfdb(path)
    assert tuple(recording.leads) == LEADS
    np.testing.assert_allclose(recording.signal, draw_ecg(), atol=1e-5)


def test_segments_of_a_record_are_joined(tmp_path: Path) -> None:
    ecg = draw_ecg()
    write_record(tmp_path, "one", ecg[:, :1000])
    write_record(tmp_path, "two", ecg[:, 1000:])
    (tmp_path / "a.hea").write_text(f"a/2 12 250 {ecg.shape[1]}\none 1000\ntwo {ecg.shape[1] - 1000}\n")
    recording, _ = read_wfdb(tmp_path / "a")
    np.testing.assert_allclose(recording.signal, ecg, atol=1e-5)


def test_reading_never_raises(tree: Path) -> None:
    (tree / "g1" / "b.hea").write_text("garbage")
    config = folder_config(tree)
    kinds = [type(result).__name__ for result in wfdb_folder.read(config, wfdb_folder.index(config))]
    assert kinds == ["Recording", "RecordError", "Recording"]


def test_fold_depends_on_the_patient_alone() -> None:
    patients = pd.Series([f"p{i}" for i in range(3000)])
    folds = fold_by_patient(patients)
    assert folds[::-1].tolist() == fold_by_patient(patients[::-1]).tolist()
    assert folds[5:6].tolist() == fold_by_patient(patients[5:6]).tolist()
    assert set(folds) == set(range(1, 11))
    assert folds.value_counts().between(230, 370).all()
    assert fold_by_patient(pd.Series(["7"])).tolist() == fold_by_patient(pd.Series([7])).tolist()


@pytest.mark.parametrize(("name", "num"), [("challenge2021", 32), ("ludb", 50)])
def test_published_folders_are_read_whole(name: str, num: int) -> None:
    config = wfdb_folder.Config(root=real_data(name), out="unused")
    index = wfdb_folder.index(config)
    assert len(index) == num
    for result in wfdb_folder.read(config, index.iloc[::8]):
        assert not isinstance(result, RecordError), result
        assert sorted(lead.lower() for lead in result.leads) == sorted(lead.lower() for lead in LEADS)
        assert result.info["sex"] in (0.0, 1.0)
        assert 0.01 < result.signal.std() < 5
        if name == "challenge2021":
            assert result.info["dx"]
