"""Splits of a store by patient, and shares of the training patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from shared.data.store import ECGStore
from shared.data.tasks import Task, make_task
from shared.errors import UserError


@dataclass(frozen=True)
class Split:
    """Rows of the embedding arrays that belong to one split."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Labelled:
    """Labelled records of a store, by split.

    Attributes:
        store: the records.
        task: labels of all records of the store.
        indices: `[n]` store rows of the records that take part, in order.
        split: positions within `indices`.
    """

    store: ECGStore
    task: Task
    indices: np.ndarray
    split: Split

    @property
    def labels(self) -> np.ndarray:
        """`[n, C]`, aligned with `indices`."""
        return self.task.labels[self.indices]

    @property
    def patients(self) -> np.ndarray:
        """`[n]` patient names, aligned with `indices`."""
        return self.store.records.patient.to_numpy()[self.indices]


def open_labelled(
    path: Path, task: str, single_label: bool, folds: Mapping[str, Sequence[int]], keep_unlabelled: bool = False
) -> Labelled:
    """Store, task and splits; arguments as `make_task` and `make_split`.

    Raises:
        UserError: no store, no labels, or what `make_split` refuses.
    """
    store = ECGStore(path)
    made = make_task(store, task, single_label, keep_unlabelled=keep_unlabelled)
    return Labelled(store, made, *make_split(store, made, folds))


def make_split(store: ECGStore, task: Task, folds: Mapping[str, Sequence[int]]) -> tuple[np.ndarray, Split]:
    """Store rows of all splits, and each split's positions among them.

    Args:
        store: the records.
        task: its usable records take part.
        folds: of `train`, `val` and `test`.

    Raises:
        UserError: folds that overlap, a patient in two splits, or a split without a usable record.
    """
    named = [fold for group in folds.values() for fold in group]
    twice = sorted({fold for fold in named if named.count(fold) > 1})
    if twice:
        raise UserError(f"fold(s) {twice} stand in more than one of train_folds, val_folds, test_folds.")
    chosen = {name: np.flatnonzero(store.records.fold.isin(list(group)) & task.usable) for name, group in folds.items()}
    for name, members in chosen.items():
        if not len(members):
            raise UserError(f"{name}_folds {list(folds[name])} hold no record with a label of task {task.name!r}.")
    patients = {name: set(store.records.patient.iloc[members]) for name, members in chosen.items()}
    for a, b in (("train", "test"), ("train", "val"), ("val", "test")):
        shared_patients = patients[a] & patients[b]
        if shared_patients:
            raise UserError(
                f"{len(shared_patients)} patients are in {a} and {b} (e.g. {min(shared_patients)}): the folds of "
                f"{store.path} are not by patient."
            )
    indices = np.concatenate(list(chosen.values()))
    ends = np.cumsum([len(members) for members in chosen.values()])
    positions = np.split(np.arange(len(indices)), ends[:-1])
    return indices, Split(*positions)


def draw_patients(
    train: np.ndarray, patients: np.ndarray, labels: np.ndarray, fraction: float, seed: Sequence[int]
) -> np.ndarray:
    """Those of the training positions that belong to a drawn share of the training patients; 1 takes all.

    Patients are stratified by the rarest class among their records' labels, so that rare classes keep their share. Each
    stratum gives its proportional number; what rounding leaves goes to the largest remainders, equal ones by lot.

    Args:
        train: positions.
        patients: `[n]`, indexed by position.
        labels: `[n, C]` bool, indexed by position.
        fraction: of the patients.
        seed: what the draw depends on.
    """
    if fraction >= 1:
        return train
    people, names = pd.factorize(patients[train])
    of_patient = np.zeros((len(names), labels.shape[1]), dtype=bool)
    np.logical_or.at(of_patient, people, labels[train])
    rarest = np.argsort(of_patient.sum(axis=0), kind="stable")
    stratum = np.where(of_patient.any(axis=1), of_patient[:, rarest].argmax(axis=1), labels.shape[1])
    total = max(2, round(fraction * len(names)))
    return train[np.isin(people, stratified(stratum, total, np.random.default_rng(list(seed))))]


def stratified(stratum: np.ndarray, total: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `total` members, each stratum in proportion, int `[total]`, from `stratum [n]` of everybody.

    Raises:
        UserError: more asked for than there are.
    """
    if not 0 < total <= len(stratum):
        raise UserError(
            f"{total} of {len(stratum)} patients asked for; expected a number from 1 to {len(stratum)}. Use more records."
        )
    kinds, counts = np.unique(stratum, return_counts=True)
    exact = counts * (total / len(stratum))
    quota = np.floor(exact + 1e-9).astype(int)
    order = np.lexsort((rng.random(len(kinds)), -np.round(exact - quota, 9)))
    quota[order[: total - quota.sum()]] += 1
    parts = [rng.permutation(np.flatnonzero(stratum == kind))[:n] for kind, n in zip(kinds, quota, strict=True)]
    return np.sort(np.concatenate(parts))
