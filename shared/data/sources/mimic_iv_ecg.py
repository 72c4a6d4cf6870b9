"""MIMIC-IV-ECG 1.0 (Gow et al. 2023): 800 035 records of 161 352 patients, 10 s at 500 Hz, with the machine's reports and measures.

Its order of leads is I II III aVR aVF aVL V1 … V6, which reading by name puts right. Age, sex and diagnoses are not part of it:
they come from MIMIC-IV-ECG-Ext-ICD (Strodthoff et al. 2024), whose ages are those of MIMIC-IV, 91 at first for whoever is over
89. The demo of MIMIC-IV-ECG numbers its studies anew and cannot be joined with it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv
from pydantic import Field

from shared.config import RepoPath
from shared.data.sources.base import (
    PROBLEM,
    PrepareConfig,
    RecordError,
    Recording,
    fold_by_patient,
    read_each,
    read_wfdb,
    require_root,
)
from shared.errors import UserError

LABELS = ("all_diag_all", "all_diag_hosp", "hosp_diag_hosp", "ed_diag_ed", "ed_diag_hosp")
NEEDED = ("subject_id", "study_id", "ecg_time", "path")
MEASURES = ("rr_interval", "p_onset", "p_end", "qrs_onset", "qrs_end", "t_end", "p_axis", "qrs_axis", "t_axis")
"""Columns of machine_measurements.csv, in ms, the axes in degrees."""
NOT_MEASURED = (29999.0, 32767.0, -32768.0, 65535.0)
"""What stands for a time, an axis or an RR interval that the machine could not measure."""
REPORT_LINES = 18
ICD_TABLE = "records_w_diag_icd10.csv"


class Config(PrepareConfig):
    """Options of the source `mimic_iv_ecg`."""

    source: Literal["mimic_iv_ecg"] = "mimic_iv_ecg"
    icd: RepoPath | None = Field(None, description=f"{ICD_TABLE} of MIMIC-IV-ECG-Ext-ICD, or the folder that holds it")
    diagnoses: tuple[Literal["all_diag_all", "all_diag_hosp", "hosp_diag_hosp", "ed_diag_ed", "ed_diag_hosp"], ...] = (
        Field(("all_diag_all", "all_diag_hosp"), min_length=1, description="columns of `icd` to take as labels")
    )

    @property
    def published_folds(self) -> bool:
        """Those of MIMIC-IV-ECG-Ext-ICD, where it is given."""
        return self.icd is not None


def index(config: Config) -> pd.DataFrame:
    """One row per record, called by its study_id.

    Folds are drawn from the patient; with `icd` they are its strat_fold: 0-17 (train) become 1-8 as 1 + 8 * fold // 18, 18
    (validation) 9 and 19 (test) 10.

    Raises:
        UserError: not the database's folder, or a table that cannot be read or lacks a column.
    """
    root = require_root(config.root, "record_list.csv")
    table, broken = _read(root / "record_list.csv", NEEDED)
    patient, study = table["subject_id"].to_pandas(), table["study_id"].to_pandas()
    result = pd.DataFrame(
        {
            "record": study,
            "patient": patient,
            "age": np.nan,
            "sex": np.nan,
            "fold": fold_by_patient(patient),
            "ecg_time": table["ecg_time"].to_pandas(),
            "path": table["path"].to_pandas().str.removesuffix(".hea"),
        }
    )
    wrong = {
        "study_id stands twice in the table": study.duplicated(),
        **{f"{name} is empty": table[name].to_pandas() == "" for name in ("study_id", "subject_id", "path")},
    }
    problem = pd.Series("", index=result.index, dtype=object)
    for text, rows in wrong.items():
        problem[rows] = text
    if (root / "machine_measurements.csv").is_file():
        _add_machine(root / "machine_measurements.csv", result)
    else:
        print(f"{root} holds no machine_measurements.csv: the store has no reports and no measures")
    if config.icd is not None:
        _add_icd(config.icd / ICD_TABLE if config.icd.is_dir() else config.icd, config.diagnoses, result)
    if broken or problem.any():
        result[PROBLEM] = problem
        lines = pd.DataFrame({"record": list(broken), PROBLEM: list(broken.values())}).astype(object)
        result = pd.concat([result, lines], ignore_index=True)
        for name in LABELS if broken else ():
            if name in result:
                result[name] = [one if isinstance(one, list) else [] for one in result[name]]
    return result


def read(config: Config, rows: pd.DataFrame) -> list[Recording | RecordError]:
    """Signals of these rows in mV."""
    root = require_root(config.root)

    def read_one(row: Any) -> Recording:
        return read_wfdb(root / row.path)[0]

    return read_each(read_one, rows)


def _add_machine(path: Path, result: pd.DataFrame) -> None:
    """Fill in the nine measures, NaN where the machine measured none, and `report`: its lines that are not blank."""
    lines = [f"report_{i}" for i in range(REPORT_LINES)]
    order = pd.Series(np.arange(len(result)), index=result.record)
    order = order[~order.index.duplicated()]
    reports = np.full(len(result), "", dtype=object)
    measures = np.full((len(result), len(MEASURES)), np.nan, dtype=np.float32)
    unknown = again = 0
    seen = np.zeros(len(result), dtype=bool)
    broken: dict[str, str] = {}
    for batch in _batches(path, ("study_id", *MEASURES, *lines), broken):
        at = order.reindex(batch["study_id"].to_pandas()).to_numpy()
        known = np.flatnonzero(~np.isnan(at))
        unknown += len(at) - len(known)
        rows = at[known].astype(int)
        again += int(seen[rows].sum())
        seen[rows] = True
        cells = [pc.utf8_trim_whitespace(batch[name]) for name in lines]
        cells = [pc.if_else(pc.equal(cell, ""), pa.scalar(None, pa.string()), cell) for cell in cells]
        joined = pc.binary_join_element_wise(*cells, "; ", null_handling="skip")
        reports[rows] = joined.to_numpy(zero_copy_only=False)[known]
        for i, name in enumerate(MEASURES):
            values = pd.to_numeric(batch[name].to_pandas(), errors="coerce").to_numpy(float)
            measures[rows, i] = np.where(np.isin(values, NOT_MEASURED), np.nan, values)[known]
    result["report"] = reports
    for i, name in enumerate(MEASURES):
        result[name] = measures[:, i]
    if broken or unknown or again or not seen.all():
        print(
            f"{path}: {len(broken)} line(s) cannot be read, {unknown} name no record, {again} name one once more; "
            f"{int((~seen).sum())} record(s) have no line"
        )


def _add_icd(path: Path, diagnoses: Sequence[str], result: pd.DataFrame) -> None:
    """Fill in age, sex, folds and the lists of ICD-10-CM codes; records without a diagnosis have an empty list."""
    if not path.is_file():
        raise UserError(f"icd {path} is not a file. Give {ICD_TABLE} of MIMIC-IV-ECG-Ext-ICD 1.0.1 or its folder.")
    table, broken = _read(path, ("study_id", "subject_id", "gender", "age", "strat_fold", *diagnoses))
    strat = pd.to_numeric(table["strat_fold"].to_pandas(), errors="coerce")
    subjects = table["subject_id"].to_pandas()
    folds = pd.Series(np.where(strat < 18, 1 + strat * 8 // 18, strat - 9), index=subjects)
    folds = folds[strat.between(0, 19).to_numpy()]
    by_patient = folds.groupby(level=0).agg(["min", "max"])
    split = by_patient.index[by_patient["min"] != by_patient["max"]]
    if len(split):
        raise UserError(
            f"{path}: patient {split[0]} is in several folds ({len(split)} such). Take strat_fold as published."
        )
    result["fold"] = result.patient.map(by_patient["min"]).fillna(result.fold).astype(int)
    studies = table["study_id"].to_pandas()
    at = pd.Series(np.arange(len(studies)), index=studies)
    at = at[~at.index.duplicated()].reindex(result.record)
    known, rows = at.notna().to_numpy(), at.fillna(0).to_numpy(int)
    age = pd.to_numeric(table["age"].to_pandas(), errors="coerce").to_numpy(float)[rows]
    sex = table["gender"].to_pandas().str.upper().map({"M": 0.0, "F": 1.0}).to_numpy(float)[rows]
    result["age"], result["sex"] = np.where(known, age, np.nan), np.where(known, sex, np.nan)
    for name in diagnoses:
        column = table[name].combine_chunks().dictionary_encode()
        lists = [_codes(cell) for cell in column.dictionary.to_pylist()]
        of = column.indices.to_numpy()[rows]
        result[name] = [lists[i] if there else [] for i, there in zip(of, known, strict=True)]
    if broken or not known.all():
        print(f"{path}: {len(broken)} line(s) cannot be read; {int((~known).sum())} record(s) have no line in it")


def _codes(cell: str) -> list[str]:
    """`['I10', 'E785']` as a list; the same code is one object, whichever of the million lists it stands in."""
    return sorted({sys.intern(code) for code in re.findall(r"[A-Za-z0-9.]+", cell)})


def _read(path: Path, columns: Sequence[str]) -> tuple[pa.Table, dict[str, str]]:
    """Columns of a CSV as text, and the lines that are none: their place in the file → what is wrong."""
    broken: dict[str, str] = {}
    batches = list(_batches(path, columns, broken))
    if not batches:
        raise UserError(f"{path} has no line. Take the file from the publisher again.")
    return pa.Table.from_batches(batches), broken


def _batches(path: Path, columns: Sequence[str], broken: dict[str, str]) -> Iterator[pa.RecordBatch]:
    """A CSV block by block, so that a table of any length is read in little memory.

    Raises:
        UserError: not a readable CSV, or a column is missing.
    """

    def note(row: csv.InvalidRow) -> str:
        broken[f"{path.name} line {row.number}"] = (
            f"{row.actual_columns} cells where {row.expected_columns} are expected"
        )
        return "skip"

    try:
        with csv.open_csv(
            path,
            read_options=csv.ReadOptions(use_threads=False, block_size=2**22),
            parse_options=csv.ParseOptions(invalid_row_handler=note),
            convert_options=csv.ConvertOptions(
                include_columns=list(columns),
                column_types=dict.fromkeys(columns, pa.string()),
                strings_can_be_null=False,
            ),
        ) as reader:
            yield from reader
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        raise UserError(f"{path} is not a readable CSV with the columns {', '.join(columns)}: {error}") from None
