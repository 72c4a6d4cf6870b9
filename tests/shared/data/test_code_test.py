"""CODE-test as published: no identifiers, leads in an order of its own, AF before ST, one annotator's table with a column more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from shared.data.prepare import prepare
from shared.data.sources import code_test
from shared.data.store import ECGStore
from shared.errors import UserError
from shared.leads import LEADS
from tests.golden import real_data
from tests.shared.data.preparing import audit_of
from tests.shared.data.wfdb_records import draw_ecg

PUBLISHED_LEADS = ["I", "II", "III", "aVL", "aVF", "aVR", "V1", "V2", "V3", "V4", "V5", "V6"]
COLUMNS = "1dAVb,RBBB,LBBB,SB,AF,ST"
GOLD = ["0,0,0,0,1,0", "0,1,0,0,0,1", "0,0,0,0,0,0"]


def write_tree(root: Path, signals: list[np.ndarray], gold: list[str] = GOLD) -> Path:
    """`signals [12, T]` in our order, stored in theirs between zeros."""
    data = root / "data"
    (data / "annotations").mkdir(parents=True)
    tracings = np.zeros((len(signals), 4096, 12), np.float32)
    for row, signal in enumerate(signals):
        first = (4096 - signal.shape[1]) // 2
        tracings[row, first : first + signal.shape[1]] = signal[[LEADS.index(name) for name in PUBLISHED_LEADS]].T
    with h5py.File(data / "ecg_tracings.hdf5", "w") as file:
        file["tracings"] = tracings
    (data / "attributes.csv").write_text("age,sex\n34,M\n300,F\n,M\n")
    (data / "annotations" / "gold_standard.csv").write_text("\n".join([COLUMNS, *gold]) + "\n")
    numbered = [f"{i},{line}" for i, line in enumerate(["0,0,0,0,0,1", "0,0,0,0,0,0", "1,0,0,0,0,0"])]
    (data / "annotations" / "dnn.csv").write_text("\n".join([f",{COLUMNS}", *numbered]) + "\n")
    return root


def ecgs() -> list[np.ndarray]:
    return [np.tile(draw_ecg(seed), (1, 2))[:, :4000].astype(np.float32) + 0.001 for seed in range(3)]


def prepared(root: Path, **settings: Any) -> ECGStore:
    settings = {"fs": 400.0, "backend": "sequential", **settings}
    return prepare(code_test.Config(root=root, out=root.parent / "store", **settings))


def test_leads_labels_and_people(tmp_path: Path) -> None:
    signals = ecgs()
    store = prepared(write_tree(tmp_path / "in", signals), annotators=["dnn"])
    for row, signal in enumerate(signals):
        np.testing.assert_allclose(store[row] * 1e-3, signal, atol=0.51e-3)
    assert store.records.diagnoses.map(list).tolist() == [["AF"], ["RBBB", "ST"], []]
    assert store.records.diagnoses_dnn.map(list).tolist() == [["ST"], [], ["1dAVb"]]
    assert store.records.fold.tolist() == [10, 10, 10] and store.records.patient.nunique() == 3
    assert store.records.age.tolist()[:2] == [34, 90] and np.isnan(store.records.age[2])
    assert store.records.sex.tolist() == [0, 1, 0]
    assert store.meta["labels"] == {"diagnoses": ["AF", "RBBB", "ST"]}
    assert not store.records["limb"].any()


def test_real_tracings_in_the_published_tree(tmp_path: Path) -> None:
    with h5py.File(real_data("code15") / "exams_part0.hdf5") as file:
        signals = [np.asarray(file["tracings"][row], np.float32).T for row in range(3)]
    config = code_test.Config(root=write_tree(tmp_path, signals), out="unused")
    results = code_test.read(config, code_test.index(config))
    for result, signal in zip(results, signals, strict=True):
        there = np.flatnonzero((signal != 0).any(axis=0))
        found = result.signal[[list(result.leads).index(name) for name in LEADS]]  # type: ignore[union-attr]
        np.testing.assert_array_equal(found, signal[:, there[0] : there[-1] + 1])


def test_the_folder_of_the_files_itself_will_do(tmp_path: Path) -> None:
    root = write_tree(tmp_path, ecgs()) / "data"
    assert len(code_test.index(code_test.Config(root=root, out="unused"))) == 3


def test_a_line_that_cannot_be_read_leaves_its_exam_out(tmp_path: Path) -> None:
    store = prepared(write_tree(tmp_path / "in", ecgs(), ["0,0,0,0,1,0", "0,1,0,maybe,0,1", "0,0,0,0,0,0"]))
    (left,) = audit_of(store)["left_out_records"]
    assert left["record"] == "001" and "gold_standard: SB is 'maybe'" in left["detail"]


def test_tables_of_another_length_are_refused(tmp_path: Path) -> None:
    root = write_tree(tmp_path, ecgs(), GOLD[:2])
    with pytest.raises(UserError, match=r"gold_standard\.csv has 2 lines for 3 tracings"):
        code_test.index(code_test.Config(root=root, out="unused"))


def test_what_is_no_code_test_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no ecg_tracings\.hdf5"):
        code_test.index(code_test.Config(root=tmp_path, out="unused"))
    root = write_tree(tmp_path, ecgs())
    with h5py.File(root / "data" / "ecg_tracings.hdf5", "w") as file:
        file["tracings"] = np.zeros((3, 4096, 8))
    with pytest.raises(UserError, match=r"tracings are \(3, 4096, 8\)"):
        code_test.index(code_test.Config(root=root, out="unused"))
