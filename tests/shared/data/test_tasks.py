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
        "record,A\nr1,yes\n": r"A \('yes'\); expected a column `labels`",
        "record,A\nr1,\n": r"A \(''\); expected a column `labels`",
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


def test_all_zeros_is_a_negative_and_not_listed_is_unlabelled(store: ECGStore, tmp_path: Path) -> None:
    task = make_task(store, write(tmp_path / "mine.csv", "record,AF\nr0,1\nr1,0\nr2,0\nr5,1\n"))
    assert task.classes == ("AF",)
    assert task.labels[:, 0].tolist() == [True, False, False, False, False, True]
    assert task.usable.tolist() == [True, True, True, False, False, True]
    assert task.notes == (
        "mine: of 6 records of the store, 2 have a label, 2 are listed with none (negatives), "
        "and 2 are not labelled and take no part",
    )
    single = make_task(store, str(tmp_path / "mine.csv"), single_label=True)
    assert single.usable.tolist() == [True, False, False, False, False, True]


def test_numbers_as_text(store: ECGStore, tmp_path: Path) -> None:
    task = make_task(store, write(tmp_path / "mine.csv", 'record,segment,AF,MI\nr0,"0"," 1",0.0\nr1,0.0,FALSE,true\n'))
    assert task.labels[:2].tolist() == [[True, False], [False, True]]


def test_records_of_another_column_and_without_their_zeros(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "store", num=3, record=["00001", "00002", "00010"])
    task = make_task(store, write(tmp_path / "mine.csv", "ecg_id,record,labels\n1,x,A\n10.0,y,B\n") + ":ecg_id")
    assert (task.name, task.classes) == ("mine", ("A", "B"))
    assert task.labels.astype(int).tolist() == [[1, 0], [0, 0], [0, 1]]
    with pytest.raises(UserError, match=r"no column 'id'; its columns: ecg_id, record, labels.*task=mine.csv:COLUMN"):
        make_task(store, str(tmp_path / "mine.csv") + ":id")


def test_a_line_may_stand_twice_where_it_says_the_same(store: ECGStore, tmp_path: Path) -> None:
    task = make_task(store, write(tmp_path / "mine.csv", "record,labels\nr1,A;B\nr1,B; A\n"))
    assert task.usable.tolist() == [False, True, False, False, False, False]
    with pytest.raises(UserError, match="names r1 more than once, with other labels"):
        make_task(store, write(tmp_path / "mine.csv", "record,A\nr1,0\nr1,1\n"))


def test_records_without_a_label_may_stay_as_negatives(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "store", num=6, kind=[["A"], [], ["B", "C"], [], ["A"], []])
    dropped, kept = make_task(store, "kind"), make_task(store, "kind", keep_unlabelled=True)
    assert dropped.usable.sum() == 3 and kept.usable.all() and (dropped.labels == kept.labels).all()
    assert kept.notes == ("kind: 3 of 6 records have no label of it and are negatives",) and dropped.notes == ()
    with pytest.raises(UserError, match="does not suit task 'kind': single_label=true wants one label of each"):
        make_task(store, "kind", single_label=True, keep_unlabelled=True)
    with pytest.raises(UserError, match="a CSV names its negatives"):
        make_task(store, write(tmp_path / "mine.csv", "record,labels\nr1,A\n"), keep_unlabelled=True)
