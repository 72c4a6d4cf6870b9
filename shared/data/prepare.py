"""Prepare a database once: read, check, resample, cut into segments, write a store, and audit it.

python -m shared.data.prepare configs/data/ptbxl.yaml root=/data/ptb-xl out=data/ptbxl
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from shared.config import Choice, config_from_cli, entry_point
from shared.data.audit import Audit, print_audit
from shared.data.copy_groups import Shards
from shared.data.parallel import map_in_order
from shared.data.quality import flag_amplitudes
from shared.data.records_table import write_table
from shared.data.segments import Chunk, left_out_row, names_of, process_chunk
from shared.data.sources import SOURCES
from shared.data.sources.base import BAD_ROW, PROBLEM, PrepareConfig
from shared.data.store import ECGStore, StoreError
from shared.data.unfinished import UnfinishedStore
from shared.files import clean_up, hold

OF_THE_MACHINE = {"workers", "backend", "scheduler", "chunk", "overwrite", "out"}
"""Settings that change nothing in the store."""
SINCE: dict[str, object] = {
    "resample": "fft",
    "short": "leave_out",
    "scale": None,
    "copies": "name",
    "near_copies": False,
}
"""What stores of before these settings were made with."""


def prepare(config: PrepareConfig) -> ECGStore:
    """Write the store that `config` describes and return it opened.

    An existing store made with the same settings is reused; any other is left alone unless `overwrite` is set.

    Raises:
        StoreError: `out` exists and is something else, or no record could be used.
        UserError: the database is not where `root` says, its tables lack a column, or another process prepares `out`.
    """
    settings = config.model_dump(mode="json", exclude=OF_THE_MACHINE)
    if not config.features:  # a store without is the same as it was before features could be asked for
        del settings["features"]
    if config.out.exists() and not config.overwrite:
        return _reuse(config, settings)  # from a place that may be for reading only
    with hold(config.out):
        clean_up(config.out.parent, config.out.name)
        return _prepare(config, settings)


def _prepare(config: PrepareConfig, settings: dict[str, Any]) -> ECGStore:
    if config.out.exists() and not config.overwrite:
        return _reuse(config, settings)  # what a killed process had moved aside
    if config.out.exists() and not (config.out / "store.json").is_file():
        raise StoreError(f"{config.out} exists and is not a store: overwrite=true would delete it. Give another `out`.")
    started = time.perf_counter()
    source = SOURCES[config.source]
    whole = source.index(config).iloc[: config.limit]
    index, unusable = without_problems(whole)
    num_samples = round(config.seconds * config.fs)
    shape = (len(config.leads), num_samples, config.shard, len(config.features))
    odd = _odd_segments(config, index) if "amplitude" in config.exclude else {}
    with UnfinishedStore(config.out, settings, index.record.tolist(), *shape, config.overwrite) as writer:
        for chunk in _process_all(config, index, writer.done):
            writer.add_chunk(_without(chunk, odd))
        writer.flush()
        left_out = [*unusable, *writer.left_out()]
        if not writer.parts:
            reasons = "; ".join(f"{item['record']}: {item['detail']}" for item in left_out[:3])
            raise StoreError(f"none of {len(whole)} records could be used. First: {reasons}")
        counts = Audit(source.LABELS, config.features)
        shards = Shards.open([writer.folder / name for name in writer.shards], config)
        groups = write_table(writer.parts, writer.folder / "records.parquet", source.LABELS, shards, config, counts)
        audit = counts.result(left_out, len(whole), *groups, time.perf_counter() - started)
        meta = {
            "fs": config.fs,
            "leads": list(config.leads),
            "num_samples": num_samples,
            "labels": {name: list(counted) for name, counted in audit["labels"].items()},
            "made_by": settings,
            **({"features": list(config.features)} if config.features else {}),
        }
        writer.close(counts.segments, meta, audit, unit=config.store_unit, scale=config.step)
    print_audit(audit, config.out)
    return ECGStore(config.out)


def _reuse(config: PrepareConfig, settings: dict[str, Any]) -> ECGStore:
    store = ECGStore(config.out)
    made_by = {**SINCE, **store.meta["made_by"]}
    if made_by != settings:
        other = [key for key in settings.keys() | made_by.keys() if settings.get(key) != made_by.get(key)]
        raise StoreError(
            f"{config.out} exists and was made with other settings ({', '.join(sorted(other))}). "
            "Give another `out`, or overwrite=true."
        )
    print(
        f"{config.out} is already prepared with these settings ({len(store)} segments); overwrite=true makes it anew."
    )
    return store


def without_problems(index: pd.DataFrame) -> tuple[pd.DataFrame, list[dict[str, str]]]:
    """The rows that can be read, and those whose line in the database's table cannot be used, as left out."""
    if PROBLEM not in index:
        return index.reset_index(drop=True), []
    bad = index[index[PROBLEM] != ""]
    left_out = [
        left_out_row({"record": record}, BAD_ROW, f"{record}: {problem}")
        for record, problem in zip(bad.record, bad[PROBLEM], strict=True)
    ]
    return index[index[PROBLEM] == ""].drop(columns=PROBLEM).reset_index(drop=True), left_out


def _process_all(config: PrepareConfig, index: pd.DataFrame, first: int = 0) -> Iterator[Chunk]:
    """Chunks from record `first` on, in order."""
    starts = range(first, len(index), config.chunk)
    jobs = ((config, index.iloc[start : start + config.chunk]) for start in starts)
    backend = config.backend if len(starts) > 1 else "sequential"
    with tqdm(total=len(index), initial=first, desc=f"prepare {config.source}", unit="record", disable=None) as bar:
        for chunk in map_in_order(process_chunk, jobs, backend, config.workers, config.scheduler):
            yield chunk
            bar.update(chunk.num_read)


def _without(chunk: Chunk, odd: Mapping[tuple[str, int], dict[str, str]]) -> Chunk:
    """The chunk with these segments left out."""
    keys = [(row["record"], row["segment"]) for row in chunk.rows]
    keep = [key not in odd for key in keys]
    rows = [row for row, stays in zip(chunk.rows, keep, strict=True) if stays]
    left_out = [*chunk.left_out, *(odd[key] for key in keys if key in odd)]
    return Chunk(chunk.signals[keep], chunk.features[keep], rows, left_out, chunk.num_read)


def _odd_segments(config: PrepareConfig, index: pd.DataFrame) -> dict[tuple[str, int], dict[str, str]]:
    """Segments whose amplitude is flagged, by record and number, as left out: all must be read before one can be judged."""
    plain = config.model_copy(update={"features": ()})
    keys: list[tuple[str, int]] = []
    found: list[list[float]] = []
    for chunk in _process_all(plain, index):
        keys += [(row["record"], row["segment"]) for row in chunk.rows]
        found += [row["amplitudes_mv"] for row in chunk.rows]
    flagged = flag_amplitudes(np.array(found)) if found else np.empty((0, 0), dtype=bool)
    odd = {}
    for (record, segment), leads in zip(keys, flagged, strict=True):
        if leads.any():
            detail = f"{record} segment {segment}: amplitude in {', '.join(names_of(config.leads, leads))}"
            odd[record, segment] = left_out_row({"record": record}, "amplitude", detail)
    return odd


choose_config = Choice("source", {name: source.Config for name, source in SOURCES.items()})
"""The config class of the source that the values name."""


def main(argv: Sequence[str]) -> None:
    """Entry point."""
    prepare(config_from_cli(choose_config, argv, "shared.data.prepare"))


if __name__ == "__main__":
    entry_point(main)
