"""CODE-15 % (Ribeiro et al. 2021): 345 779 exams of 233 770 patients at 400 Hz in HDF5 parts, six diagnoses, follow-up.

Exams of 10 s and of 7 s lie between rows of zeros to 4096 samples each, which are taken off. `exams.csv` is not in file order,
and each part ends with an exam 0 of zeros. An exam without any of the six diagnoses is not thereby normal: see `normal_ecg`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field

from shared.data.sources.base import (
    PROBLEM,
    PrepareConfig,
    RecordError,
    Recording,
    ages,
    fold_by_patient,
    read_table,
    require_root,
)
from shared.data.sources.hdf5 import open_hdf5, read_tracings
from shared.errors import UserError
from shared.leads import LEADS

DIAGNOSES = ("1dAVb", "RBBB", "LBBB", "SB", "ST", "AF")
LABELS = ("diagnoses",)
FS_HZ = 400.0
TRUTH = {"true": 1.0, "1": 1.0, "1.0": 1.0, "false": 0.0, "0": 0.0, "0.0": 0.0}


class Config(PrepareConfig):
    """Options of the source `code15`."""

    source: Literal["code15"] = "code15"
    pattern: str = Field("**/exams_part*.hdf5", description="which parts below `root` to take")
    unit_mv: float = Field(
        1.0, gt=0, description="millivolt of a stored 1; R waves suggest that the files hold twice the voltage (0.5)"
    )


def index(config: Config) -> pd.DataFrame:
    """One row per exam that a part holds and exams.csv knows; exams of other parts are not missed."""
    root = require_root(config.root, "exams.csv")
    table, problems = read_table(root / "exams.csv", ("exam_id", "age", "is_male", "patient_id", *DIAGNOSES))
    table[PROBLEM] = problems
    places = _places(root, config.pattern)
    twice = table.exam_id[table.exam_id.duplicated()]
    if len(twice):
        raise UserError(f"{root / 'exams.csv'} names exam {twice.iloc[0]} more than once ({len(twice)} such lines).")
    found = places.merge(table, on="exam_id", how="inner", sort=False)
    if found.empty:
        raise UserError(
            f"no exam of {', '.join(places.part.unique()[:3])} is in {root / 'exams.csv'}: it belongs to other parts."
        )
    strangers = len(places) - len(found)
    if strangers:
        print(f"{strangers} exam(s) of the parts have no line in {root / 'exams.csv'} and are left out")
    truth = {name: found[name].str.lower() for name in ("is_male", *DIAGNOSES)}
    odd = pd.concat([~column.isin((*TRUTH, "")) for column in truth.values()], axis=1)
    named = [
        "; ".join(
            filter(None, (problem, *(f"{n} is {found[n][i]!r}" for n, bad in zip(truth, row, strict=True) if bad)))
        )
        for i, (problem, row) in enumerate(zip(found[PROBLEM], odd.to_numpy(), strict=True))
    ]
    flags = {name: truth[name].map(TRUTH) for name in truth}
    patient = found.patient_id.str.removesuffix(".0").where(found.patient_id != "", "exam " + found.exam_id)
    result = pd.DataFrame(
        {
            "record": found.exam_id,
            "patient": patient,
            "age": ages(found.age),
            "sex": 1.0 - flags["is_male"],
            "fold": fold_by_patient(patient),
            "diagnoses": [
                [name for name, yes in zip(DIAGNOSES, row, strict=True) if yes == 1.0]
                for row in zip(*(flags[name] for name in DIAGNOSES), strict=True)
            ],
            "path": found.part,
            "row": found.row,
        }
    )
    for name in ("normal_ecg", "death"):
        if name in found:
            result[name] = found[name].str.lower().map(TRUTH)
    if "timey" in found:
        result["follow_up_years"] = pd.to_numeric(found.timey, errors="coerce")
    if any(named):
        result[PROBLEM] = named
    return result


def read(config: Config, rows: pd.DataFrame) -> list[Recording | RecordError]:
    """Tracings of these rows in mV, without the zeros around them."""
    return read_tracings(require_root(config.root), rows, FS_HZ, LEADS, config.unit_mv)


def _places(root: Path, pattern: str) -> pd.DataFrame:
    """Exam, part and row of every tracing, but the exam 0 that ends each part."""
    parts = sorted(root.glob(pattern))
    if not parts:
        raise UserError(f"no part matches {pattern!r} below {root}. Expected exams_part0.hdf5 and so on, unzipped.")
    found = []
    for path in parts:
        with open_hdf5(path, "exam_id", "tracings") as file:
            ids = np.asarray(file["exam_id"])
            if file["tracings"].ndim != 3 or file["tracings"].shape[::2] != (len(ids), len(LEADS)):
                shape = tuple(file["tracings"].shape)
                raise UserError(f"{path}: tracings are {shape}; expected ({len(ids)}, samples, {len(LEADS)}).")
        place = path.relative_to(root).as_posix()
        found.append(pd.DataFrame({"exam_id": ids.astype(str), "part": place, "row": np.arange(len(ids))}))
    places = pd.concat(found, ignore_index=True)
    places = places[places.exam_id != "0"].reset_index(drop=True)
    twice = places.exam_id[places.exam_id.duplicated()]
    if len(twice):
        raise UserError(f"exam {twice.iloc[0]} lies in several places of the parts below {root} ({len(twice)} such).")
    return places
