"""LUDB (Kalyakulina et al. 2020): 200 records of 10 s with cardiologists' P, QRS and T marks in every lead.

Its intervals are truth to measure against: each record brings `true_heart_rate` (bpm), `true_pr_ms`, `true_qrs_ms` and
`true_qt_ms`, medians over the annotated beats of one lead.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import wfdb
from pydantic import Field

from shared.data.sources.base import (
    PROBLEM,
    PrepareConfig,
    Recording,
    fold_by_patient,
    read_each,
    read_table,
    read_wfdb,
    require_root,
)
from shared.errors import UserError

LABELS = ("rhythm", "conduction", "hypertrophy", "ischemia")
COLUMNS = {
    "rhythm": "Rhythms",
    "conduction": "Conduction abnormalities",
    "hypertrophy": "Hypertrophies",
    "ischemia": "Ischemia",
}
INTERVALS = ("qrs_ms", "pr_ms", "qt_ms")


class Config(PrepareConfig):
    """Options of the source `ludb`."""

    source: Literal["ludb"] = "ludb"
    lead: str = Field("II", description="whose annotations give the true intervals")


def index(config: Config) -> pd.DataFrame:
    """One row per record of `ludb.csv` whose header is there; every record is its own patient. An ID twice is its second line."""
    root = require_root(config.root, "ludb.csv")
    table, problems = read_table(root / "ludb.csv", ("ID", "Sex", "Age", *COLUMNS.values()))
    age = pd.to_numeric(table.Age.str.lstrip(">"), errors="coerce")
    wrong = {"ID": table.ID.duplicated(), "Age": age.isna() & (table.Age != "")}
    for column, rows in wrong.items():
        problems = [
            p or (f"{column} is {v!r}" * bool(odd)) for p, v, odd in zip(problems, table[column], rows, strict=True)
        ]
    table["age"], table[PROBLEM] = age, problems
    table = table[[(root / "data" / f"{name}.hea").is_file() for name in table.ID]].reset_index(drop=True)
    if table.empty:
        raise UserError(
            f"{root / 'data'} holds none of the records that ludb.csv names. Expected data/1.hea and so on."
        )
    sex = table.Sex.str.upper().str[:1]
    found = pd.DataFrame(
        {
            "record": table.ID,
            "patient": table.ID,
            "age": table.age,
            "sex": sex.map({"M": 0.0, "F": 1.0}),
            "path": "data/" + table.ID,
        }
    )
    for name, column in COLUMNS.items():
        found[name] = [sorted({line.strip() for line in cell.splitlines() if line.strip()}) for cell in table[column]]
    found["fold"] = fold_by_patient(found.patient)
    return found.assign(**{PROBLEM: table[PROBLEM]}) if (table[PROBLEM] != "").any() else found


def read(config: Config, rows: pd.DataFrame) -> list[Any]:
    """Signals of these rows in mV, with the measurements of their annotations."""
    root = require_root(config.root)

    def read_one(row: Any) -> Recording:
        recording, _ = read_wfdb(root / row.path)
        peaks, intervals = read_annotations(root / row.path, config.lead)
        return Recording(recording.signal, recording.fs, recording.leads, measurements(peaks, intervals))

    return read_each(read_one, rows)


def measurements(peaks: np.ndarray, intervals: dict[str, list[float]]) -> dict[str, float]:
    """Columns of one record: the mean rate between the first and last annotated beat, and median intervals; else NaN."""
    rate = 60.0 * (len(peaks) - 1) / (peaks[-1] - peaks[0]) if len(peaks) > 1 else float("nan")
    medians = {f"true_{name}": float(np.median(v)) if v else float("nan") for name, v in intervals.items()}
    return {"true_heart_rate": float(rate), **medians}


def read_annotations(path: Path, lead: str) -> tuple[np.ndarray, dict[str, list[float]]]:
    """QRS peaks (s) and the intervals (ms) of each annotated beat of one lead.

    Args:
        path: of the record, without extension.
        lead: whose annotation file is read.
    """
    marks = wfdb.rdann(str(path), lead.lower())
    fs = marks.fs or wfdb.rdheader(str(path)).fs
    waves = [(symbol, float(sample / fs)) for symbol, sample in zip(marks.symbol, marks.sample, strict=True)]
    return np.array([at for symbol, at in waves if symbol == "N"]), annotated_intervals(waves)


def annotated_intervals(marks: list[tuple[str, float]]) -> dict[str, list[float]]:
    """PR, QRS and QT (ms) of the beats whose waves are bounded: `(`, peak, `)` in a row. Times of the marks in s."""
    waves = [
        (symbol, marks[i - 1][1], marks[i + 1][1])
        for i, (symbol, _) in enumerate(marks)
        if symbol in "pNt" and 0 < i < len(marks) - 1 and marks[i - 1][0] == "(" and marks[i + 1][0] == ")"
    ]
    found: dict[str, list[float]] = {name: [] for name in INTERVALS}
    for i, (symbol, begin, end) in enumerate(waves):
        if symbol != "N":
            continue
        found["qrs_ms"].append(1000 * (end - begin))
        if i and waves[i - 1][0] == "p" and begin - waves[i - 1][1] < 0.5:
            found["pr_ms"].append(1000 * (begin - waves[i - 1][1]))
        if i + 1 < len(waves) and waves[i + 1][0] == "t" and waves[i + 1][2] - begin < 0.8:
            found["qt_ms"].append(1000 * (waves[i + 1][2] - begin))
    return found
