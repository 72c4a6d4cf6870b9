"""PTB-XL (Wagner et al., Scientific Data 7:154, 2020): 21 799 records, SCP-ECG statements, ten folds by patient."""

from __future__ import annotations

import ast
from typing import Any, Literal

import pandas as pd
from pydantic import Field

from shared.data.sources.base import PrepareConfig, RecordError, Recording, read_each, read_wfdb, require_root
from shared.errors import UserError

LABELS = ("superclass", "subclass", "statements", "form", "rhythm")
NEEDED = ("ecg_id", "patient_id", "age", "sex", "scp_codes", "strat_fold", "filename_lr", "filename_hr")


class Config(PrepareConfig):
    """Options of the source `ptbxl`."""

    source: Literal["ptbxl"] = "ptbxl"
    rate: Literal[500, 100] = Field(500, description="which of the two published folders to read, Hz")
    min_likelihood: float = Field(
        0.0, ge=0, lt=100, description="diagnostic statements count above this likelihood (0-100)"
    )
    single_label: bool = Field(False, description="keep only records with exactly one superclass (the seed's task)")


def index(config: Config) -> pd.DataFrame:
    """One row per ECG, labels as sorted lists of names.

    Likelihood grades diagnostic statements only. Form and rhythm statements carry 0 for "not graded", so that a threshold
    would remove nearly all of them: they count whenever they are named.
    """
    root = require_root(config.root, "ptbxl_database.csv", "scp_statements.csv")
    table = pd.read_csv(root / "ptbxl_database.csv")
    missing = [name for name in NEEDED if name not in table.columns]
    if missing:
        raise UserError(f"{root / 'ptbxl_database.csv'} has no column {', '.join(missing)}.")
    statements = pd.read_csv(root / "scp_statements.csv", index_col=0)
    labels = pd.DataFrame(
        [_labels(ast.literal_eval(codes), statements, config.min_likelihood) for codes in table.scp_codes]
    )
    index = pd.DataFrame(
        {
            "record": table.ecg_id.map("{:05d}".format),
            "patient": table.patient_id.astype("Int64").astype(str),
            # 300 stands for "over 89" in PTB-XL.
            "age": table.age.where(table.age < 120, 90.0).where(table.age.notna()),
            "sex": table.sex.astype(float),
            "fold": table.strat_fold.astype(int),
            "path": table.filename_hr if config.rate == 500 else table.filename_lr,
        }
    ).join(labels)
    if config.single_label:
        index = index[index.superclass.str.len() == 1]
        if index.empty:
            raise UserError("single_label=true leaves no record: none has exactly one superclass.")
    return index.reset_index(drop=True)


def read(config: Config, rows: pd.DataFrame) -> list[Recording | RecordError]:
    """Signals of these rows in mV."""
    root = require_root(config.root)

    def read_one(row: Any) -> Recording:
        return read_wfdb(root / row.path)[0]

    return read_each(read_one, rows)


def _labels(codes: dict[str, float], statements: pd.DataFrame, min_likelihood: float) -> dict[str, list[str]]:
    """The five label sets of one record from its `scp_codes`."""
    found: dict[str, set[str]] = {name: set() for name in LABELS}
    for code, likelihood in codes.items():
        if code not in statements.index:
            continue
        row = statements.loc[code]
        if row.diagnostic == 1 and likelihood > min_likelihood:
            found["superclass"].add(str(row.diagnostic_class))
            found["subclass"].add(str(row.diagnostic_subclass))
            found["statements"].add(code)
        for kind in ("form", "rhythm"):
            if row[kind] == 1:
                found[kind].add(code)
                found["statements"].add(code)
    return {name: sorted(values) for name, values in found.items()}
