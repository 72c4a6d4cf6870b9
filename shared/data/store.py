"""The store: what training reads. int16 signals at 1 µV a step, memory-mapped, beside a table of records.

    signals-00000.npy …   int16 [record, lead, sample]
    records.parquet       one row per segment: source, record, segment, patient, age, sex, fold, labels, quality flags
    store.json            format version, fs, leads, length, how it was made, a fingerprint
    audit.json            what was read, left out and why

It is written under a temporary name and renamed when whole, so a store that exists is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shared.config import repo_path
from shared.data.spec import InputSpec
from shared.errors import UserError
from shared.leads import LeadError, lead_indices

FORMAT_VERSION = 1
MICROVOLT = 1e-3
"""Millivolt per step of the stored integers."""


class StoreError(UserError):
    """A store is missing, damaged, of another format, or cannot serve what was asked of it."""


class ECGStore:
    """A prepared store, opened for reading.

    Attributes:
        fs: Hz.
        leads: names of the rows of every signal.
        num_samples: samples per segment.
        records: DataFrame, one row per segment, row i belonging to signal i.
        fingerprint: changes with any signal or setting.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = repo_path(path)
        meta = _read_meta(self.path)
        self.meta = meta
        self.fs: float = float(meta["fs"])
        self.leads: tuple[str, ...] = tuple(meta["leads"])
        self.num_samples: int = int(meta["num_samples"])
        self.fingerprint: str = meta["fingerprint"]
        try:
            self.records = pd.read_parquet(self.path / "records.parquet")
        except (OSError, ValueError) as error:
            raise StoreError(
                f"{self.path / 'records.parquet'} cannot be read ({error}). Prepare the store again."
            ) from None
        self._shards = [_open_shard(self.path / name, self.leads, self.num_samples) for name in meta["shards"]]
        self._starts = np.cumsum([0] + [len(shard) for shard in self._shards])
        if self._starts[-1] != len(self.records):
            raise StoreError(
                f"{self.path} is damaged: {self._starts[-1]} signals for {len(self.records)} rows. Prepare it again."
            )

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> np.ndarray:
        """Signal `[L, T]` int16, in µV."""
        return self.read([index])[0]

    def read(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Signals `[n, L, T]` int16, in µV, in the order asked."""
        indices = np.asarray(indices, dtype=np.int64)
        return self.read_windows(indices, np.zeros(len(indices), dtype=np.int64), self.num_samples)

    def read_windows(
        self, indices: np.ndarray, starts: np.ndarray, length: int, rows: Sequence[int] | None = None
    ) -> np.ndarray:
        """One window of each record.

        Args:
            indices: `[n]` records; negative ones count from the end.
            starts: `[n]` first samples.
            length: samples per window.
            rows: lead rows to take, in order; None takes all.

        Returns:
            `[n, len(rows), length]` int16, in µV.

        Raises:
            IndexError: a record or a window lies outside the store.
        """
        indices = np.where(indices < 0, indices + len(self), indices)
        if len(indices) and (indices.min() < 0 or indices.max() >= len(self)):
            raise IndexError(f"record {int(indices.max())} asked of a store of {len(self)} records ({self.path}).")
        if len(starts) and (starts.min() < 0 or starts.max() + length > self.num_samples):
            raise IndexError(f"a window of {length} samples reaches beyond the stored {self.num_samples} samples.")
        # A slice copies whole rows at memory speed; a list of rows gathers and is needed only for a real subset.
        lead_rows: Any = slice(None) if rows is None or list(rows) == list(range(len(self.leads))) else list(rows)
        num_leads = len(self.leads) if rows is None else len(rows)
        out = np.empty((len(indices), num_leads, length), dtype=np.int16)
        shard_of = np.searchsorted(self._starts, indices, side="right") - 1
        for i, (index, shard, start) in enumerate(zip(indices, shard_of, starts, strict=True)):
            out[i] = self._shards[shard][index - self._starts[shard], lead_rows, start : start + length]
        return out

    def rows_for(self, spec: InputSpec) -> list[int]:
        """Rows of the spec's leads, after checking that this store can serve the spec.

        Raises:
            StoreError: another sampling rate, too short, or a lead is missing.
        """
        if spec.fs != self.fs:
            raise StoreError(
                f"the model takes {spec.fs:g} Hz but the store {self.path} is at {self.fs:g} Hz: prepare one with fs={spec.fs:g}."
            )
        if spec.num_samples > self.num_samples:
            raise StoreError(
                f"the model takes {spec.num_samples} samples but the store {self.path} holds segments of {self.num_samples}: "
                f"prepare one with seconds={spec.num_samples / spec.fs:g} or more."
            )
        try:
            return lead_indices(spec.leads, self.leads)
        except LeadError as error:
            raise StoreError(f"the store {self.path} cannot serve the model: {error}") from None

    def select(self, folds: Sequence[int] | None = None) -> np.ndarray:
        """Indices of the records in these folds, in order; None takes all.

        Raises:
            StoreError: no record is in them.
        """
        if folds is None:
            return np.arange(len(self))
        chosen = np.flatnonzero(self.records.fold.isin(list(folds)))
        if not len(chosen):
            there = ", ".join(map(str, sorted(self.records.fold.unique())))
            raise StoreError(f"no record of {self.path} is in fold(s) {list(folds)}; its folds are {there}.")
        return chosen


class StoreWriter:
    """Writes a store under a temporary name; `finish` renames it. Used as a context: an exception removes what was written."""

    def __init__(self, path: Path, num_leads: int, num_samples: int, shard: int) -> None:
        self.path = path
        self.folder = path.with_name(f".{path.name}.partial-{os.getpid()}")
        self.shape = (num_leads, num_samples)
        self.shard = shard
        self.shards: list[str] = []
        self._buffer: list[np.ndarray] = []
        self._digest = hashlib.blake2b(digest_size=16)

    def __enter__(self) -> StoreWriter:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise StoreError(f"{self.path} could not be written ({error}); nothing of it is left.") from error

    def add(self, signals: np.ndarray) -> None:
        """Append segments `[n, L, T]` int16."""
        if not len(signals):
            return
        if signals.shape[1:] != self.shape or signals.dtype != np.int16:
            raise AssertionError(f"segments {signals.shape} {signals.dtype} for a store of {self.shape} int16")
        self._digest.update(np.ascontiguousarray(signals).data)
        self._buffer.append(signals)
        if sum(map(len, self._buffer)) >= self.shard:
            self._flush()

    def finish(self, records: pd.DataFrame, meta: dict[str, Any], audit: dict[str, Any]) -> None:
        """Write the table and the descriptions, then give the store its name."""
        self._flush()
        records.to_parquet(self.folder / "records.parquet", index=False)
        self._digest.update(json.dumps(meta, sort_keys=True).encode())
        meta = {
            "format_version": FORMAT_VERSION,
            "num_records": len(records),
            "fingerprint": self._digest.hexdigest(),
            "shards": self.shards,
            **meta,
        }
        (self.folder / "store.json").write_text(json.dumps(meta, indent=1))
        (self.folder / "audit.json").write_text(json.dumps(audit, indent=1))
        old = self.path.with_name(f".{self.path.name}.old-{os.getpid()}")
        if self.path.exists():
            os.replace(self.path, old)
        os.replace(self.folder, self.path)
        shutil.rmtree(old, ignore_errors=True)

    def _flush(self) -> None:
        if self._buffer:
            name = f"signals-{len(self.shards):05d}.npy"
            np.save(self.folder / name, np.concatenate(self._buffer))
            self.shards.append(name)
            self._buffer = []


def _open_shard(path: Path, leads: Sequence[str], num_samples: int) -> np.ndarray:
    """One memory-mapped signal file, checked against what store.json says of it."""
    try:
        shard = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read ({error}). Prepare the store again.") from None
    if shard.dtype != np.int16 or shard.shape[1:] != (len(leads), num_samples):
        raise StoreError(
            f"{path} holds {shard.dtype} {shard.shape[1:]}, store.json says int16 {(len(leads), num_samples)}. "
            "Prepare the store again."
        )
    return shard


def _read_meta(path: Path) -> dict[str, Any]:
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
        meta = json.loads(file.read_text())
    except json.JSONDecodeError as error:
        raise StoreError(f"{file} is not valid JSON ({error}). Prepare the store again.") from None
    version = meta.get("format_version")
    if version != FORMAT_VERSION:
        raise StoreError(
            f"{path} has store format {version}, this program reads {FORMAT_VERSION}. Prepare the store again."
        )
    return dict(meta)
