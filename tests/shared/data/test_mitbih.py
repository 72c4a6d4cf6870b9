"""MIT-BIH as published: leads by the header's names, marks counted, and one person on one side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import wfdb

from shared.data.prepare import prepare
from shared.data.sources import mitbih
from shared.data.sources.base import RecordError
from shared.errors import UserError
from tests.golden import real_data
from tests.shared.data.preparing import audit_of
from tests.shared.data.wfdb_records import draw_ecg

FS_HZ = 360
MARKS = [
    ("+", "(N"),
    ("N", ""),
    ("L", ""),
    ("A", ""),
    ("+", "(AFIB"),
    ("V", ""),
    ("F", ""),
    ("/", ""),
    ("~", ""),
    ('"', "MISSB"),
    ("+", "(N"),
]


def config_of(root: Path) -> mitbih.Config:
    return mitbih.Config(root=root, out=root.parent / "store")


def write_mitbih(
    folder: Path,
    name: str,
    ecg: np.ndarray | None = None,
    leads: tuple[str, str] = ("MLII", "V1"),
    person: str = "69 M 1085 1629 x1",
    marks: list[tuple[str, str]] = MARKS,
) -> None:
    """A record of `ecg [2, T]`, mV, in the database's format: 212, 200 steps a mV around 1024; with its annotations."""
    ecg = draw_ecg()[[1, 6]] if ecg is None else ecg
    folder.mkdir(parents=True, exist_ok=True)
    wfdb.wrsamp(
        name,
        fs=FS_HZ,
        units=["mV", "mV"],
        sig_name=list(leads),
        d_signal=np.rint(ecg.T * 200).astype(int) + 1024,
        fmt=["212", "212"],
        adc_gain=[200.0, 200.0],
        baseline=[1024, 1024],
        comments=[person, "Aldomet, Inderal"],
        write_dir=str(folder),
    )
    at = np.arange(1, len(marks) + 1) * 100
    symbols, notes = [mark for mark, _ in marks], [note for _, note in marks]
    wfdb.wrann(name, "atr", at, symbol=symbols, aux_note=notes, fs=FS_HZ, write_dir=str(folder))


def test_real_signals_in_the_published_format(tmp_path: Path) -> None:
    sample = wfdb.rdrecord(str(real_data("challenge2021") / "cpsc_2018" / "g1" / "A0005"))
    ecg = np.clip(sample.p_signal[:, [1, 10]].T, -5, 5)
    write_mitbih(tmp_path, "114", ecg[::-1], leads=("V5", "MLII"), person="72 F 634 654 x1")
    (result,) = mitbih.read(config_of(tmp_path), mitbih.index(config_of(tmp_path)))
    assert not isinstance(result, RecordError), result
    assert (list(result.leads), result.fs) == (["V5", "MLII"], 360.0)
    np.testing.assert_allclose(result.signal, ecg[::-1], atol=0.5 / 200 + 1e-6)
    assert result.info == {
        "age": 72.0,
        "sex": 1.0,
        "record_rhythms": ["AFIB", "N"],
        "record_beats_N": 2,
        "record_beats_S": 1,
        "record_beats_V": 1,
        "record_beats_F": 1,
        "record_beats_Q": 1,
        "paced": True,
    }


def test_every_record_is_where_de_chazal_has_it_but_202(tmp_path: Path) -> None:
    ds1, ds2 = (set(mitbih.SETS[name].split()) for name in ("DS1", "DS2"))
    assert (len(ds1), len(ds2), ds1 & ds2) == (23, 21, set()) and {"201", "202"} <= ds1
    numbers = [*range(100, 125), *range(200, 235)]
    absent = {110, 120, 204, 206, 211, 216, 218, 224, 225, 226, 227, 229}
    names = {str(number) for number in numbers if number not in absent}
    assert len(names) == 48 and names - ds1 - ds2 == {"102", "104", "107", "217"}
    for name in names:
        (tmp_path / f"{name}.hea").write_text(f"{name} 2 360 650000\n")
    (tmp_path / "x_mitdb").mkdir()
    (tmp_path / "x_mitdb" / "x_100.hea").write_text("x_100 2 360 216000\n")
    index = mitbih.index(config_of(tmp_path))
    assert set(index.record) == names and index.patient.nunique() == 47
    assert set(index.fold[index.chazal_set == "DS2"]) == {10} and set(index.fold[index.chazal_set == ""]) == {0}
    assert set(index.fold[index.chazal_set == "DS1"]) == set(range(1, 10))
    assert (index.groupby("patient").fold.nunique() == 1).all()


def test_every_segment_carries_what_is_said_of_its_half_hour(tmp_path: Path) -> None:
    """Of the lead V1, which is one of the twelve; a record without it is left out and counted."""
    for seed, (name, leads) in enumerate({"101": ("MLII", "V1"), "102": ("V5", "V2"), "105": ("MLII", "V1")}.items()):
        ecg = np.tile(draw_ecg(seed)[[1, 6]], (1, 3))
        write_mitbih(tmp_path / "in", name, ecg, leads, marks=MARKS if name == "101" else [("+", "(N"), ("N", "")])
    settings = {"leads": ["V1"], "fs": 360.0, "backend": "sequential", "out": tmp_path / "out"}
    store = prepare(mitbih.Config(root=tmp_path / "in", **settings))
    records = store.records
    assert records.record.tolist() == ["101"] * 2 + ["105"] * 2 and records.segment.tolist() == [0, 1, 0, 1]
    assert audit_of(store)["left_out"] == {"missing or unknown leads": 1}
    assert [list(x) for x in records.record_rhythms] == [["AFIB", "N"]] * 2 + [["N"]] * 2
    assert records.record_beats_N.tolist() == [2, 2, 1, 1] and records.paced.tolist() == [True, True, False, False]
    assert records.chazal_set.tolist() == ["DS1"] * 2 + ["DS2"] * 2 and records.fold.tolist()[2:] == [10, 10]
    np.testing.assert_allclose(store[2] * 1e-3, np.tile(draw_ecg(2)[[6]], 3)[:, :3600], atol=3.1e-3)


@pytest.mark.parametrize(
    ("comment", "age", "sex"), [("-1 M 742 654 x1", np.nan, 0.0), ("24 F 1 N/A x2", 24.0, 1.0), ("89 M", 89.0, 0.0)]
)
def test_age_and_sex_are_the_first_comment(comment: str, age: float, sex: float) -> None:
    found = mitbih.person_of([comment, "None"])
    np.testing.assert_array_equal([found["age"], found["sex"]], [age, sex])


def test_a_header_without_a_person_says_none() -> None:
    assert mitbih.person_of([]) == {} and mitbih.person_of(["Aldomet"]) == {}


def test_faults_are_named(tmp_path: Path) -> None:
    for name in ("100", "101", "103", "105", "106"):
        write_mitbih(tmp_path, name)
    (tmp_path / "101.atr").unlink()
    (tmp_path / "103.atr").write_bytes(b"\xff")
    (tmp_path / "105.hea").write_text("105")
    (tmp_path / "106.dat").unlink()
    config = config_of(tmp_path)
    results = mitbih.read(config, mitbih.index(config))
    reasons = [result.reason if isinstance(result, RecordError) else "" for result in results]
    assert reasons == ["", "missing annotations", "unreadable annotations", "unreadable header", "missing file"]


def test_a_folder_that_is_not_the_database_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no record\. Expected 100\.hea, 100\.dat, 100\.atr"):
        mitbih.index(config_of(tmp_path))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file is not a folder"):
        mitbih.index(config_of(tmp_path / "file"))
