"""Disturbed copies between the splits, and between pretraining and test, are said and can be left out."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from shared.config import load_config
from shared.data.store import ECGStore
from shared.errors import UserError
from shared.evaluation.config import EvaluateConfig
from shared.evaluation.contamination import check_contamination, check_copies, settle_copies
from shared.evaluation.context import Context
from shared.evaluation.evaluate import open_context


@pytest.fixture
def planted(synthetic_store: Path, tmp_path: Path) -> Path:
    """The store with three test records that are a training record (twice) and a validation record, late and smaller."""
    path = tmp_path / "planted"
    shutil.copytree(synthetic_store, path)
    store = ECGStore(path)
    test, train, val = (store.select(folds) for folds in ([10], [1, 2], [9]))
    signals = np.load(path / "signals-00000.npy", mmap_mode="r+", allow_pickle=False)
    late = round(0.313 * store.fs)
    for copy, original in ((test[0], train[4]), (test[1], train[7]), (test[2], val[1])):
        signals[copy, :, :-late] = np.rint(0.7 * signals[original, :, late:])
        signals[copy, :, -late:] = signals[copy, :, -late - 1 : -late]
    signals.flush()
    return path


def context_of(store: Path, out: Path, *more: str) -> Context:
    given = [f"store={store}", "task=superclass", "train_folds=[1,2]", "resamples=5", *more]
    return open_context(load_config(EvaluateConfig, None, given), out, torch.device("cpu"))


def test_disturbed_copies_between_the_splits_are_reported(planted: Path, tmp_path: Path) -> None:
    context = context_of(planted, tmp_path)
    names = context.store.records.record
    test, train, val = (context.store.select(folds) for folds in ([10], [1, 2], [9]))
    kept, (leak, looked_for) = settle_copies(context)
    assert kept is context
    pairs = ", ".join(f"{names[a]} = {names[b]}" for a, b in zip(test, (train[4], train[7], val[1]), strict=False))
    assert leak.startswith("LEAK: 3 test records are nearly identical to a training or validation record")
    assert f"(e.g. {pairs})" in leak and leak.endswith("leave_out_copies=true drops them")
    assert looked_for.startswith("signals of test and") and "not seen are copies with less than" in looked_for


def test_copies_are_left_out_of_training_and_never_of_test(planted: Path, tmp_path: Path) -> None:
    before = context_of(planted, tmp_path, "leave_out_copies=true")
    train, val = (before.store.select(folds) for folds in ([1, 2], [9]))
    after, notes = settle_copies(before)
    assert notes[0] == "2 training and 1 validation records were left out: they are copies of test records"
    np.testing.assert_array_equal(after.split.test, before.split.test)
    assert set(before.indices[before.split.train]) - set(before.indices[after.split.train]) == {train[4], train[7]}
    assert set(before.indices[before.split.val]) - set(before.indices[after.split.val]) == {val[1]}
    assert not any(line.startswith("LEAK") for line in check_copies(after.store, after.indices, after.split))


def test_nothing_left_to_train_on_is_said(planted: Path, tmp_path: Path) -> None:
    context = context_of(planted, tmp_path, "leave_out_copies=true")
    (place,) = np.flatnonzero(context.indices == context.store.select([1, 2])[4])
    only = replace(context, split=replace(context.split, train=np.array([place])))
    with pytest.raises(UserError, match="leaves no record in train: all are copies of test records"):
        settle_copies(only)


def test_what_was_not_looked_for_is_said(planted: Path, tmp_path: Path) -> None:
    context = context_of(planted, tmp_path, "near_copies=false")
    assert settle_copies(context)[1] == [
        "near_copies=false: copies that are shifted, cut, resampled, rescaled or filtered were not looked for"
    ]


def renamed(store: Path, out: Path, **columns: object) -> Path:
    """The same signals under other names."""
    shutil.copytree(store, out)
    records = pd.read_parquet(out / "records.parquet")
    records.assign(**columns).to_parquet(out / "records.parquet")
    return out


def test_pretraining_on_disturbed_copies_under_other_names_is_reported(planted: Path, tmp_path: Path) -> None:
    store = ECGStore(planted)
    number = [f"x{i}" for i in range(len(store))]
    other = renamed(planted, tmp_path / "other", record=number, patient=number, digest=number, source="elsewhere")
    test = store.select([10])
    found = check_contamination({"store": str(other), "folds": [1, 2]}, store, test)
    (leak,) = (line for line in found if line.startswith("LEAK"))
    assert leak.startswith("LEAK: 2 test records are nearly identical to a pretraining record")
    clean = check_contamination({"store": str(other), "folds": [3, 4]}, store, test)
    assert clean[1] == "no test patient and no test record was found in pretraining"
    assert clean[2].startswith("signals of test and pretraining records were compared in II, V2, V5, I")
    blind = check_contamination({"store": str(other), "folds": [1, 2]}, store, test, near=False)
    assert not any(line.startswith("LEAK") for line in blind) and blind[-1].startswith("near_copies=false")
    several = {"store": [{"path": str(other), "weight": 1.0}], "folds": [1, 2]}
    for near, alone in ((True, found), (False, blind)):
        assert check_contamination(several, store, test, near) == [f"{other}: {line}" for line in alone]


@pytest.mark.parametrize(
    ("source", "root", "sentence"),
    [
        ("ptbxl", "a/x", "LEAK: 3 test records were in pretraining by their name (e.g. "),
        ("wfdb_folder", "b/x", "LEAK: 3 test records were in pretraining by their name (e.g. "),
        ("wfdb_folder", "a/x/part", "LEAK: 3 test records were in pretraining by their name (e.g. "),
        ("wfdb_folder", "b/y", "3 test records are called as a pretraining record of another folder (e.g. "),
    ],
)
def test_records_of_one_name_are_reported(
    synthetic_store: Path, tmp_path: Path, source: str, root: str, sentence: str
) -> None:
    """A published database's names are its own; a folder's may be those of another database."""
    names = ECGStore(synthetic_store).records.record
    number = [f"x{i}" for i in range(len(names))]
    made = [
        renamed(synthetic_store, tmp_path / "a", source=source, record=[f"g1/{n}" for n in names]),
        renamed(synthetic_store, tmp_path / "b", source=source, digest=number, patient=number, record=names + ".hea"),
    ]
    for path, place in zip(made, ("a/x", root), strict=True):
        meta = json.loads((path / "store.json").read_text())
        meta["made_by"]["root"] = place
        (path / "store.json").write_text(json.dumps(meta))
    found = check_contamination({"store": str(made[1]), "folds": None}, ECGStore(made[0]), np.arange(3), near=False)
    assert sum(line.startswith(sentence) for line in found) == 1
