"""MIT-BIH Arrhythmia Database 1.0.0 (Moody & Mark 2001): 48 records of half an hour, 47 people, two leads at 360 Hz, beats marked.

Which two leads differs: MLII and V1 in 40 records, MLII with V2, V4 or V5 in six (in 114 as the second), V5 and V2 in 102 and 104.
Marks are counted per record, not per segment: every segment of a record carries the rhythms and counts of its half hour, so that
they describe the record and are no target for one of 10 s.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import wfdb

from shared.data.sources.base import (
    PrepareConfig,
    RecordError,
    Recording,
    ages,
    fold_by_patient,
    read_each,
    read_wfdb,
    require_root,
)
from shared.errors import UserError

LABELS = ("record_rhythms",)
SETS = {
    "DS1": "101 106 108 109 112 114 115 116 118 119 122 124 201 202 203 205 207 208 209 215 220 223 230",
    "DS2": "100 103 105 111 113 117 121 123 200 210 212 213 214 219 221 222 228 231 232 233 234",
}
"""The inter-patient sets of de Chazal et al., IEEE Trans. Biomed. Eng. 51:1196 (2004), but for 202, which is of the person of 201:
it was in DS2, and is in DS1 here."""
PERSON = {"202": "201"}
TEST_FOLD, NO_FOLD = 10, 0
AAMI = {
    **dict.fromkeys("NLRej", "N"),
    **dict.fromkeys("AaJS", "S"),
    **dict.fromkeys("VE", "V"),
    "F": "F",
    **dict.fromkeys("/fQ", "Q"),
}
"""Symbol of a beat → class by ANSI/AAMI EC57."""


class Config(PrepareConfig):
    """Options of the source `mitbih`."""

    source: Literal["mitbih"] = "mitbih"
    leads: tuple[str, ...] = ("MLII",)

    @property
    def published_folds(self) -> bool:
        """DS1 and DS2."""
        return True


def index(config: Config) -> pd.DataFrame:
    """One row per record; folds 1-9 are DS1, 10 is DS2, and 0 the four paced records, which are in neither.

    Raises:
        UserError: no record lies in `root`.
    """
    root = require_root(config.root)
    # Not below: x_mitdb holds the beginnings of 23 of them once more.
    names = pd.Series(sorted(path.stem for path in root.glob("*.hea")), dtype=object)
    if names.empty:
        raise UserError(f"{root} holds no record. Expected 100.hea, 100.dat, 100.atr and so on.")
    people = names.replace(PERSON)
    sets = names.map({name: which for which, members in SETS.items() for name in members.split()}).fillna("")
    return pd.DataFrame(
        {
            "record": names,
            "patient": people,
            "age": float("nan"),
            "sex": float("nan"),
            "fold": np.select(
                [sets == "DS1", sets == "DS2"], [fold_by_patient(people, TEST_FOLD - 1), TEST_FOLD], NO_FOLD
            ),
            "record_rhythms": [[] for _ in names],
            "chazal_set": sets,
            "path": names,
        }
    )


def read(config: Config, rows: pd.DataFrame) -> list[Recording | RecordError]:
    """Signals of these rows in mV, leads named as in the header, with what is said of the whole record."""
    root = require_root(config.root)

    def read_one(row: Any) -> Recording:
        recording, comments = read_wfdb(root / row.path)
        info = {**person_of(comments), **count_marks(root / row.path)}
        return Recording(recording.signal, recording.fs, recording.leads, info)

    return read_each(read_one, rows)


def person_of(comments: list[str]) -> dict[str, float]:
    """Age (years, NaN where the header says -1) and sex of `69 M 1085 1629 x1`, the first comment."""
    found = re.match(r"(-?\d+)\s+([MF])\b", comments[0].lstrip("# ")) if comments else None
    if found is None:
        return {}
    return {"age": float(ages(pd.Series([found[1]]))[0]), "sex": float(found[2] == "F")}


def count_marks(path: Path) -> dict[str, Any]:
    """What the annotations say of one record: its rhythms, beats of each AAMI class, and whether one is paced.

    Raises:
        RecordError: there are none, or they cannot be read.
    """
    if not path.with_suffix(".atr").is_file():
        raise RecordError("missing annotations", f"{path}.atr does not exist")
    try:
        marks = wfdb.rdann(str(path), "atr")
    except Exception as error:  # wfdb raises many kinds for a damaged file
        raise RecordError("unreadable annotations", f"{path}.atr: {type(error).__name__}: {error}") from None
    beats = Counter(AAMI[symbol] for symbol in marks.symbol if symbol in AAMI)
    notes = (note.strip("\0 ") for note, symbol in zip(marks.aux_note, marks.symbol, strict=True) if symbol == "+")
    return {
        "record_rhythms": sorted({note.removeprefix("(") for note in notes if note}),
        **{f"record_beats_{name}": beats[name] for name in ("N", "S", "V", "F", "Q")},
        "paced": "/" in marks.symbol,
    }
