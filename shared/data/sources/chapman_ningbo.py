"""Chapman–Shaoxing–Ningbo (Zheng et al. 2020): 45 152 records of as many people, 10 s at 500 Hz, in either publication.

PhysioNet `ecg-arrhythmia` 1.0.0 is WFDB below `WFDBRecords/`, with SNOMED codes, age and sex in the headers alone. The figshare
collection 4560497 holds the 10 646 people of Chapman–Shaoxing as CSV in µV below `ECGData/`, with `Diagnostics.xlsx`. In its
labels `AF` is atrial flutter, `AFIB` fibrillation. The Challenge 2021 has the PhysioNet records once more: see `js_patients`.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from shared.data.sources import snomed
from shared.data.sources.base import (
    PROBLEM,
    PrepareConfig,
    RecordError,
    Recording,
    ages,
    fold_by_patient,
    read_each,
    require_root,
)
from shared.data.sources.headers import EVERY_RECORD, find_records, refuse_twins
from shared.errors import UserError

LABELS = (*snomed.LABELS, "rhythm", "beat")
FS_HZ = 500.0
LAST_OF_CHAPMAN = 10646
DIAGNOSTICS = "Diagnostics.xlsx"
COLUMNS = ("FileName", "Rhythm", "Beat", "PatientAge", "Gender")
FIRST_FILE = "MUSE_20180113_171327_27000"
"""Row 1 of the published `Diagnostics.xlsx`; the record is PhysioNet's JS00001."""


class Config(PrepareConfig):
    """Options of the source `chapman_ningbo`."""

    source: Literal["chapman_ningbo"] = "chapman_ningbo"


def js_patients(numbers: pd.Series) -> pd.Series:
    """The patient's name from the JS number, which every publication of these records shares.

    Folds come from the patient's name: with one name, who is in the test fold of one publication is in that of each.

    Args:
        numbers: whole numbers from 1, one a record and person.
    """
    return numbers.astype(int).map("JS{:05d}".format)


def index(config: Config) -> pd.DataFrame:
    """One row per record of whichever publication lies at `root`.

    Raises:
        UserError: neither lies there, its folder is empty, or a record lies in two places.
    """
    root = require_root(config.root)
    if (root / DIAGNOSTICS).is_file() and (root / "ECGData").is_dir():
        return _index_figshare(root)
    if (root / "WFDBRecords").is_dir():
        return _index_physionet(root)
    raise UserError(f"{root} holds neither WFDBRecords (PhysioNet) nor ECGData and {DIAGNOSTICS} (figshare).")


def read(config: Config, rows: pd.DataFrame) -> list[Recording | RecordError]:
    """Signals of these rows in mV; of PhysioNet's also age, sex and diagnoses from the header's comments."""
    root = require_root(config.root)

    def read_one(row: Any) -> Recording:
        return (_read_csv if row.path.endswith(".csv") else snomed.read_record)(root / row.path)

    return read_each(read_one, rows)


def _index_physionet(root: Path) -> pd.DataFrame:
    folder = root / "WFDBRecords"
    paths = find_records(folder, *EVERY_RECORD)
    if not paths:
        raise UserError(f"{folder} holds no record. Expected WFDBRecords/01/010/JS00001.hea and so on.")
    table = pd.DataFrame({"record": [path.name for path in paths]})
    table["path"] = [f"WFDBRecords/{path.as_posix()}" for path in paths]
    refuse_twins(table.record, table.path, root)
    numbers = table.record.str.extract(r"^JS(\d{1,9})$")[0]
    table["patient"] = js_patients(numbers.fillna("0"))
    table["fold"] = fold_by_patient(table.patient)
    table["cohort"] = np.where(numbers.fillna("0").astype(int) <= LAST_OF_CHAPMAN, "chapman_shaoxing", "ningbo")
    table["age"], table["sex"] = float("nan"), float("nan")
    for name in LABELS:
        table[name] = [[] for _ in range(len(table))]
    if numbers.isna().any():
        table[PROBLEM] = np.where(numbers.isna(), "its name is no JS number, as JS00001", "")
    return table


def _index_figshare(root: Path) -> pd.DataFrame:
    """One row per line of the table. The JS number of a record is the number of its line.

    That was read off both publications: ages, sexes and diagnoses of JS00001, 2, 4 and 5 are those of lines 1, 2, 4 and 5,
    and the 399 numbers that PhysioNet lacks up to JS10646 are as many as the lines of rhythm SA.
    """
    lines = _read_xlsx(root / DIAGNOSTICS)
    known = len(lines) and lines.FileName.iloc[0] == FIRST_FILE
    if not known:
        warnings.warn(
            f"{root / DIAGNOSTICS} does not begin with {FIRST_FILE}, as published: folds come from the files' names, and "
            "are not those of the same people in PhysioNet's publication and the Challenge 2021.",
            stacklevel=2,
        )
    patients = js_patients(pd.Series(range(1, len(lines) + 1))) if known else lines.FileName
    table = pd.DataFrame(
        {
            "record": lines.FileName.where(lines.FileName != "", [f"line {i + 2}" for i in range(len(lines))]),
            "path": "ECGData/" + lines.FileName + ".csv",
            "patient": patients,
            "fold": fold_by_patient(patients),
            "cohort": "chapman_shaoxing",
            "age": ages(lines.PatientAge),
            "sex": lines.Gender.str.upper().str[:1].map({"M": 0.0, "F": 1.0}),
            "rhythm": [sorted({name for name in cell.split() if name != "NONE"}) for cell in lines.Rhythm],
            "beat": [sorted({name for name in cell.split() if name != "NONE"}) for cell in lines.Beat],
        }
    )
    for name in snomed.LABELS:
        table[name] = [[] for _ in range(len(table))]
    twice = (lines.FileName != "") & lines.FileName.duplicated()
    problem = np.select([lines.FileName == "", twice], ["FileName is empty", "FileName stands twice in the table"], "")
    if (problem != "").any():
        table[PROBLEM] = problem
    return table


def _read_xlsx(path: Path) -> pd.DataFrame:
    """The table, every cell as text without outer blanks.

    Raises:
        UserError: openpyxl is not installed, the file cannot be read, or lacks a column or any line.
    """
    try:
        table = pd.read_excel(path, dtype=str, keep_default_na=False)
    except ImportError:
        raise UserError(f'{path.name} is an Excel table: pip install -e ".[xlsx]" brings what reads it.') from None
    except Exception as error:  # openpyxl and zipfile raise many kinds for a damaged file
        raise UserError(f"{path} is not a readable Excel table: {error}") from None
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise UserError(
            f"{path} has no column {', '.join(missing)}; its columns: {', '.join(map(str, table.columns))}."
        )
    if table.empty:
        raise UserError(f"{path} has no line. Expected one a record.")
    return table[list(COLUMNS)].apply(lambda cells: cells.str.strip())


def _read_csv(path: Path) -> Recording:
    """A header of lead names and a line per sample, µV."""
    if not path.is_file():
        raise RecordError("missing file", f"{path} does not exist")
    try:
        table = pd.read_csv(path, skipinitialspace=True)
        signal = table.to_numpy(np.float32).T * np.float32(1e-3)
    except ValueError as error:
        raise RecordError("unreadable signal", f"{path} is no table of numbers: {error}") from None
    return Recording(np.ascontiguousarray(signal), FS_HZ, [str(name) for name in table.columns])
