"""Any collection of files that a table lists, a line a record: NumPy, HDF5, EDF, GE MUSE XML, DICOM, WFDB.

The table is CSV or parquet and names a file in each line, below `root`. What a file does not say of itself (rate, unit, names of
its channels) comes from a column or from an option for all. Channels keep the names that the file or `file_leads` gives them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import Field, field_validator

from shared.config import RepoPath
from shared.data.sources.base import (
    PROBLEM,
    PrepareConfig,
    RecordError,
    Recording,
    ages,
    fold_by_patient,
    read_each,
    read_table,
    require_root,
)
from shared.data.sources.formats import read_channels
from shared.data.sources.formats.channels import ARBITRARY, to_recording
from shared.errors import UserError, did_you_mean

LABELS = ("labels",)
SEX = {"m": 0.0, "male": 0.0, "0": 0.0, "0.0": 0.0, "f": 1.0, "female": 1.0, "1": 1.0, "1.0": 1.0}
TRUE = ("1", "1.0", "true")
FALSE = ("0", "0.0", "false", "")


class Config(PrepareConfig):
    """Options of the source `table`."""

    source: Literal["table"] = "table"
    table: RepoPath | None = Field(None, description="CSV or parquet with one line a record")
    path_column: str = Field("path", description="column with the file, below `root`")
    record_column: str | None = Field(None, description="column with the record's name; else the file is its name")
    patient_column: str | None = Field(None, description="column with the patient; else each record is of another")
    age_column: str | None = Field(None, description="column with the age in years")
    sex_column: str | None = Field(None, description="column with M, male or 0; F, female or 1")
    fold_column: str | None = Field(None, description="column with the fold 1-10; else drawn from the patient's name")
    label_column: str | None = Field(None, description="column with the label(s)")
    label_separator: str = Field(";", min_length=1, description="between several labels in one cell")
    flag_columns: tuple[str, ...] = Field((), description="columns of 0 and 1, each the name of a label")
    keep_columns: tuple[str, ...] = Field((), description="further columns to keep, as text")
    file_fs: float | None = Field(None, gt=0, description="Hz, of files that do not say it")
    fs_column: str | None = Field(None, description="column with the rate in Hz, in place of file_fs")
    file_leads: tuple[str, ...] | None = Field(
        None, min_length=1, description="names of the channels in their order; in place of the file's own"
    )
    unit: str | None = Field(
        None, description=f"mV, uV or V, of files that do not say it; {ARBITRARY} takes all values as they stand"
    )
    unit_column: str | None = Field(None, description="column with the unit, in place of `unit`")
    dataset: str | None = Field(None, description="name of the array in HDF5 or .npz, where there are several")
    dataset_column: str | None = Field(None, description="column with it, in place of `dataset`")

    @field_validator("file_leads", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [name.strip() for name in value.split(",")] if isinstance(value, str) else value

    @property
    def store_unit(self) -> str:
        """Unit of the store's signals."""
        return ARBITRARY if self.unit == ARBITRARY else "mV"

    @property
    def published_folds(self) -> bool:
        """Those of a column of the table."""
        return self.fold_column is not None


def index(config: Config) -> pd.DataFrame:
    """One row per line of the table.

    Raises:
        UserError: no table, or it has no such column.
    """
    require_root(config.root)
    table, problems = _read(config)
    paths = table[config.path_column]
    records = paths if config.record_column is None else table[config.record_column]
    patients = records if config.patient_column is None else table[config.patient_column].str.removesuffix(".0")
    patients = patients.where(patients != "", records)
    empty = pd.Series("", index=table.index, dtype=str)
    cells = {
        name: table[column] if column is not None else empty
        for name, column in (("age", config.age_column), ("sex", config.sex_column), ("fold", config.fold_column))
    }
    fold = pd.to_numeric(cells["fold"], errors="coerce")
    result = pd.DataFrame(
        {
            "record": records.where(records != "", [f"line {i + 1}" for i in range(len(table))]),
            "patient": patients,
            "age": ages(cells["age"]),
            "sex": cells["sex"].str.lower().map(SEX),
            "fold": fold.where(fold.isin(range(1, 11)), fold_by_patient(patients)).astype(int),
            "labels": _labels(config, table),
            "path": paths,
        }
    )
    for name, column in (
        ("file_fs", config.fs_column),
        ("file_unit", config.unit_column),
        ("file_dataset", config.dataset_column),
    ):
        if column is not None:
            result[name] = table[column]
    for name in config.keep_columns:
        result[name if name not in result else f"table_{name}"] = table[name]
    wrong = {
        "no file is named": paths == "",
        "the record stands twice in the table": records.duplicated() & (records != ""),
        "age is no number": ages(cells["age"]).isna() & (cells["age"] != ""),
        "sex is neither male nor female": result.sex.isna() & (cells["sex"] != ""),
        "fold is not 1 to 10": ~fold.isin(range(1, 11)) & (cells["fold"] != ""),
        **{
            f"{name} is neither 0 nor 1": ~table[name].str.lower().isin((*TRUE, *FALSE)) for name in config.flag_columns
        },
    }
    problem = pd.Series(problems, index=table.index, dtype=object)
    for text, rows in wrong.items():
        problem[rows & (problem == "")] = text
    if problem.any():
        result[PROBLEM] = problem
    return result


def read(config: Config, rows: pd.DataFrame) -> list[Recording | RecordError]:
    """Signals of these rows, in mV, or as they stand where the unit is arbitrary."""
    root = require_root(config.root)

    def read_one(row: Any) -> Recording:
        path = root / row.path
        channels = read_channels(path, getattr(row, "file_dataset", "") or config.dataset)
        fs = _rate(row.file_fs) if getattr(row, "file_fs", "") else config.file_fs
        unit = config.unit if config.unit == ARBITRARY else getattr(row, "file_unit", "") or config.unit
        return to_recording(channels, path, config.leads, fs, config.file_leads, unit)

    return read_each(read_one, rows)


def _rate(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise RecordError("unknown rate", f"the table says fs is {cell!r}; expected Hz") from None


def _read(config: Config) -> tuple[pd.DataFrame, list[str]]:
    """The table as text, and what is wrong with each line."""
    if config.table is None or not config.table.is_file():
        raise UserError(f"`table` {config.table or 'is not set'}: give a CSV or parquet file with one line a record.")
    named = [value for name, value in config if name.endswith("_column") and value is not None]
    if config.table.suffix == ".parquet":
        table, problems = _read_parquet(config.table)
    else:
        table, problems = read_table(config.table, ())
    for name in (*named, *config.flag_columns, *config.keep_columns):
        if name not in table:
            raise UserError(
                f"{config.table} has no column {name!r}{did_you_mean(name, table.columns)} "
                f"Its columns: {', '.join(map(str, table.columns))}."
            )
    if table.empty:
        raise UserError(f"{config.table} has no line. Give a table with one line a record.")
    return table, problems


def _read_parquet(path: Path) -> tuple[pd.DataFrame, list[str]]:
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a readable parquet file: {error}") from None
    table = table.reset_index(drop=True).map(lambda value: "" if _is_missing(value) else str(value).strip())
    return table, [""] * len(table)


def _is_missing(value: Any) -> bool:
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


def _labels(config: Config, table: pd.DataFrame) -> list[list[str]]:
    found: list[set[str]] = [set() for _ in range(len(table))]
    if config.label_column is not None:
        for labels, cell in zip(found, table[config.label_column], strict=True):
            labels |= {label.strip() for label in cell.split(config.label_separator) if label.strip()}
    for name in config.flag_columns:
        for labels, cell in zip(found, table[name].str.lower(), strict=True):
            labels |= {name} if cell in TRUE else set()
    return [sorted(labels) for labels in found]
