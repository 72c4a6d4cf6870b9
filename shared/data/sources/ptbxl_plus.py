"""PTB-XL with PTB-XL+ 1.0.1 (Strodthoff et al., Scientific Data 10:279, 2023): what three programs measured and 12SL stated.

PTB-XL+ holds no ECG, so that `root` is PTB-XL and `plus` the folder of PTB-XL+. Both 12SL tables are in another order, with ecg_id
in the middle, and unig lacks four records: all is joined by ecg_id. Records, patients and folds are those of `ptbxl`, and the store
says so, so that an evaluation knows them as the same.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import Field

from shared.config import RepoPath
from shared.data.sources import ptbxl
from shared.data.sources.base import PROBLEM, RecordError, Recording, read_table, require_root
from shared.errors import UserError

STATEMENTS = {
    "snomed": ("ptbxl_statements", "scp_codes_ext_snomed"),
    "statements_12sl": ("12sl_statements", "statements"),
    "snomed_12sl": ("12sl_statements", "statements_ext_snomed"),
}
"""Label column → table and column of PTB-XL+: SCP statements and those of 12SL as SNOMED codes with all that they imply."""
LABELS = (*ptbxl.LABELS, *STATEMENTS)


class Config(ptbxl.Options):
    """Options of the source `ptbxl_plus`."""

    source: Literal["ptbxl_plus"] = "ptbxl_plus"
    plus: RepoPath | None = Field(None, description="folder of PTB-XL+, with `labels` and `features`")
    plus_features: tuple[Literal["unig", "ecgdeli", "12sl"], ...] = Field(
        (), description="whose features to keep, as columns plus_<set>_<name>: 748, 531 and 782 of them"
    )


def index(config: Config) -> pd.DataFrame:
    """The index of `ptbxl` with the labels of PTB-XL+ and the features asked for, NaN where a set lacks a record.

    Raises:
        UserError: PTB-XL or PTB-XL+ is not where it is said to be, or a table lacks a column.
    """
    if config.plus is None:
        raise UserError("`plus` is not set: give the folder of PTB-XL+, e.g. plus=/data/ptb-xl-plus.")
    plus = require_root(config.plus, *sorted({f"labels/{name}.csv" for name, _ in STATEMENTS.values()}))
    result = ptbxl.index(config)
    result["source"] = "ptbxl"
    ids = pd.to_numeric(result.record, errors="coerce")
    problem = result.get(PROBLEM, pd.Series("", index=result.index, dtype=object))
    for label, (table, column) in STATEMENTS.items():
        cells = _by_id(plus / "labels" / f"{table}.csv", column)[column].reindex(ids).fillna("").tolist()
        found = [_names(cell) for cell in cells]
        result[label] = [names or [] for names in found]
        wrong = [
            f"{column} of {table}.csv is {cell[:60]!r}" if names is None else ""
            for names, cell in zip(found, cells, strict=True)
        ]
        problem = problem.where(problem != "", wrong)
    for name in config.plus_features:
        measured = _by_id(plus / "features" / f"{name}_features.csv")
        measured = (
            measured.apply(pd.to_numeric, errors="coerce").astype("float32").add_prefix(f"plus_{name}_").reindex(ids)
        )
        missing = int(measured.isna().all(axis=1).sum())
        if missing:
            print(f"PTB-XL+ has no {name} features of {missing} record(s)")
        result = pd.concat([result, measured.set_index(result.index)], axis=1)
    if problem.any():
        result[PROBLEM] = problem
    return result


def read(config: Config, rows: pd.DataFrame) -> list[Recording | RecordError]:
    """Signals of these rows in mV."""
    return ptbxl.read(config, rows)


def _by_id(path: Path, *columns: str) -> pd.DataFrame:
    """A table of PTB-XL+ by ecg_id, wherever the column stands; lines that cannot be used are counted aloud and left out."""
    table, problems = read_table(path, ("ecg_id", *columns))
    ids = pd.to_numeric(table.ecg_id, errors="coerce")
    good = (pd.Series(problems, index=table.index, dtype=object) == "") & ids.notna() & ~ids.duplicated()
    if not good.all():
        print(f"{path}: {int((~good).sum())} line(s) cannot be used; their records count as not in it")
    table = table[good].drop(columns="ecg_id").set_index(ids[good])
    return table[list(columns)] if columns else table


def _names(cell: str) -> list[str] | None:
    """`['NSR']`, or `[(426783006, 100.0)]` with the likelihood of each, as a sorted list of names; None where it is neither."""
    try:
        found = ast.literal_eval(cell) if cell else []
        return sorted({str(one[0] if isinstance(one, tuple) else one) for one in found})
    except (ValueError, SyntaxError, TypeError, IndexError):
        return None
