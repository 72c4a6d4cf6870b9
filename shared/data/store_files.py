"""The files of a store, checked while it is opened, and against what a model takes; what is wrong with one is said by its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from shared.data.spec import InputSpec
from shared.data.store import FORMAT_VERSION, ECGStore, StoreError
from shared.leads import LeadError, lead_indices


def open_table(path: Path) -> int:
    """Rows of `records.parquet` in this store, from its footer alone: a million rows are not read to be counted.

    Raises:
        StoreError: it cannot be read, or has no record or no fold.
    """
    try:
        with pq.ParquetFile(path / "records.parquet") as file:
            rows, names = int(file.metadata.num_rows), set(file.schema_arrow.names)
    except Exception as error:  # pyarrow raises many kinds for flipped bytes
        raise unreadable(path, error) from None
    missing = [name for name in ("record", "fold") if name not in names]
    if missing:
        raise StoreError(f"the records of {path} have no {', '.join(missing)}. Prepare the store again.")
    return rows


def rows_for(store: ECGStore, spec: InputSpec) -> list[int]:
    """What `ECGStore.rows_for` does."""
    if spec.fs != store.fs:
        raise StoreError(
            f"the model takes {spec.fs:g} Hz but the store {store.path} is at {store.fs:g} Hz: prepare one with fs={spec.fs:g}."
        )
    if spec.num_samples > store.num_samples:
        raise StoreError(
            f"the model takes {spec.num_samples} samples but the store {store.path} holds segments of {store.num_samples}: "
            f"prepare one with seconds={spec.seconds:g} or more."
        )
    missing = [name for name in spec.features if name not in store.features]
    if missing:
        there = f"has only {', '.join(store.features)}" if store.features else "was prepared without features"
        raise StoreError(
            f"the model takes the features {', '.join(missing)}, but the store {store.path} {there}: prepare one with "
            f"features=[{', '.join(spec.features)}], or features=all."
        )
    try:
        leads = lead_indices(spec.leads, store.leads)
        return leads + [len(store.leads) + store.features.index(name) for name in spec.features]
    except LeadError as error:
        raise StoreError(f"the store {store.path} cannot serve the model: {error}") from None


def read_table(path: Path, columns: list[str] | None) -> pd.DataFrame:
    """These columns of `records.parquet` in this store; None reads all."""
    try:
        return pd.read_parquet(path / "records.parquet", columns=columns)
    except Exception as error:  # pyarrow raises many kinds for flipped bytes
        raise unreadable(path, error) from None


def unreadable(path: Path, error: Exception) -> StoreError:
    """What is said of a table of records that pyarrow cannot read."""
    return StoreError(f"{path / 'records.parquet'} cannot be read ({error}). Prepare the store again.")


def open_shard(path: Path, dtype: type[np.generic], shape: tuple[int, int]) -> np.ndarray:
    """One memory-mapped file of signals or features, checked against what store.json says of it."""
    try:
        shard = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy raises many kinds for a damaged header, and EOFError for an empty file
        raise StoreError(f"{path} cannot be read ({error}). Prepare the store again.") from None
    if shard.dtype != dtype or shard.shape[1:] != shape:
        raise StoreError(
            f"{path} holds {shard.dtype} {shard.shape[1:]}, store.json says {dtype.__name__} {shape}. "
            "Prepare the store again."
        )
    return shard


def read_meta(path: Path) -> dict[str, Any]:
    """`store.json`, checked.

    Raises:
        StoreError: there is no store here, or it is of another format version.
    """
    file = path / "store.json"
    if not file.is_file():
        raise StoreError(
            f"{path} is not a store (it has no store.json). Make one: python -m shared.data.prepare CONFIG out={path}"
        )
    try:
        meta = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{file} is not valid JSON ({error}). Prepare the store again.") from None
    if not isinstance(meta, dict):
        raise StoreError(f"{file} holds a {type(meta).__name__}, not an object. Prepare the store again.")
    version = meta.get("format_version")
    if version != FORMAT_VERSION:
        raise StoreError(
            f"{path} has store format {version}, this program reads {FORMAT_VERSION}. Prepare the store again."
        )
    for key, kind in REQUIRED.items():
        value = meta.get(key)
        if not isinstance(value, kind) or (kind is list and not all(isinstance(name, str) for name in value)):
            expected = {list: "a list of names", dict: "an object", str: "text"}.get(kind, "a number")
            raise StoreError(f"{file} has {key} {str(value)[:60]!r}; expected {expected}. Prepare the store again.")
    return meta


REQUIRED: dict[str, Any] = {
    "fs": int | float,
    "leads": list,
    "num_samples": int,
    "fingerprint": str,
    "shards": list,
    "made_by": dict,
}
"""What a `store.json` must have."""
