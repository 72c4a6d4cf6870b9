"""PhysioNet/CinC Challenge 2017 (Clifford et al. 2017): 8 528 single-lead records of 9 to 61 s at 300 Hz, four rhythm classes.

The device was held in two hands, either way round: the channel is called `ECG`, since it is lead I with an unknown sign. There is
no age, no sex, and no telling who is who: a record counts as a person. `validation/` holds copies of 300 training records.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pandas as pd

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
from shared.data.sources.headers import EVERY_RECORD, find_records
from shared.errors import UserError

LABELS = ("rhythm",)
CHANNEL = "ECG"
RHYTHMS = {"N": "normal", "A": "atrial fibrillation", "O": "other", "~": "noise"}
REFERENCES = ("REFERENCE-v3.csv", "REFERENCE.csv")
"""Tables of labels, the first found is read: the last version, and its copy under the name without one."""
COPIES = "validation"


class Config(PrepareConfig):
    """Options of the source `physionet2017`."""

    source: Literal["physionet2017"] = "physionet2017"
    leads: tuple[str, ...] = (CHANNEL,)


def index(config: Config) -> pd.DataFrame:
    """One row per record of the table of labels, and per further one found, which cannot be used.

    Raises:
        UserError: no table of labels, one that is none, or no record beside it.
    """
    root = require_root(config.root)
    lines = _read_reference(_find_reference(root))
    found = {path.name: path for path in find_records(root, *EVERY_RECORD) if COPIES not in path.parts}
    if not found.keys() & set(lines.record):
        raise UserError(
            f"{root} holds none of the records that its {REFERENCES[1]} names. Expected training/A00/A00001.hea and so on."
        )
    problem = ["" if code in RHYTHMS else f"label {code!r}; expected one of {' '.join(RHYTHMS)}" for code in lines.code]
    twice = lines.record.duplicated()
    problem = [
        message or ("a second line names it" if again else "") for message, again in zip(problem, twice, strict=True)
    ]
    unlabelled = sorted(found.keys() - set(lines.record))
    names = pd.Series([*lines.record, *unlabelled])
    table = pd.DataFrame(
        {
            "record": names,
            "patient": names,
            "age": float("nan"),
            "sex": float("nan"),
            "fold": fold_by_patient(names),
            "rhythm": [[RHYTHMS[code]] if code in RHYTHMS else [] for code in lines.code] + [[] for _ in unlabelled],
            "path": [(found[name] if name in found else Path(name)).as_posix() for name in names],
        }
    )
    problem += ["the table of labels has no line of it"] * len(unlabelled)
    if any(problem):
        table[PROBLEM] = problem
    return table


def read(config: Config, rows: pd.DataFrame) -> list[Recording | RecordError]:
    """Signals of these rows in mV."""
    root = require_root(config.root)

    def read_one(row: Any) -> Recording:
        recording, _ = read_wfdb(root / row.path)
        if len(recording.leads) != 1:
            raise RecordError(
                "missing or unknown leads", f"{row.record} has {len(recording.leads)} channels; expected one"
            )
        return Recording(recording.signal, recording.fs, [CHANNEL])

    return read_each(read_one, rows)


def _find_reference(root: Path) -> Path:
    """The table of labels beside the records or above them."""
    for name in REFERENCES:
        for folder in (root / "training", root / "training2017", root):
            if (folder / name).is_file():
                return folder / name
    raise UserError(
        f"{root} holds no {' or '.join(REFERENCES)}, nor does its folder training. Point `root` at the database."
    )


def _read_reference(path: Path) -> pd.DataFrame:
    """Columns `record` and `code`; the file has no header, and may name a record by its folder too (`A00/A00001`)."""
    try:
        lines = pd.read_csv(path, header=None, dtype=str, keep_default_na=False, skipinitialspace=True)
    except ValueError as error:
        raise UserError(f"{path} is not a readable CSV: {error}") from None
    if lines.shape[1] != 2:
        raise UserError(f"{path} has {lines.shape[1]} columns; expected two: A00001,N")
    return pd.DataFrame({"record": lines[0].str.strip().str.split("/").str[-1], "code": lines[1].str.strip()})
