"""Each source reads its database as published, and says of a broken record what is wrong with it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import wfdb
from scipy.signal import resample

from shared.config import load_config
from shared.data.prepare import choose_config, prepare
from shared.data.sources import SOURCES, ludb, ptbxl, synthetic, wfdb_folder
from shared.data.sources.base import RecordError, fold_by_patient, read_wfdb
from shared.errors import UserError
from shared.leads import LEADS, limb_residual
from tests.golden import real_data


def write_record(
    folder: Path,
    name: str,
    ecg: np.ndarray,
    fs: float = 250,
    leads: Any = LEADS,
    unit: str = "mV",
    comments: list[str] | None = None,
) -> Path:
    """A WFDB record of `ecg [L, T]` at 1000 steps a unit; returns its path without extension."""
    folder.mkdir(parents=True, exist_ok=True)
    num = len(ecg)
    wfdb.wrsamp(
        name,
        fs=fs,
        units=[unit] * num,
        sig_name=list(leads),
        p_signal=np.ascontiguousarray(ecg.T, dtype=np.float64),
        fmt=["16"] * num,
        adc_gain=[1000.0] * num,
        baseline=[0] * num,
        comments=comments or [],
        write_dir=str(folder),
    )
    return folder / name


def draw_ecg(seed: int = 0, num_samples: int = 2500) -> np.ndarray:
    """Twelve leads that obey the identities, whole microvolts: even for I and II, so that the halves are whole too."""
    rng = np.random.default_rng(seed)
    eight = 2 * rng.integers(-400, 400, (8, num_samples))
    one, two = eight[:2]
    return np.vstack([one, two, two - one, -(one + two) // 2, one - two // 2, two - one // 2, eight[2:]]) / 1000


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


# ---------------------------------------------------------------- PTB-XL

STATEMENTS = """,description,diagnostic,form,rhythm,diagnostic_class,diagnostic_subclass
NORM,normal,1.0,,,NORM,NORM
IMI,inferior,1.0,,,MI,IMI
NDT,non-diagnostic T,1.0,1.0,,STTC,STTC
SR,sinus rhythm,,,1.0,,
"""
DATABASE = """ecg_id,patient_id,age,sex,scp_codes,strat_fold,filename_lr,filename_hr
1,7.0,56.0,1,"{'NORM': 100.0, 'SR': 0.0}",3,lr/1,hr/1
2,7.0,300.0,0,"{'IMI': 35.0, 'NDT': 50.0, 'SR': 0.0}",3,lr/2,hr/2
3,8.0,,0,"{'IMI': 0.0, 'NDT': 0.0, 'QQQ': 100.0}",10,lr/3,hr/3
"""


def ptbxl_config(root: Path, database: str = DATABASE, **values: Any) -> ptbxl.Config:
    (root / "ptbxl_database.csv").write_text(database)
    (root / "scp_statements.csv").write_text(STATEMENTS)
    return ptbxl.Config(root=root, out=root / "out", **values)


def test_ptbxl_labels(tmp_path: Path) -> None:
    index = ptbxl.index(ptbxl_config(tmp_path))
    assert index.record.tolist() == ["00001", "00002", "00003"]
    assert index.patient.tolist() == ["7", "7", "8"]
    assert index.fold.tolist() == [3, 3, 10]
    assert index.superclass.tolist() == [["NORM"], ["MI", "STTC"], []]
    assert index.subclass.tolist() == [["NORM"], ["IMI", "STTC"], []]
    assert index.form.tolist() == [[], ["NDT"], ["NDT"]]
    assert index.rhythm.tolist() == [["SR"], ["SR"], []]
    assert index.statements.tolist() == [["NORM", "SR"], ["IMI", "NDT", "SR"], ["NDT"]]
    assert index.age.tolist()[:2] == [56.0, 90.0]
    assert np.isnan(index.age[2])


def test_ptbxl_likelihood_is_above_the_threshold(tmp_path: Path) -> None:
    assert ptbxl.index(ptbxl_config(tmp_path, min_likelihood=35)).superclass.tolist() == [["NORM"], ["STTC"], []]
    assert ptbxl.index(ptbxl_config(tmp_path, min_likelihood=50)).superclass.tolist() == [["NORM"], [], []]
    with pytest.raises(ValueError, match="min_likelihood"):
        ptbxl_config(tmp_path, min_likelihood=100)


def test_ptbxl_single_label(tmp_path: Path) -> None:
    assert ptbxl.index(ptbxl_config(tmp_path, single_label=True)).record.tolist() == ["00001"]
    header, _, *rest = DATABASE.splitlines()
    with pytest.raises(UserError, match="single_label=true leaves no record"):
        ptbxl.index(ptbxl_config(tmp_path, "\n".join([header, *rest]), single_label=True))


def test_ptbxl_rate_chooses_the_folder(tmp_path: Path) -> None:
    assert ptbxl.index(ptbxl_config(tmp_path)).path.tolist() == ["hr/1", "hr/2", "hr/3"]
    assert ptbxl.index(ptbxl_config(tmp_path, rate=100)).path.tolist() == ["lr/1", "lr/2", "lr/3"]


def test_ptbxl_that_is_not_ptbxl(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no ptbxl_database\.csv"):
        ptbxl.index(ptbxl.Config(root=tmp_path, out=tmp_path))
    with pytest.raises(UserError, match=r"ptbxl_database\.csv has no column strat_fold"):
        ptbxl.index(ptbxl_config(tmp_path, DATABASE.replace("strat_fold", "fold")))


def test_ptbxl_sample_index() -> None:
    index = ptbxl.index(ptbxl.Config(root=real_data("ptb-xl"), out="unused"))
    counts = Counter(name for names in index.superclass for name in names)
    assert counts == {"NORM": 297, "MI": 73, "STTC": 93, "CD": 78, "HYP": 40}
    assert int((index.superclass.str.len() == 0).sum()) == 13
    assert index.patient.nunique() == 466
    assert index.fold.between(1, 10).all()
    assert (index.groupby("patient").fold.nunique() == 1).all()


def test_ptbxl_both_rates_are_the_same_recording() -> None:
    signals = []
    for rate in (500, 100):
        config = ptbxl.Config(root=real_data("ptb-xl"), out="unused", rate=rate)
        result = ptbxl.read(config, ptbxl.index(config).iloc[[5]])[0]
        assert not isinstance(result, RecordError)
        assert result.fs == rate
        assert limb_residual(result.signal, LEADS) < 0.01
        signals.append(resample(result.signal, 1000, axis=1))
    assert np.corrcoef(signals[0].ravel(), signals[1].ravel())[0, 1] > 0.98
    assert signals[0].std() == pytest.approx(signals[1].std(), rel=0.05)


# ---------------------------------------------------------------- synthetic


def test_synthetic_chunks_are_the_whole() -> None:
    config = synthetic.Config(num_records=5, out="unused", fs=100, seconds=6)
    index = synthetic.index(config)
    whole = synthetic.read(config, index)
    part = synthetic.read(config, index.iloc[3:])
    for a, b in zip(whole[3:], part, strict=True):
        np.testing.assert_array_equal(a.signal, b.signal)  # type: ignore[union-attr]
    assert whole[0].signal.shape == (12, 600)  # type: ignore[union-attr]
    peaks = whole[0].info["true_r_peaks"]  # type: ignore[union-attr]
    assert all(0 <= peak < 6 for peak in peaks)
    assert len(peaks) > 2


@pytest.mark.parametrize("values", [{"seconds": 2}, {"seed": -1}, {"num_records": 0}])
def test_synthetic_refuses_what_it_cannot_render(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        synthetic.Config(out="unused", **values)


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_names_itself(name: str, tmp_path: Path) -> None:
    assert SOURCES[name].Config(out=tmp_path).source == name


# ---------------------------------------------------------------- LUDB


def test_ludb_intervals_of_marks() -> None:
    """Two beats by hand: P 0.10–0.18 s, QRS 0.26–0.34, T 0.50–0.66; then a beat without P and with an unbounded T."""
    beat = [
        ("(", 0.10),
        ("p", 0.14),
        (")", 0.18),
        ("(", 0.26),
        ("N", 0.30),
        (")", 0.34),
        ("(", 0.50),
        ("t", 0.6),
        (")", 0.66),
    ]
    lone = [("(", 1.25), ("N", 1.30), (")", 1.36), ("t", 1.6)]
    found = ludb.annotated_intervals([*beat, *lone])
    assert {k: np.round(v).tolist() for k, v in found.items()} == {"qrs_ms": [80, 110], "pr_ms": [160], "qt_ms": [400]}
    values = ludb.measurements(np.array([0.3, 1.3, 2.3]), {"qrs_ms": [80, 110], "pr_ms": [], "qt_ms": [400]})
    assert (
        round(values["true_heart_rate"], 6) == 60.0 and values["true_qrs_ms"] == 95.0 and np.isnan(values["true_pr_ms"])
    )
    assert np.isnan(ludb.measurements(np.array([0.3]), {})["true_heart_rate"])


def test_ludb_as_published(tmp_path: Path) -> None:
    root = real_data("ludb")
    store = prepare(
        load_config(choose_config, "configs/data/ludb.yaml", [f"root={root}", f"out={tmp_path}/s", "workers=1"])
    )
    records = store.records
    assert len(store) == 50 and records.patient.is_unique
    assert records.true_heart_rate.between(30, 180).all() and records.true_qrs_ms.between(50, 200).all()
    assert records.true_pr_ms.isna().sum() > 0  # atrial fibrillation has no P wave
    assert {"Sinus rhythm", "Atrial fibrillation"} <= {name for names in records.rhythm for name in names}


def test_ludb_refuses_another_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ludb\.csv"):
        ludb.index(ludb.Config(root=tmp_path, out="unused"))
    (tmp_path / "ludb.csv").write_text("ID,Sex\n1,M\n")
    with pytest.raises(UserError, match="has no column Age"):
        ludb.index(ludb.Config(root=tmp_path, out="unused"))
