"""What is predicted: a label column of the store as multi-hot targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared.data.store import ECGStore
from shared.errors import UserError

TASKS: dict[str, str] = {
    "ptbxl_superclass": "superclass",
    "ptbxl_subclass": "subclass",
    "ptbxl_all": "statements",
    "ptbxl_form": "form",
    "ptbxl_rhythm": "rhythm",
}
"""Task names to label columns; any label column of a store is a task under its own name too."""


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
        name: a key of `TASKS` or a label column.
        single_label: use only records with exactly one label.
        classes: only these; None takes every class found.

    Raises:
        UserError: the store has no such labels, or no record with one.
    """
    column = TASKS.get(name, name)
    if column not in store.meta["labels"]:
        there = ", ".join(store.meta["labels"]) or "none"
        raise UserError(f"the store {store.path} has no labels {column!r} (task {name!r}); its label columns: {there}.")
    known = store.meta["labels"][column]
    chosen = tuple(classes or known)
    unknown = [c for c in chosen if c not in known]
    if unknown:
        raise UserError(f"task {name!r} has no class {', '.join(unknown)}; its classes: {', '.join(known)}.")
    position = {label: i for i, label in enumerate(chosen)}
    labels = np.zeros((len(store), len(chosen)), dtype=bool)
    for row, names in enumerate(store.records[column]):
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
