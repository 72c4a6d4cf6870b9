"""A few records of a database prepared for nothing: whether they can be read, and what preparing all of them will take."""

from __future__ import annotations

import contextlib
import io
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import joblib
import numpy as np
import pandas as pd

from shared.config import load_config
from shared.data.prepare import choose_config
from shared.data.segments import process_chunk
from shared.data.sources import SOURCES
from shared.data.sources.base import BAD_ROW, PROBLEM, PrepareConfig
from shared.data.wholeness import SHOWN, Finding, Tree

ROW_BYTES = 700
"""Of records.parquet, for a segment with its labels and flags."""
FAILURES = ("missing file", "unreadable", "unknown unit", "absurd fs")
"""How the reasons begin that are none of the record's own making: the download or the reader is wrong."""


def prepare_config(source: str, root: Path, name: str, settings: Sequence[str]) -> PrepareConfig:
    """What `prepare` would be given; the YAML of the source, with this folder."""
    return load_config(choose_config, f"configs/data/{source}.yaml", [f"root={root}", f"out=data/{name}", *settings])


def read_index(config: PrepareConfig) -> tuple[pd.DataFrame, list[Finding]]:
    """The rows of the database's table, or of its headers, and what the source says of them.

    Raises:
        UserError: it is not the database that the config is for.
    """
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        index = SOURCES[config.source].index(config)
    return index, [Finding("note", line) for line in said.getvalue().splitlines()]


def check_index(config: PrepareConfig, index: pd.DataFrame, tree: Tree) -> tuple[set[str], list[Finding]]:
    """Headers that rows of the database's table name and that are missing, and lines that cannot be used."""
    findings = []
    if PROBLEM in index:
        bad = index[index[PROBLEM] != ""]
        for record, problem in zip(bad.record[:SHOWN], bad[PROBLEM][:SHOWN], strict=True):
            findings.append(Finding("note", f"{BAD_ROW} of the table: {record}: {problem}; it will be left out"))
    headers = "path" in index and any(f"{path}.hea" in tree.files for path in index.path)
    return {f"{path}.hea" for path in index.path if f"{path}.hea" not in tree.files} if headers else set(), findings


def probe(config: PrepareConfig, index: pd.DataFrame, num: int) -> Iterator[Finding]:
    """Prepare records evenly drawn from the index, and reckon from them.

    Args:
        config: of the preparation.
        index: all rows.
        num: how many to try.
    """
    usable = index[index[PROBLEM] == ""].drop(columns=PROBLEM) if PROBLEM in index else index
    usable = usable.iloc[: config.limit].reset_index(drop=True)
    if not len(usable):
        yield Finding("WRONG", "no line of the table can be used", "look at its first lines: is it the published file?")
        return
    rows = usable.iloc[np.unique(np.linspace(0, len(usable) - 1, num).round().astype(int))]
    process_chunk(config, rows.iloc[:1])  # imports and caches are no part of the time
    started = time.perf_counter()
    chunk = process_chunk(config, rows)
    seconds = time.perf_counter() - started
    signals, features, left_out = chunk.signals, chunk.features, chunk.left_out
    failed = [item for item in left_out if item["reason"].startswith(FAILURES)]
    for item in failed[:SHOWN]:
        yield Finding("WRONG", f"{item['record']} cannot be read: {item['detail']}", "fetch its files again")
    others = Counter(item["reason"] for item in left_out if item not in failed)
    if others:
        text = ", ".join(f"{count} {reason}" for reason, count in others.items())
        yield Finding("note", f"of {len(rows)} records tried, segments would be left out: {text}")
    if not len(signals):
        yield Finding(
            "WRONG",
            f"none of {len(rows)} records tried gives a segment of {config.seconds:g} s",
            "see above, or seconds=…",
        )
        return
    yield Finding(
        "ok", f"{len(rows) - len({item['record'] for item in failed})} of {len(rows)} records tried can be read"
    )
    cores = joblib.cpu_count() if config.workers < 1 else min(config.workers, joblib.cpu_count())
    times = 2 if "amplitude" in config.exclude else 1
    reckoned = times * seconds / len(rows) * len(usable) / cores
    segments = len(signals) / len(rows) * len(usable)
    size = segments * ((signals.nbytes + features.nbytes) / len(signals) + ROW_BYTES)
    yield from tell_cost(config.out, len(usable), segments, reckoned, cores, size)


def tell_cost(out: Path, records: int, segments: float, seconds: float, cores: int, size: float) -> Iterator[Finding]:
    """What preparing takes, and whether there is room for it."""
    hours, minutes = seconds / 3600, seconds / 60
    duration = (
        f"{hours:.1f} h" if hours > 1.5 else f"{minutes:.0f} min" if minutes > 1.5 else f"{np.ceil(seconds):.0f} s"
    )
    yield Finding(
        "ok",
        f"preparing {records} records takes about {duration} on {cores} core(s) and {size / 1e9:.2f} GB ({segments:.0f} segments)",
    )
    place = next(path for path in (out, *out.parents) if path.is_dir())
    free = shutil.disk_usage(place).free
    if size > free:
        yield Finding(
            "WRONG", f"{place} has {free / 1e9:.1f} GB free, which is too little", "make room, or give another out=…"
        )


def first_source(names: Sequence[str]) -> str | None:
    """The first of these that there is."""
    return next((name for name in names if name in SOURCES), None)
