"""The published figures in `configs/published.csv`, each with its source, and the task of ours that each stands for."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared.config import repo_path
from shared.data.tasks import TASKS
from shared.errors import UserError, did_you_mean

PUBLISHED = Path("configs/published.csv")
PTBXL = "PTB-XL"
MACRO_AUROC = "macro AUROC"
COLUMNS = (
    "model",
    "pretraining_data",
    "protocol",
    "dataset",
    "task",
    "metric",
    "value",
    "low",
    "high",
    "runs",
    "source",
)
SINGLE = ("superclass", True)
MULTI = ("superclass", False)
PTBXL_TASKS: dict[str, tuple[str, bool]] = {
    "all": ("statements", False),
    "diagnostic": ("diagnostic", False),
    "subclass": ("subclass", False),
    "superclass": MULTI,
    "form": ("form", False),
    "rhythm": ("rhythm", False),
    "superclass, multi-label": MULTI,
    "superclass, multi-label [unverified which task]": MULTI,
    "superclass [unverified]": MULTI,
    "superclass, single-label records": SINGLE,
    "superclass, single-label records (own split)": SINGLE,
    "superclass, multi-class (single-label records)": SINGLE,
}
"""Tasks of PTB-XL as the file calls them → label column, and whether records have exactly one label."""
OTHER_TASKS: dict[str, tuple[str, ...]] = {
    "CODE-15": ("6 diagnoses",),
    "CPSC-Extra": ("all",),
    "CPSC2018": (
        "9 classes",
        "multi-label",
        "multi-class (single-label records)",
        "classes of the set, multi-label",
        "classes of the set, multi-class (single-label records)",
    ),
    "CPSC2018 (ICBEB train set)": ("9 classes",),
    "CPSC2018 (ICBEB)": ("9 classes",),
    "CSN (Chapman-Shaoxing-Ningbo)": ("38 classes",),
    "Chapman": ("all", "rhythm"),
    "EchoNext": ("11 flags",),
    "Georgia": ("all", "classes of the set, multi-label", "classes of the set, multi-class (single-label records)"),
    "MIMIC-IV-ECG": (
        *("Age", "Biometrics", "Cardiac", "Deterioration", "ECG Features", "ICU", "Lab Values", "Non-cardiac", "Sex"),
        *("Vital Signs", "mortality"),
    ),
    "Ningbo": ("all",),
    "PTB": ("all",),
    "SPH": ("primary",),
    "ZZU-pECG": ("AHA",),
}
"""Tasks of data sets that no preset is for; they are kept for reading."""


@dataclass(frozen=True)
class Published:
    """One line of the file.

    Attributes:
        model, pretraining_data, protocol, dataset, task, metric: as its source calls them.
        value: the figure.
        low, high: its interval as published, whose level differs between sources; NaN where there is none.
        source: where it was read.
    """

    model: str
    pretraining_data: str
    protocol: str
    dataset: str
    task: str
    metric: str
    value: float
    low: float
    high: float
    source: str

    def stands_for(self, task: str, single_label: bool) -> bool:
        """Whether it is the macro AUROC of a task of ours on PTB-XL."""
        of_ours = PTBXL_TASKS.get(self.task) if self.dataset == PTBXL else None
        return self.metric == MACRO_AUROC and of_ours == (TASKS.get(task, task), single_label)


def read_published(path: Path = PUBLISHED) -> list[Published]:
    """All lines.

    Raises:
        UserError: no such file, a missing or unknown column, an unknown task or data set, an empty name, or a figure that is
            no number; names the line.
    """
    path = repo_path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist; it holds the published figures and is part of this project.")
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.DictReader(file, strict=True)
        if tuple(lines.fieldnames or ()) != COLUMNS:
            raise UserError(
                f"{path} has the columns {', '.join(lines.fieldnames or ())}; expected {', '.join(COLUMNS)}."
            )
        try:
            return [_read_line(line, f"{path}, line {lines.line_num}") for line in lines]
        except (csv.Error, UnicodeDecodeError) as error:
            raise UserError(f"{path} is not readable after line {lines.line_num}: {error}.") from None


def _read_line(line: dict[str, str], where: str) -> Published:
    if None in line or None in line.values():
        raise UserError(f"{where} has not {len(COLUMNS)} cells; quote a cell that holds a comma.")
    names = {key: line[key].strip() for key in COLUMNS if key not in ("value", "low", "high", "runs")}
    empty = [key for key, text in names.items() if not text]
    if empty:
        raise UserError(
            f"{where}: {', '.join(empty)} is empty; every figure needs its model, protocol, task and source."
        )
    known = [*PTBXL_TASKS] if names["dataset"] == PTBXL else list(OTHER_TASKS.get(names["dataset"], ()))
    if not known:
        sets = [PTBXL, *OTHER_TASKS]
        raise UserError(f"{where}: unknown data set {names['dataset']!r}{did_you_mean(names['dataset'], sets)}")
    if names["task"] not in known:
        hint = did_you_mean(names["task"], known)
        raise UserError(
            f"{where}: {names['dataset']} has no task {names['task']!r}{hint} Its tasks: {'; '.join(known)}."
        )
    numbers = {key: _number(line[key], f"{where}: {key}", needed=key == "value") for key in ("value", "low", "high")}
    return Published(**names, **numbers)  # type: ignore[arg-type]


def _number(text: str, what: str, needed: bool) -> float:
    try:
        value = float(text) if text.strip() or needed else np.nan
    except ValueError:
        value = np.inf
    if np.isinf(value) or (needed and np.isnan(value)):
        raise UserError(f"{what} is {text!r}; expected a number.")
    return value
