"""What is predicted: a label column of the store as multi-hot targets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from shared.config import repo_path
from shared.data.store import ECGStore
from shared.errors import UserError, did_you_mean

TASKS: dict[str, str] = {
    "ptbxl_superclass": "superclass",
    "ptbxl_subclass": "subclass",
    "ptbxl_diagnostic": "diagnostic",
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
        usable: `[n]` bool; False where a record takes no part (not labelled, or several labels where one is wanted).
        notes: what a reader of scores must know of the labels.
    """

    name: str
    classes: tuple[str, ...]
    labels: np.ndarray
    usable: np.ndarray
    notes: tuple[str, ...] = ()


def make_task(
    store: ECGStore,
    name: str,
    single_label: bool = False,
    classes: Sequence[str] | None = None,
    keep_unlabelled: bool = False,
) -> Task:
    """Read a task from a store.

    Args:
        store: with the label column.
        name: a key of `TASKS`, a label column, or the path of a CSV (see `read_labels`), `labels.csv:id` where its column
            of records is called `id`.
        single_label: use only records with exactly one label.
        classes: only these; None takes every class found.
        keep_unlabelled: records without a label of the task take part, as negatives of every class.

    Raises:
        UserError: the store has no such labels, or no record with one; `keep_unlabelled` beside one label per record, or of
            a CSV, which lists its negatives itself.
    """
    of_records: Sequence[Sequence[str] | None]
    negatives, notes = np.zeros(len(store), dtype=bool), []
    csv = re.fullmatch(r"(.+\.csv)(?::(.+))?", name)
    if keep_unlabelled and (single_label or csv is not None):
        why = (
            "single_label=true wants one label of each"
            if single_label
            else "a CSV names its negatives: 0 in every class"
        )
        raise UserError(f"keep_unlabelled=true does not suit task {name!r}: {why}. Leave it out.")
    if csv is not None:
        path, column = repo_path(csv[1]), csv[2] or "record"
        of_records, negatives = read_labels(path, store, column)
        known = sorted({label for names in of_records for label in names})
        name = path.stem
        notes = [_count(name, of_records, negatives)]
    else:
        column = find_column(store, name)
        known, of_records = store.meta["labels"][column], store.records[column].tolist()
    chosen = tuple(classes or known)
    unknown = [c for c in chosen if c not in known]
    if unknown:
        hint = did_you_mean(unknown[0], known)
        raise UserError(f"task {name!r} has no class {', '.join(unknown)}{hint} Its classes: {', '.join(known)}.")
    position = {label: i for i, label in enumerate(chosen)}
    labels = np.zeros((len(store), len(chosen)), dtype=bool)
    for row, names in enumerate(of_records):
        for label in names:
            if label in position:
                labels[row, position[label]] = True
    count = labels.sum(axis=1)
    usable = count == 1 if single_label else (count > 0) | negatives | keep_unlabelled
    if keep_unlabelled:
        notes.append(f"{name}: {int((count == 0).sum())} of {len(store)} records have no label of it and are negatives")
    if not usable.any():
        raise UserError(
            f"no record of {store.path} has {'exactly one label' if single_label else 'a label'} of task {name!r}."
        )
    return Task(name, chosen, labels, usable, tuple(notes))


def find_column(store: ECGStore, name: str) -> str:
    """The label column of a task.

    Raises:
        UserError: the store has none; names the nearest.
    """
    column, columns = TASKS.get(name, name), store.meta.get("labels", {})
    if column not in columns:
        tasks = [*columns, *(task for task, its in TASKS.items() if its in columns)]
        hint = did_you_mean(name, tasks) if name not in TASKS else "."
        raise UserError(
            f"the store {store.path} has no labels {column!r} (task {name!r}){hint} "
            f"Its label columns: {', '.join(columns) or 'none'}. Labels of your own go into a CSV: task=labels.csv."
        )
    return column


def read_labels(path: Path, store: ECGStore, column: str = "record") -> tuple[list[list[str]], np.ndarray]:
    """Labels of every record of a store from a CSV.

    Args:
        path: with a column of record names as in the store (and `segment`, where a record has several), and either a column
            `labels` with names joined by `;`, or one column of 0 and 1 per class. Names that are numbers are the store's
            whatever their leading zeros. A line may stand twice, saying the same.
        store: whose records are labelled.
        column: with the record names.

    Returns:
        `(labels of each record, negatives [n] bool)`: a negative is listed with 0 in every class. A record that the CSV does
        not name, or whose cell `labels` is empty, is not labelled: it is no negative.

    Raises:
        UserError: no such file, no column of records, lines that disagree, other values than 0 and 1, or no line
            that names a record of the store.
    """
    if not path.is_file():
        raise UserError(f"the task's labels {path} do not exist.")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False).apply(lambda cells: cells.str.strip())
    except ValueError as error:
        raise UserError(f"{path} is not a readable CSV: {error}") from None
    if column not in table:
        raise UserError(
            f"{path} has no column {column!r}; its columns: {', '.join(map(str, table.columns))}. "
            f"Name the one that holds the records: task={path.name}:COLUMN."
        )
    keys = [column, "segment"] if "segment" in table else [column]
    of_line = _labels_of_lines(path, table, keys)
    lines: dict[tuple[str, ...], list[str]] = {}
    names = _as_in_store(table[column], store.records.record)
    segments = table.segment.str.replace(r"\.0*$", "", regex=True) if "segment" in table else [""] * len(table)
    for key, labels in zip(zip(names, segments, strict=True), of_line, strict=True):
        if lines.setdefault(key, labels) != labels:
            raise UserError(f"{path} names {' '.join(key).strip()} more than once, with other labels.")
    records = store.records
    in_store = records.segment.astype(str) if "segment" in table else [""] * len(store)
    found = [lines.get(key) for key in zip(records.record.astype(str), in_store, strict=True)]
    if all(labels is None for labels in found):
        raise UserError(
            f"no line of {path} names a record of {store.path}: the CSV has {', '.join(table[column][:1]) or 'no line'!r}, "
            f"the store {records.record.iloc[0]!r}. The column of records is {column!r}; another: task={path.name}:COLUMN."
        )
    negatives = [labels == [] and "labels" not in table for labels in found]
    return [labels or [] for labels in found], np.array(negatives, dtype=bool)


def _labels_of_lines(path: Path, table: pd.DataFrame, keys: Sequence[str]) -> list[list[str]]:
    """Sorted labels of each line of the CSV."""
    if "labels" in table:
        return [sorted({part.strip() for part in cell.split(";")} - {""}) for cell in table.labels]
    classes = [column for column in table.columns if column not in keys]
    numbers = {
        c: pd.to_numeric(table[c].str.lower().replace({"true": "1", "false": "0"}), errors="coerce") for c in classes
    }
    wrong = [
        f"{c} ({table[c][~numbers[c].isin([0, 1])].iloc[0]!r})" for c in classes if not numbers[c].isin([0, 1]).all()
    ]
    if wrong or not classes:
        raise UserError(
            f"{path}: {', '.join(wrong) or 'no class column'}; expected a column `labels` (names joined by ;) or one "
            "column of 0 and 1 per class."
        )
    marks = pd.DataFrame(numbers) == 1
    return [sorted(str(c) for c, yes in zip(classes, line, strict=True) if yes) for line in marks.to_numpy()]


def _as_in_store(names: pd.Series, records: pd.Series) -> list[str]:
    """Names of a CSV as the store spells them: `1` and `1.0`, as spreadsheets write it, are its `00001`."""
    by_number = {int(record): str(record) for record in records.unique() if str(record).isdecimal()}
    if names.isin(records).any() or len(by_number) < records.nunique():
        return names.tolist()
    whole = names.str.replace(r"\.0*$", "", regex=True)
    return [by_number.get(int(name), name) if name.isdecimal() else name for name in whole]


def _count(name: str, labels: Sequence[Sequence[str]], negatives: np.ndarray) -> str:
    """Who is labelled how, in one sentence."""
    positive = sum(map(bool, labels))
    return (
        f"{name}: of {len(labels)} records of the store, {positive} have a label, {int(negatives.sum())} are listed with none "
        f"(negatives), and {len(labels) - positive - int(negatives.sum())} are not labelled and take no part"
    )
