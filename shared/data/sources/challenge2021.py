"""PhysioNet/CinC Challenge 2021, public training data (Reyna et al. 2021): eight cohorts as WFDB, SNOMED codes in the headers.

Who is who is not published. A record counts as a person, whose name is the record's; of `ptb` and `st_petersburg_incart` it is
known that people have several records, and which is not, so each of these cohorts is one fold as a whole. `ptb-xl` is PTB-XL
1.0.1 under other names (HR00001 is ecg_id 1): left out unless asked for, and with PTB-XL's table it has its people and folds.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from pydantic import Field, field_validator

from shared.config import RepoPath
from shared.data.sources import snomed
from shared.data.sources.base import (
    PROBLEM,
    PrepareConfig,
    RecordError,
    Recording,
    fold_by_patient,
    read_each,
    read_table,
    require_root,
)
from shared.data.sources.chapman_ningbo import js_patients
from shared.data.sources.headers import EVERY_RECORD, find_records, refuse_twins
from shared.errors import UserError, did_you_mean

LABELS = snomed.LABELS
Cohort = Literal[
    "cpsc_2018",
    "cpsc_2018_extra",
    "georgia",
    "chapman_shaoxing",
    "ningbo",
    "ptb",
    "st_petersburg_incart",
    "ptb-xl",
]
COHORTS: tuple[Cohort, ...] = get_args(Cohort)
"""Names of their folders."""
JS_COHORTS = ("chapman_shaoxing", "ningbo")
FOLD_OF: dict[str, int] = {"ptb": 1, "st_petersburg_incart": 2, "ptb-xl": 3}
"""Cohorts whose people are not known: all of one is in one fold, of those that are usually trained on."""


class Config(PrepareConfig):
    """Options of the source `challenge2021`."""

    source: Literal["challenge2021"] = "challenge2021"
    cohorts: tuple[Cohort, ...] = Field(
        COHORTS[:-1], description="which to take; all but ptb-xl, which is PTB-XL once more"
    )
    ptbxl_csv: RepoPath | None = Field(
        None,
        description="ptbxl_database.csv of PTB-XL: people and folds of the cohort ptb-xl, else one fold as a whole",
    )

    @field_validator("cohorts", mode="before")
    @classmethod
    def _known(cls, value: object) -> object:
        if isinstance(value, list | tuple):
            wrong = [f"unknown cohort {name!r}{did_you_mean(name, COHORTS)}" for name in value if name not in COHORTS]
            if wrong or not value:
                raise ValueError(f"{(wrong or ['no cohort is given.'])[0]} Expected some of {', '.join(COHORTS)}")
        return value

    @property
    def published_folds(self) -> bool:
        """PTB-XL's, where its table is given."""
        return self.ptbxl_csv is not None


def index(config: Config) -> pd.DataFrame:
    """One row per record of the cohorts chosen, wherever their folders lie at or below `root`; labels come on reading.

    Records of Chapman–Shaoxing, Ningbo and (with its table) PTB-XL carry the name of that source in the column `source`, so
    that people who are in two stores are seen to be.

    Raises:
        UserError: no record of these cohorts, a record that lies in two places, or a `ptbxl_csv` that is not PTB-XL's.
    """
    root = require_root(config.root)
    found = [(path, _cohort_of(root, path)) for path in find_records(root, *EVERY_RECORD)]
    table = pd.DataFrame(
        [(path.name, cohort, path.as_posix()) for path, cohort in found if cohort in config.cohorts],
        columns=["record", "cohort", "path"],
    )
    _say_what_is_missing(config, root, [cohort for _, cohort in found])
    refuse_twins(table.record, table.path, root)
    # One record of Ningbo is called S23074 here, which is JS23074.
    numbers = table.record.str.extract(r"^J?S(\d{1,9})$")[0].where(table.cohort.isin(JS_COHORTS))
    table["source"] = np.where(numbers.isna(), "challenge2021", "chapman_ningbo")
    table["patient"] = js_patients(numbers.fillna("0")).where(numbers.notna(), table.record)
    table["fold"] = table.cohort.map(FOLD_OF).fillna(fold_by_patient(table.patient)).astype(int)
    table["age"], table["sex"] = float("nan"), float("nan")
    for name in LABELS:
        table[name] = [[] for _ in range(len(table))]
    if config.ptbxl_csv is not None and "ptb-xl" in config.cohorts:
        _join_ptbxl(table, config.ptbxl_csv)
    return table


def read(config: Config, rows: pd.DataFrame) -> list[Recording | RecordError]:
    """Signals of these rows in mV; age, sex and diagnoses from the header's comments."""
    root = require_root(config.root)

    def read_one(row: Any) -> Recording:
        return snomed.read_record(root / row.path)

    return read_each(read_one, rows)


def _cohort_of(root: Path, path: Path) -> str:
    """The nearest folder above a record that is a cohort's; empty: none.

    Args:
        root: may be the cohort's folder or a part `g1` of it; what lies further up (`/data/ptb/…`) is the user's own.
        path: of the record, below it.
    """
    whole = root.resolve()
    above = [*path.parts[-2::-1], whole.name]
    if re.fullmatch(r"g\d+", whole.name):
        above.append(whole.parent.name)
    return next((name for name in above if name in COHORTS), "")


def _say_what_is_missing(config: Config, root: Path, cohorts: list[str]) -> None:
    """Count aloud what is not taken.

    Raises:
        UserError: nothing is.
    """
    there = set(cohorts) - {""}
    if not there & set(config.cohorts):
        what = f"holds {', '.join(sorted(there))} only" if there else "holds no folder of the challenge"
        raise UserError(
            f"no record of {', '.join(config.cohorts)} below {root}: it {what}. Expected e.g. "
            "training/georgia/g1/E00001.hea, or `root` to be such a cohort's folder."
        )
    missing = [name for name in config.cohorts if name not in there]
    if missing:
        print(f"no record of {', '.join(missing)} below {root}")
    if "" in cohorts:
        print(f"{cohorts.count('')} record(s) below {root} lie in no cohort's folder and are left out")


def _join_ptbxl(table: pd.DataFrame, path: Path) -> None:
    """People and folds of the cohort ptb-xl from PTB-XL's own table; records that it lacks (1.0.3 dropped 38) are no use."""
    lines, _ = read_table(path, ("ecg_id", "patient_id", "strat_fold"))
    numbers = lines[["ecg_id", "patient_id", "strat_fold"]].apply(pd.to_numeric, errors="coerce")
    numbers = numbers.dropna().astype(int).drop_duplicates("ecg_id").set_index("ecg_id")
    mine = table.cohort == "ptb-xl"
    ids = pd.to_numeric(table.record[mine].str.removeprefix("HR"), errors="coerce")
    known = ids[ids.isin(numbers.index)].astype(int)
    if len(ids) and not len(known):
        raise UserError(f"{path} has no line of {table.record[mine].iloc[0]}: it is not the table of PTB-XL.")
    table.loc[known.index, "patient"] = numbers.patient_id[known].astype(str).to_numpy()
    table.loc[known.index, "fold"] = numbers.strat_fold[known].to_numpy()
    table.loc[known.index, "source"] = "ptbxl"
    if len(known) < len(ids):
        table[PROBLEM] = ""
        table.loc[ids.index.difference(known.index), PROBLEM] = f"{path.name} has no line of it"
