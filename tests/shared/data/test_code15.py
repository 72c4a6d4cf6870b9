"""CODE-15 % as published: parts whose exams are in another order than the table's, zeros around each, an exam 0 at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from shared.data.prepare import prepare
from shared.data.sources import code15
from shared.data.store import ECGStore, StoreError
from shared.errors import UserError
from tests.golden import real_data
from tests.shared.data.preparing import audit_of
from tests.shared.data.wfdb_records import draw_ecg

COLUMNS = "exam_id,age,is_male,nn_predicted_age,1dAVb,RBBB,LBBB,SB,ST,AF,patient_id,death,timey,normal_ecg,trace_file"
LINES = {
    12: "12,300,True,50.1,False,True,False,False,False,True,7.0,False,2.5,False,exams_part0.hdf5",
    11: "11,45,False,50.1,False,False,False,False,False,False,7.0,,,True,exams_part0.hdf5",
    10: "10,,True,50.1,,,,,,,,,,,exams_part1.hdf5",
    99: "99,45,False,50.1,False,False,False,False,False,False,8.0,,,True,exams_part9.hdf5",
}


def ecg(number: int, samples: int) -> np.ndarray:
    """A record of its own, `[12, samples]`; its first and last sample are no zeros."""
    return (np.tile(draw_ecg(), (1, 2))[:, :samples] + 0.01 * number).astype(np.float32)


def write_parts(root: Path, parts: dict[str, dict[int, np.ndarray]], lines: dict[int, str] = LINES) -> Path:
    root.mkdir(exist_ok=True)
    (root / "exams.csv").write_text("\n".join([COLUMNS, *lines.values()]) + "\n")
    for name, exams in parts.items():
        tracings = np.zeros((len(exams) + 1, 4096, 12), np.float32)
        for row, signal in enumerate(exams.values()):
            first = (4096 - signal.shape[1]) // 2
            tracings[row, first : first + signal.shape[1]] = signal.T
        with h5py.File(root / name, "w") as file:
            file["exam_id"], file["tracings"] = np.array([*exams, 0]), tracings
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    first = {11: ecg(11, 4000), 12: ecg(12, 2800)}
    return write_parts(tmp_path / "code15", {"exams_part0.hdf5": first, "exams_part1.hdf5": {10: ecg(10, 4000)}})


def prepared(root: Path, **settings: Any) -> ECGStore:
    settings = {"fs": 400.0, "backend": "sequential", "chunk": 2, **settings}
    return prepare(code15.Config(root=root, out=root.parent / "store", **settings))


def test_exams_come_back_without_the_zeros_around_them(root: Path) -> None:
    store = prepared(root, seconds=7)
    assert store.records.record.tolist() == ["11", "12", "10"]
    for row, number in enumerate((11, 12, 10)):
        np.testing.assert_allclose(store[row] * 1e-3, ecg(number, 4000)[:, :2800], atol=0.51e-3)
    first, second, third = (line for _, line in store.records.iterrows())
    assert (first.patient, second.patient, third.patient) == ("7", "7", "exam 10") and first.fold == second.fold
    assert second.age == 90 and second.sex == 0 and first.sex == 1 and np.isnan(third.age)
    assert list(second.diagnoses) == ["RBBB", "AF"] and list(first.diagnoses) == []
    assert (second.follow_up_years, second.death, first.normal_ecg) == (2.5, 0.0, 1.0)


def test_what_is_too_short_or_empty_is_left_out_by_name(root: Path) -> None:
    with h5py.File(root / "exams_part1.hdf5", "a") as file:
        file["tracings"][0] = 0
    store = prepared(root)
    assert store.records.record.tolist() == ["11"]
    assert audit_of(store)["left_out"] == {"too short": 1, "empty": 1}


def test_half_the_voltage(root: Path) -> None:
    store = prepared(root, unit_mv=0.5)
    np.testing.assert_allclose(store[0] * 1e-3, ecg(11, 4000) / 2, atol=0.51e-3)


def test_a_line_that_cannot_be_read_leaves_its_exam_out(root: Path) -> None:
    lines = {**LINES, 12: LINES[12].replace("True,False,False,False,True", "perhaps,False,False,False,True")}
    store = prepared(write_parts(root, {}, lines), seconds=7)
    assert store.records.record.tolist() == ["11", "10"]
    (left,) = audit_of(store)["left_out_records"]
    assert left["record"] == "12" and "RBBB is 'perhaps'" in left["detail"]


def break_part(root: Path, how: str) -> None:
    part = root / "exams_part1.hdf5"
    if how == "no HDF5":
        part.write_bytes(b"zip")
    elif how == "no part":
        part.unlink()
        (root / "exams_part0.hdf5").unlink()
    elif how == "another table":
        write_parts(root, {}, {99: LINES[99]})
    elif how == "a line twice":
        write_parts(root, {}, {**LINES, 100: LINES[11]})
    elif how == "an exam twice":
        write_parts(root, {"exams_part2.hdf5": {11: ecg(11, 4000)}})
    else:
        with h5py.File(part, "a") as file:
            del file["tracings"]
            if how == "eight leads":
                file["tracings"] = np.zeros((2, 4096, 8))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("no HDF5", r"exams_part1\.hdf5 is not a readable HDF5 file"),
        ("no part", "no part matches"),
        ("another table", "it belongs to other parts"),
        ("a line twice", "names exam 11 more than once"),
        ("an exam twice", "exam 11 lies in several places"),
        ("no tracings", "has no data set tracings; it holds exam_id"),
        ("eight leads", r"tracings are \(2, 4096, 8\); expected \(2, samples, 12\)"),
    ],
)
def test_what_is_no_code15_is_said(root: Path, how: str, said: str) -> None:
    break_part(root, how)
    with pytest.raises(UserError, match=said):
        code15.index(code15.Config(root=root, out="unused"))


def test_a_part_that_breaks_later_leaves_its_exams_out(root: Path) -> None:
    config = code15.Config(root=root, out="unused")
    rows = code15.index(config)
    (root / "exams_part1.hdf5").write_bytes(b"gone")
    kinds = [type(result).__name__ for result in code15.read(config, rows)]
    assert kinds == ["Recording", "Recording", "RecordError"]


def test_the_published_sample(tmp_path: Path) -> None:
    root = real_data("code15")
    config = code15.Config(root=root, out="unused")
    rows = code15.index(config)
    assert len(rows) == 20 and rows.patient.nunique() >= 11
    lengths = {result.signal.shape[1] for result in code15.read(config, rows)}  # type: ignore[union-attr]
    assert lengths == {4096, 2934}
    with pytest.raises(StoreError, match="none of 1 records"):
        prepare(code15.Config(root=root, out=tmp_path / "store", seconds=11, limit=1, backend="sequential"))
