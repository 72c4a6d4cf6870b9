"""SPH as published: a file of half-precision numbers a record, statements with modifiers, patients who come again."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import wfdb

from shared.data.prepare import prepare
from shared.data.sources import sph
from shared.data.sources.base import PROBLEM, RecordError
from shared.errors import UserError
from tests.golden import real_data
from tests.shared.data.preparing import audit_of
from tests.shared.data.wfdb_records import draw_ecg

CODES = """Category,Code,Description
A,1,Normal ECG
C,22,Sinus bradycardia
E,60,Ventricular premature complex(es)
L,147,T-wave abnormality
D,31,"Atrial premature complexes, nonconducted"
Modifier,310,Frequent
"""
RECORDS = {
    "A00001": "22;31,S00001,55,M,{n},2020-03-04",
    "A00002": "60+310;147,S00002,32,F,{n},2019-09-03",
    "A00003": "1;1,S00001,63,M,{n},2020-07-16",
}


def write_tree(root: Path, signals: list[np.ndarray], records: dict[str, str] = RECORDS) -> Path:
    (root / "records").mkdir(parents=True)
    lines = ["ECG_ID,AHA_Code,Patient_ID,Age,Sex,N,Date"]
    for (name, line), signal in zip(records.items(), signals, strict=True):
        with h5py.File(root / "records" / f"{name}.h5", "w") as file:
            file["ecg"] = signal.astype(np.float16)
        lines.append(f"{name},{line.format(n=signal.shape[1])}")
    (root / "metadata.csv").write_text("\n".join(lines) + "\n")
    (root / "code.csv").write_text(CODES)
    return root


def ecgs() -> list[np.ndarray]:
    return [np.tile(draw_ecg(seed), (1, 3))[:, :num] for seed, num in enumerate((5000, 5000, 7000))]


def test_real_signals_in_the_published_tree(tmp_path: Path) -> None:
    sample = real_data("ptb-xl") / "records500" / "00000"
    signals = [wfdb.rdrecord(str(sample / f"0000{i}_hr")).p_signal.T for i in (1, 2, 3)]
    store = prepare(sph.Config(root=write_tree(tmp_path / "in", signals), out=tmp_path / "out", fs=500, workers=1))
    assert len(store) == 3
    for row, signal in enumerate(signals):  # float16 has 11 bits: of 1 mV half a microvolt
        np.testing.assert_allclose(store[row] * 1e-3, signal, atol=0.51e-3, rtol=2**-11)


def test_statements_people_and_dates(tmp_path: Path) -> None:
    index = sph.index(sph.Config(root=write_tree(tmp_path, ecgs()), out="unused"))
    assert index.aha.tolist() == [["22", "31"], ["147", "60+310"], ["1"]]
    assert index.statements.tolist() == [
        ["Atrial premature complexes, nonconducted", "Sinus bradycardia"],
        ["T-wave abnormality", "Ventricular premature complex(es)"],
        ["Normal ECG"],
    ]
    assert index.patient.tolist() == ["S00001", "S00002", "S00001"] and index.fold[0] == index.fold[2]
    assert index.age.tolist() == [55, 32, 63] and index.sex.tolist() == [0, 1, 0]
    assert index.date.tolist() == ["2020-03-04", "2019-09-03", "2020-07-16"] and PROBLEM not in index


def test_longer_records_give_several_segments(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "in", ecgs())
    store = prepare(sph.Config(root=root, out=tmp_path / "out", fs=500, seconds=7, backend="sequential"))
    assert store.records.record.tolist() == ["A00001", "A00002", "A00003", "A00003"]


def test_bad_records_are_counted(tmp_path: Path) -> None:
    records = {**RECORDS, "A00002": "60+999,S00002,32,F,{n},2019-09-03", "A00003": "1,S00001,63,M,9000,2020-07-16"}
    root = write_tree(tmp_path / "in", ecgs(), records)
    store = prepare(sph.Config(root=root, out=tmp_path / "out", fs=500, backend="sequential"))
    assert store.records.record.tolist() == ["A00001"]
    left = {one["record"]: one["detail"] for one in audit_of(store)["left_out_records"]}
    assert "code 999 is not in code.csv" in left["A00002"] and "holds (12, 7000); expected (12, 9000)" in left["A00003"]


@pytest.mark.parametrize(
    ("how", "reason", "said"),
    [
        ("gone", "missing file", "does not exist"),
        ("zip", "unreadable signal", "not a readable HDF5"),
        ("ECG", "unreadable signal", "no data set ecg; it holds ECG"),
    ],
)
def test_a_broken_file_is_said(tmp_path: Path, how: str, reason: str, said: str) -> None:
    config = sph.Config(root=write_tree(tmp_path, ecgs()), out="unused")
    rows = sph.index(config)
    path = tmp_path / "records" / "A00001.h5"
    path.unlink()
    if how == "zip":
        path.write_bytes(b"zip")
    elif how == "ECG":
        with h5py.File(path, "w") as file:
            file["ECG"] = np.zeros((12, 5000))
    first, *rest = sph.read(config, rows)
    assert isinstance(first, RecordError) and first.reason == reason and said in first.detail
    assert not any(isinstance(result, RecordError) for result in rest)


def test_what_is_no_sph_is_said(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("ECG_ID\nA00001\n")
    with pytest.raises(UserError, match=r"holds no code\.csv"):
        sph.index(sph.Config(root=tmp_path, out="unused"))
    (tmp_path / "code.csv").write_text(CODES)
    with pytest.raises(UserError, match=r"metadata\.csv has no column AHA_Code"):
        sph.index(sph.Config(root=tmp_path, out="unused"))
