"""What is predicted: a label column of the store as multi-hot targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from shared.config import repo_path
from shared.data.store import ECGStore
from shared.errors import UserError

TASKS: dict[str, str] = {
    "ptbxl_superclass": "superclass",
    "ptbxl_subclass": "subclass",
    "ptbxl_all": "statements",
    "ptbxl_form": "form",
    "ptbxl_rhythm": "rhythm",
    "challenge_snomed": "dx",
}
"""Task names to label columns; any label column of a store is a task under its own name too, and so is a CSV of labels."""


@dataclass(frozen=True)
class Task:
    """Targets of every record of a store.

    Attributes:
        name: as asked.
        classes: `C` names, sorted.
        labels: `[n, C]` bool.
        usable: `[n]` bool; False where a record takes no part (no label, or several where one is wanted).
    """

    name: str
    classes: tuple[str, ...]
    labels: np.ndarray
    usable: np.ndarray


def make_task(store: ECGStore, name: str, single_label: bool = False, classes: Sequence[str] | None = None) -> Task:
    """Read a task from a store.

    Args:
        store: with the label column.
        name: a key of `TASKS`, a label column, or the path of a CSV (see `read_labels`).
        single_label: use only records with exactly one label.
        classes: only these; None takes every class found.

    Raises:
        UserError: the store has no such labels, or no record with one.
    """
    of_records: Sequence[Sequence[str]]
    if name.endswith(".csv"):
        of_records = read_labels(repo_path(name), store)
        known = sorted({label for names in of_records for label in names})
        name = Path(name).stem
    else:
        column = TASKS.get(name, name)
        if column not in store.meta["labels"]:
            there = ", ".join(store.meta["labels"]) or "none"
            raise UserError(
                f"the store {store.path} has no labels {column!r} (task {name!r}); its label columns: {there}. "
                "Labels of your own go into a CSV: task=labels.csv."
            )
        known, of_records = store.meta["labels"][column], store.records[column].tolist()
    chosen = tuple(classes or known)
    unknown = [c for c in chosen if c not in known]
    if unknown:
        raise UserError(f"task {name!r} has no class {', '.join(unknown)}; its classes: {', '.join(known)}.")
    position = {label: i for i, label in enumerate(chosen)}
    labels = np.zeros((len(store), len(chosen)), dtype=bool)
    for row, names in enumerate(of_records):
        for label in names:
            if label in position:
                labels[row, position[label]] = True
    count = labels.sum(axis=1)
    usable = count == 1 if single_label else count > 0
    if not usable.any():
        raise UserError(
            f"no record of {store.path} has {'exactly one label' if single_label else 'a label'} of task {name!r}."
        )
    return Task(name, chosen, labels, usable)


def read_labels(path: Path, store: ECGStore) -> list[list[str]]:
    """Labels of every record of a store from a CSV.

    Args:
        path: with a column `record` as in the store (and `segment`, where a record has several), and either a column
            `labels` with names joined by `;`, or one column of 0 and 1 per class.
        store: whose records are labelled; those the CSV does not name have no label.

    Raises:
        UserError: no such file, no `record` column, a line that is there twice, other values than 0 and 1, or no line
            that names a record of the store.
    """
    if not path.is_file():
        raise UserError(f"the task's labels {path} do not exist.")
    try:
        table = pd.read_csv(path, dtype={"record": str, "labels": str})
    except ValueError as error:
        raise UserError(f"{path} is not a readable CSV: {error}") from None
    if "record" not in table:
        raise UserError(f"{path} has no column 'record'; its columns: {', '.join(map(str, table.columns))}.")
    keys = ["record", "segment"] if "segment" in table else ["record"]
    twice = table[table.duplicated(keys)]
    if len(twice):
        raise UserError(f"{path} names {' '.join(map(str, twice.iloc[0][keys]))} more than once.")
    if "labels" in table:
        names = [[part.strip() for part in cell.split(";") if part.strip()] for cell in table.labels.fillna("")]
    else:
        classes = [column for column in table.columns if column not in keys]
        wrong = [column for column in classes if not table[column].isin([0, 1]).all()]
        if wrong or not classes:
            raise UserError(
                f"{path}: {', '.join(map(str, wrong)) or 'no class column'}; expected a column `labels` (names joined by ;) or one "
                "column of 0 and 1 per class."
            )
        names = [[str(c) for c in classes if line[c]] for line in table[classes].to_dict("records")]
    labels = {tuple(key): sorted(set(found)) for key, found in zip(table[keys].to_numpy(), names, strict=True)}
    found = [labels.get(tuple(key)) for key in store.records[keys].to_numpy()]
    if all(labels_of is None for labels_of in found):
        raise UserError(
            f"no line of {path} names a record of {store.path}: the CSV has {table.record.iloc[0]!r}, the store "
            f"{store.records.record.iloc[0]!r}."
        )
    return [labels_of or [] for labels_of in found]
