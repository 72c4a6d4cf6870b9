"""CODE-test 1.0.3 (Ribeiro et al. 2020): 827 exams of as many patients at 400 Hz in HDF5, six diagnoses by several readers.

Nothing has an identifier: line i of each table is tracing i. The leads are stored as DI DII DIII AVL AVF AVR V1 … V6. The gold
standard is what two cardiologists agree on, or a third decides. The set is published for testing: all of it is fold 10, so
that nothing trains on it. As in CODE-15 %, an exam without any of the six is not thereby normal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import Field

from shared.data.sources.base import (
    PROBLEM,
    PrepareConfig,
    RecordError,
    Recording,
    ages,
    read_table,
    require_root,
)
from shared.data.sources.hdf5 import open_hdf5, read_tracings
from shared.errors import UserError

DIAGNOSES = ("1dAVb", "RBBB", "LBBB", "SB", "AF", "ST")
LABELS = ("diagnoses",)
TRACINGS = "ecg_tracings.hdf5"
STORED_LEADS = ("I", "II", "III", "aVL", "aVF", "aVR", "V1", "V2", "V3", "V4", "V5", "V6")
FS_HZ = 400.0
TEST_FOLD = 10
TRUTH = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}


class Config(PrepareConfig):
    """Options of the source `code_test`."""

    source: Literal["code_test"] = "code_test"
    annotators: tuple[
        Literal[
            "cardiologist1", "cardiologist2", "cardiology_residents", "emergency_residents", "medical_students", "dnn"
        ],
        ...,
    ] = Field((), description="whose readings to keep too, as columns diagnoses_<annotator>; no label columns")
    unit_mv: float = Field(1.0, gt=0, description="millivolt of a stored 1, as in CODE-15 %")

    @property
    def published_folds(self) -> bool:
        """All of it is for testing."""
        return True


def index(config: Config) -> pd.DataFrame:
    """One row per exam, called by its row number; `root` is the unpacked folder or the folder `data` in it.

    Raises:
        UserError: a file is missing, or a table has not as many lines as there are tracings, so that none can be joined.
    """
    root = _data_folder(config)
    with open_hdf5(root / TRACINGS, "tracings") as file:
        shape = tuple(file["tracings"].shape)
    if len(shape) != 3 or shape[2] != len(STORED_LEADS):
        raise UserError(f"{root / TRACINGS}: tracings are {shape}; expected (exams, samples, {len(STORED_LEADS)}).")
    people, problem = _read_lines(root / "attributes.csv", ("age", "sex"), shape[0])
    sex = people.sex.str.upper()
    names = pd.Series([f"{row:03d}" for row in range(shape[0])], dtype=object)
    result = pd.DataFrame(
        {
            "record": names,
            "patient": "exam " + names,
            "age": ages(people.age),
            "sex": sex.map({"M": 0.0, "F": 1.0}),
            "fold": TEST_FOLD,
        }
    )
    for name in ("gold_standard", *config.annotators):
        table, wrong = _read_lines(root / "annotations" / f"{name}.csv", DIAGNOSES, shape[0])
        flags = {label: table[label].str.lower().map(TRUTH) for label in DIAGNOSES}
        result["diagnoses" if name == "gold_standard" else f"diagnoses_{name}"] = [
            [label for label, yes in zip(DIAGNOSES, line, strict=True) if yes is True]
            for line in zip(*flags.values(), strict=True)
        ]
        for label, column in flags.items():
            wrong = wrong.where(column.notna() | (wrong != ""), f"{name}: {label} is " + table[label].map(repr))
        problem = problem.where(problem != "", wrong)
    odd = ~sex.isin(["M", "F", ""]) & (problem == "")
    problem = problem.where(~odd, "sex is " + people.sex.map(repr))
    result["path"], result["row"] = TRACINGS, range(shape[0])
    if problem.any():
        result[PROBLEM] = problem
    return result


def read(config: Config, rows: pd.DataFrame) -> list[Recording | RecordError]:
    """Tracings of these rows in mV, without the zeros around them."""
    return read_tracings(_data_folder(config), rows, FS_HZ, STORED_LEADS, config.unit_mv)


def _data_folder(config: Config) -> Path:
    root = require_root(config.root)
    return require_root(root / "data" if (root / "data" / TRACINGS).is_file() else root, TRACINGS, "attributes.csv")


def _read_lines(path: Path, needed: tuple[str, ...], num_exams: int) -> tuple[pd.DataFrame, pd.Series]:
    """A table without keys, of one line an exam, and what is wrong with each line."""
    table, problems = read_table(path, needed)
    if len(table) != num_exams:
        raise UserError(
            f"{path} has {len(table)} lines for {num_exams} tracings: without identifiers they cannot be joined. "
            "Take all files from one download."
        )
    return table, pd.Series(problems, dtype=object)
