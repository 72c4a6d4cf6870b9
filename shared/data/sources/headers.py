"""Headers of WFDB records: where they lie below a folder, and what their comments say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from shared.data.sources.base import ages
from shared.errors import UserError
from shared.files import walk_links

EVERY_RECORD = ("**/*.hea", "**/*.mat")
"""Records whose header or whose signal is there: that one of the two is missing shows on reading, and is counted."""


def find_records(root: Path, *patterns: str) -> list[Path]:
    """Paths below root, without extension, of the files that match; links to folders are followed, each folder once.

    `Path.glob` does not follow links.

    Args:
        root: where to look.
        patterns: as of `Path.glob`, with `**/`, `*` and `?`.
    """
    wild = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
    parts = (re.split(r"(\*\*/|\*|\?)", pattern) for pattern in patterns)
    wanted = re.compile("|".join("".join(wild.get(part) or re.escape(part) for part in one) for one in parts))
    found = set()
    for here, _, files in walk_links(root):
        names = [(here / name).relative_to(root) for name in files]
        found |= {name.with_suffix("") for name in names if wanted.fullmatch(name.as_posix())}
    return sorted(found)


def refuse_twins(records: pd.Series, paths: pd.Series, root: Path) -> None:
    """Refuse a folder where two records have one name, as where an archive was unpacked twice.

    Raises:
        UserError: two have.
    """
    twice = records[records.duplicated()]
    if len(twice):
        places = paths[records == twice.iloc[0]]
        raise UserError(f"{root}: record {twice.iloc[0]} lies in {' and '.join(places[:2])}. Keep one of them.")


def parse_comments(comments: Sequence[str], patient_keys: Sequence[str] = ()) -> dict[str, Any]:
    """`Age: 60`, `Sex: Male`, `Dx: 426783006,…` as PhysioNet challenge headers write them, and who it is of.

    Args:
        comments: of one header, without their `#`.
        patient_keys: names of a comment that holds the patient.

    Returns:
        `age` (years, NaN where it is no number), `sex` (0 male, 1 female), `dx` (sorted codes, each once) and `patient`, as
        far as they are said. What stands for nothing (`,,`) is no code, and `Unknown` no sex.
    """
    spelled = {re.sub(r"[\W_]", "", key.lower()) for key in patient_keys}
    info: dict[str, Any] = {}
    for comment in comments:
        key, colon, value = comment.lstrip("<# ").partition(":")
        key, value = key.strip().lower().rstrip(">"), value.strip()
        if not colon or not value:
            continue
        if key == "dx":
            info["dx"] = sorted({code.strip() for code in value.split(",") if code.strip()})
        elif key == "age":
            info["age"] = ages(pd.Series([value]))[0]
        elif re.sub(r"[\W_]", "", key) in spelled:
            info.setdefault("patient", value)
        elif key == "sex" and value[0].lower() in "mf":
            info["sex"] = float(value[0].lower() == "f")  # PTB-XL's coding: 0 male, 1 female
    return info
