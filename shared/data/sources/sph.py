"""SPH (Shandong Provincial Hospital; Liu et al., Scientific Data 9:272, 2022): 25 770 records, 24 666 patients, 500 Hz, HDF5.

Diagnoses are statements by AHA/ACC/HRS: in `60+310;147`, `;` stands between two of them and `+` before a modifier (310,
"frequent"). Code 1 is a normal ECG, which is stated, not the absence of others. No statement comes before another. Records are of
10 to 56 s, denoised by the device, and stored as float16 in mV.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

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
from shared.data.sources.hdf5 import open_hdf5
from shared.errors import UserError
from shared.leads import LEADS

LABELS = ("statements", "aha")
NEEDED = ("ECG_ID", "AHA_Code", "Patient_ID", "Age", "Sex", "N", "Date")
FS_HZ = 500.0


class Config(PrepareConfig):
    """Options of the source `sph`."""

    source: Literal["sph"] = "sph"


def index(config: Config) -> pd.DataFrame:
    """One row per record: `aha` holds its statements with their modifiers, `statements` what their codes stand for.

    Raises:
        UserError: not the database's folder, or a table lacks a column.
    """
    root = require_root(config.root, "metadata.csv", "code.csv")
    table, problems = read_table(root / "metadata.csv", NEEDED)
    known = _read_codes(root / "code.csv")
    cells = [_statements(cell) for cell in table.AHA_Code]
    sex = table.Sex.str.upper()
    result = pd.DataFrame(
        {
            "record": table.ECG_ID.where(table.ECG_ID != "", [f"line {i + 2}" for i in range(len(table))]),
            "patient": table.Patient_ID,
            "age": ages(table.Age),
            "sex": sex.map({"M": 0.0, "F": 1.0}),
            "fold": fold_by_patient(table.Patient_ID),
            "statements": [sorted({known.get(one[0], one[0]) for one in cell}) for cell in cells],
            "aha": [sorted({"+".join(one) for one in cell}) for cell in cells],
            "date": table.Date,
            "path": "records/" + table.ECG_ID + ".h5",
            "samples": pd.to_numeric(table.N, errors="coerce"),
        }
    )
    twice = table.ECG_ID.duplicated()
    named = [
        problem
        or ("ECG_ID is empty" if not record else "")
        or (f"{record} stands twice in the table" if again else "")
        or ("Patient_ID is empty" if not patient else "")
        or next((f"code {code} is not in code.csv" for one in cell for code in one if code not in known), "")
        or ("AHA_Code is empty" if not cell else "")
        for problem, record, again, patient, cell in zip(
            problems, table.ECG_ID, twice, table.Patient_ID, cells, strict=True
        )
    ]
    if any(named):
        result[PROBLEM] = named
    return result


def read(config: Config, rows: pd.DataFrame) -> list[Recording | RecordError]:
    """Signals of these rows in mV."""
    root = require_root(config.root)

    def read_one(row: Any) -> Recording:
        if not (root / row.path).is_file():
            raise RecordError("missing file", f"{root / row.path} does not exist")
        try:
            with open_hdf5(root / row.path, "ecg") as file:
                signal = np.asarray(file["ecg"], dtype=np.float32)
        except UserError as error:
            raise RecordError("unreadable signal", f"{row.record}: {error}") from None
        if signal.shape != (len(LEADS), row.samples):
            raise RecordError(
                "unreadable signal", f"{row.path} holds {signal.shape}; expected ({len(LEADS)}, {row.samples:g})"
            )
        return Recording(signal, FS_HZ, LEADS)

    return read_each(read_one, rows)


def _statements(cell: str) -> list[list[str]]:
    """`60+310;147` as `[["60", "310"], ["147"]]`."""
    parts = ([code.strip() for code in one.split("+") if code.strip()] for one in cell.split(";"))
    return [one for one in parts if one]


def _read_codes(path: Path) -> dict[str, str]:
    """Code → what it stands for."""
    table, problems = read_table(path, ("Category", "Code", "Description"))
    if any(problems):
        raise UserError(f"{path}: {next(filter(None, problems))}. Take the file from the publisher again.")
    return dict(zip(table.Code, table.Description, strict=True))
