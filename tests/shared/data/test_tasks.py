"""Tasks: label columns by name, and labels from a CSV."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.data.store import ECGStore
from shared.data.tasks import make_task
from shared.errors import UserError
from tests.shared.evaluation.contexts import make_store


@pytest.fixture
def store(tmp_path: Path) -> ECGStore:
    return make_store(tmp_path / "store", num=6)[0]


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_labels_in_one_column(store: ECGStore, tmp_path: Path) -> None:
    task = make_task(store, write(tmp_path / "mine.csv", "record,labels\nr1,AF; LBBB\nr3,\nr4,AF\nelsewhere,PVC\n"))
    assert task.name == "mine" and task.classes == ("AF", "LBBB")
    assert task.labels.astype(int).tolist() == [[0, 0], [1, 1], [0, 0], [0, 0], [1, 0], [0, 0]]
    assert task.usable.tolist() == [False, True, False, False, True, False]


def test_one_column_per_class(store: ECGStore, tmp_path: Path) -> None:
    task = make_task(store, write(tmp_path / "mine.csv", "record,segment,AF,MI\nr0,0,1,0\nr5,0,1,1\nr5,1,0,1\n"))
    assert task.classes == ("AF", "MI")
    assert task.labels[[0, 5]].tolist() == [[True, False], [True, True]]


def test_bad_csv(store: ECGStore, tmp_path: Path) -> None:
    cases = {
        "name,labels\nr1,A\n": "has no column 'record'",
        "record,labels\nr1,A\nr1,B\n": "names r1 more than once",
        "record,A\nr1,yes\n": "A; expected a column `labels`",
        "record\nr1\n": "no class column",
        "record,labels\nq1,A\n": "no line of .* names a record",
    }
    for text, message in cases.items():
        with pytest.raises(UserError, match=message):
            make_task(store, write(tmp_path / "bad.csv", text))
    with pytest.raises(UserError, match="do not exist"):
        make_task(store, str(tmp_path / "no.csv"))
    with pytest.raises(UserError, match="has no labels 'superclass'.*task=labels.csv"):
        make_task(store, "ptbxl_superclass")
