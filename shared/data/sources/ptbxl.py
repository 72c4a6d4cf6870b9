"""PTB-XL (Wagner et al., Scientific Data 7:154, 2020): 21 799 records, SCP-ECG statements, ten folds by patient."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import Field

from shared.data.sources.base import (
    PROBLEM,
    PrepareConfig,
    RecordError,
    Recording,
    ages,
    read_each,
    read_table,
    read_wfdb,
    require_root,
)
from shared.errors import UserError

LABELS = ("superclass", "subclass", "diagnostic", "statements", "form", "rhythm")
PUBLISHED = {"superclass": 5, "subclass": 23, "diagnostic": 44, "statements": 71, "form": 19, "rhythm": 12}
"""Classes of each in the benchmark of Strodthoff et al. 2021 (arXiv 2004.13701), by scp_statements.csv."""
NEEDED = ("ecg_id", "patient_id", "age", "sex", "scp_codes", "strat_fold", "filename_lr", "filename_hr")


class Options(PrepareConfig):
    """Options of PTB-XL, with or without what was published on it later."""

    rate: Literal[500, 100] = Field(500, description="which of the two published folders to read, Hz")
    min_likelihood: float | None = Field(
        None,
        ge=0,
        lt=100,
        description="diagnostic statements count above this likelihood (0-100); null: all that are stated, as published",
    )
    single_label: bool = Field(False, description="keep only records with exactly one superclass (the seed's task)")

    @property
    def published_folds(self) -> bool:
        """PTB-XL's own."""
        return True


class Config(Options):
    """Options of the source `ptbxl`."""

    source: Literal["ptbxl"] = "ptbxl"


def index(config: Options) -> pd.DataFrame:
    """One row per ECG, labels as sorted lists of names.

    A statement counts if it is named, whatever its likelihood: 0 stands for "not graded". That is the rule of the benchmark
    (Strodthoff et al., IEEE JBHI 25:1519, 2021). A threshold is for diagnostic statements only, the only ones that are graded.

    Raises:
        UserError: not the database's folder, or a table that is no CSV of the columns needed.
    """
    root = require_root(config.root, "ptbxl_database.csv", "scp_statements.csv")
    table, shapes = read_table(root / "ptbxl_database.csv", NEEDED)
    statements = _read_statements(root / "scp_statements.csv")
    codes = [_parse_codes(cell) for cell in table.scp_codes]
    problem = pd.Series([a or b for a, b in zip(shapes, _problems(table, codes), strict=True)], dtype=object)
    good = problem == ""
    labels = [_labels(found or {}, statements, config.min_likelihood) for found in codes]
    numbers = {name: pd.to_numeric(table[name], errors="coerce") for name in ("ecg_id", "age", "sex", "strat_fold")}
    names = numbers["ecg_id"].where(_is_count(table.ecg_id), 0).astype(int).map("{:05d}".format)
    index = pd.DataFrame(
        {
            # A row without an id is called by its line of the file.
            "record": names.where(_is_count(table.ecg_id), [f"line {i + 2}" for i in range(len(table))]),
            "patient": _whole(table.patient_id),
            "age": ages(table.age),
            "sex": numbers["sex"].astype(float),
            "fold": numbers["strat_fold"].where(good, 0).astype(int),
            "path": table.filename_hr if config.rate == 500 else table.filename_lr,
        }
    ).join(pd.DataFrame(labels, columns=list(LABELS), index=table.index))
    if not good.all():
        index[PROBLEM] = problem
    if config.single_label:
        index = index[(index.superclass.str.len() == 1) | ~good]
        if not good[index.index].any():
            raise UserError("single_label=true leaves no record: none has exactly one superclass.")
    return index.reset_index(drop=True)


def read(config: Options, rows: pd.DataFrame) -> list[Recording | RecordError]:
    """Signals of these rows in mV."""
    root = require_root(config.root)

    def read_one(row: Any) -> Recording:
        return read_wfdb(root / row.path)[0]

    return read_each(read_one, rows)


def _read_statements(path: Path) -> pd.DataFrame:
    """What each SCP statement is.

    Raises:
        UserError: not a readable CSV, or a column is missing.
    """
    try:
        statements = pd.read_csv(path, index_col=0)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a readable CSV: {error}") from None
    missing = [
        name
        for name in ("diagnostic", "form", "rhythm", "diagnostic_class", "diagnostic_subclass")
        if name not in statements
    ]
    if missing:
        raise UserError(f"{path} has no column {', '.join(missing)}.")
    twice = statements.index[statements.index.duplicated()]
    if len(twice):
        raise UserError(f"{path} names statement {twice[0]} more than once ({len(twice)} such lines).")
    diagnostic = statements[statements.diagnostic == 1]
    found = {
        "superclass": diagnostic.diagnostic_class.nunique(),
        "subclass": diagnostic.diagnostic_subclass.nunique(),
        "diagnostic": len(diagnostic),
        "statements": int((statements[["diagnostic", "form", "rhythm"]] == 1).any(axis=1).sum()),
        **{kind: int((statements[kind] == 1).sum()) for kind in ("form", "rhythm")},
    }
    other = [f"{found[name]} of {name} ({number})" for name, number in PUBLISHED.items() if found[name] != number]
    if other:
        print(f"{path} names other numbers of classes than published: {', '.join(other)}")
    return statements


def _parse_codes(cell: str) -> dict[str, float] | None:
    """`{'NORM': 100.0, 'SR': 0.0}` as a dict; None where the cell is no such thing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the parser, on a broken cell
            codes = ast.literal_eval(cell)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None
    if not isinstance(codes, dict):
        return None
    named = all(isinstance(code, str) for code in codes)
    graded = all(isinstance(value, int | float) and 0 <= value <= 100 for value in codes.values())
    return codes if named and graded else None


def _problems(table: pd.DataFrame, codes: Sequence[dict[str, float] | None]) -> pd.Series:
    """Why a row cannot be used, empty where it can. An empty age or sex is not known, which is no error."""
    fold = pd.to_numeric(table.strat_fold, errors="coerce")
    wrong = {
        "ecg_id": ~_is_count(table.ecg_id),
        "patient_id": ~_is_count(table.patient_id),
        "age": pd.to_numeric(table.age, errors="coerce").isna() & (table.age != ""),
        "sex": ~pd.to_numeric(table.sex, errors="coerce").isin([0, 1]) & (table.sex != ""),
        "scp_codes": pd.Series([found is None for found in codes], index=table.index, dtype=bool),
        "strat_fold": ~(_is_count(table.strat_fold) & fold.between(1, 10)),
        "filename_lr": table.filename_lr == "",
        "filename_hr": table.filename_hr == "",
    }
    problem = pd.Series("", index=table.index, dtype=object)
    twice = _is_count(table.ecg_id) & _whole(table.ecg_id).duplicated()
    problem[twice] = "ecg_id stands twice in the table"
    for column, rows in reversed(wrong.items()):
        for row in table.index[rows]:
            problem[row] = f"{column} is {table.loc[row, column][:60]!r}"
    return problem


def _is_count(cells: pd.Series) -> pd.Series:
    """Whether each cell is a whole number of 0 or more that names something: `17`, `17.0`."""
    return cells.str.fullmatch(r"\d{1,15}(\.0*)?")


def _whole(cells: pd.Series) -> pd.Series:
    """`17.0` and `17` as `17`."""
    return cells.where(~_is_count(cells), cells.str.partition(".")[0].str.lstrip("0").replace("", "0"))


def _labels(codes: dict[str, float], statements: pd.DataFrame, min_likelihood: float | None) -> dict[str, list[str]]:
    """The label sets of one record from its `scp_codes`."""
    found: dict[str, set[str]] = {name: set() for name in LABELS}
    for code, likelihood in codes.items():
        if code not in statements.index:
            continue
        row = statements.loc[code]
        if row.diagnostic == 1 and (min_likelihood is None or likelihood > min_likelihood):
            found["diagnostic"].add(code)
            found["superclass"].add(str(row.diagnostic_class))
            found["subclass"].add(str(row.diagnostic_subclass))
            found["statements"].add(code)
        for kind in ("form", "rhythm"):
            if row[kind] == 1:
                found[kind].add(code)
                found["statements"].add(code)
    return {name: sorted(values) for name, values in found.items()}
