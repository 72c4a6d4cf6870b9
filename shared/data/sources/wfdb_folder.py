"""Any tree of WFDB records. Labels come from an optional CSV and from the header's `#Dx:` line (PhysioNet challenges)."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import Field

from shared.config import RepoPath
from shared.data.sources.base import (
    PrepareConfig,
    RecordError,
    Recording,
    fold_by_patient,
    read_each,
    read_wfdb,
    require_root,
)
from shared.data.sources.headers import find_records, parse_comments
from shared.errors import UserError

LABELS = ("labels", "dx")


class Config(PrepareConfig):
    """Options of the source `wfdb_folder`."""

    source: Literal["wfdb_folder"] = "wfdb_folder"
    pattern: str = Field("**/*.hea", description="which headers below `root` to take")
    labels_csv: RepoPath | None = Field(None, description="table with one line a record")
    record_column: str = Field("record", description="column with the record's path below root, or its file name")
    label_column: str | None = Field(None, description="column with the label(s)")
    label_separator: str = Field(";", min_length=1, description="between several labels in one cell")
    patient_column: str | None = Field(None, description="column with the patient; else the headers' comments say it")
    patient_keys: tuple[str, ...] = Field(
        ("patient_id", "patientid", "patient", "subject_id", "subjectid", "subject"),
        description="header comments (`# Patient ID: 7`) that hold the patient; a record without is its own patient",
    )
    fold_column: str | None = Field(None, description="column with the fold 1-10; else drawn from the patient's name")

    @property
    def published_folds(self) -> bool:
        """Those of a column of the table."""
        return self.fold_column is not None


def index(config: Config) -> pd.DataFrame:
    """One row per header found, joined with the CSV where there is one."""
    root = require_root(config.root)
    paths = find_records(root, config.pattern)
    if not paths:
        raise UserError(f"no WFDB header matches {config.pattern!r} below {root}. Expected files named *.hea.")
    table = pd.DataFrame({"record": [path.as_posix() for path in paths]})
    table["path"] = table.record
    table["patient"] = table.record
    table["age"], table["sex"] = float("nan"), float("nan")
    table["labels"] = [[] for _ in range(len(table))]
    table["dx"] = [[] for _ in range(len(table))]
    table["fold"] = 0
    if config.labels_csv is not None:
        _join_csv(config, table, config.labels_csv)
    table["fold"] = table.fold.where(table.fold > 0, fold_by_patient(table.patient))
    return table


def read(config: Config, rows: pd.DataFrame) -> list[Recording | RecordError]:
    """Signals of these rows in mV; age, sex and diagnosis codes from the header's comments."""
    root = require_root(config.root)

    def read_one(row: Any) -> Recording:
        recording, comments = read_wfdb(root / row.path)
        info = parse_comments(comments, config.patient_keys)
        if config.patient_column is not None:
            info.pop("patient", None)
        elif "patient" in info and config.fold_column is None:
            info["fold"] = int(fold_by_patient(pd.Series([info["patient"]]))[0])
        return Recording(recording.signal, recording.fs, recording.leads, info)

    return read_each(read_one, rows)


def _join_csv(config: Config, table: pd.DataFrame, path: Path) -> None:
    """Fill labels, patients and folds from the CSV. Records it does not know, and it alone knows, are counted aloud."""
    if not path.is_file():
        raise UserError(f"labels_csv {path} does not exist.")
    try:
        csv = pd.read_csv(path, dtype=str)
    except ValueError as error:
        raise UserError(f"{path} is not a readable CSV: {error}") from None
    for option in ("record_column", "label_column", "patient_column", "fold_column"):
        column = getattr(config, option)
        if column is not None and column not in csv.columns:
            raise UserError(f"{path} has no column {column!r} ({option}). Its columns: {', '.join(csv.columns)}.")
    csv = csv.assign(
        **{config.record_column: csv[config.record_column].fillna("").str.strip().str.removesuffix(".hea")}
    )
    twice = csv[config.record_column][csv[config.record_column].duplicated()]
    if len(twice):
        raise UserError(f"{path} names record {twice.iloc[0]!r} more than once ({len(twice)} such lines).")
    rows = csv.set_index(config.record_column)
    # A record is named by its path below root or, as most databases do, by its file name alone.
    names = table.record.where(table.record.isin(rows.index), table.record.str.split("/").str[-1])
    known = names.isin(rows.index)
    shared_name = names[known & names.duplicated()]
    if len(shared_name):
        raise UserError(
            f"{path}: several records are named {shared_name.iloc[0]}. Give their paths below {config.root}."
        )
    if not known.any():
        raise UserError(
            f"no line of {path} names a record below {config.root}: the CSV has {', '.join(rows.index[:1]) or 'no line'}, "
            f"the folder {table.record[0]!r}. Set record_column to the column with the file names."
        )
    strangers = sorted(set(rows.index) - set(names))
    if strangers or not known.all():
        warnings.warn(
            f"{path}: {len(strangers)} line(s) name no record of the folder (first: {', '.join(strangers[:3]) or '-'}); "
            f"{int((~known).sum())} record(s) have no line and stay unlabelled.",
            stacklevel=2,
        )
    lines = rows.reindex(names)
    if config.label_column is not None:
        cells = lines[config.label_column].fillna("")
        table["labels"] = [sorted({x.strip() for x in c.split(config.label_separator) if x.strip()}) for c in cells]
    if config.patient_column is not None:
        table["patient"] = lines[config.patient_column].to_numpy()
        table["patient"] = table.patient.fillna(table.record)
    if config.fold_column is not None:
        table["fold"] = pd.to_numeric(lines[config.fold_column], errors="coerce").fillna(0).astype(int).to_numpy()
