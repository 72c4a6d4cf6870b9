"""The store: what training reads. int16 signals at 1 µV a step, memory-mapped, beside a table of records.

    signals-00000.npy …   int16 [record, lead, sample]
    features-00000.npy …  float16 [record, feature, sample], NaN where missing; only where features were asked for
    records.parquet       one row per segment: source, record, segment, patient, age, sex, fold, labels, quality flags,
                          and with features their single values as feature_…, the lead they were measured in, notes
    store.json            format version, fs, leads, length, how it was made, a fingerprint
    audit.json            what was read, left out and why

It is written under a temporary name and renamed when whole, so a store that exists is complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view

from shared.config import repo_path
from shared.data.spec import DataConfig, InputSpec
from shared.errors import UserError

if TYPE_CHECKING:
    import torch

FORMAT_VERSION = 1
MICROVOLT = 1e-3
"""Millivolt per step of the stored integers, where the store does not say otherwise."""


PORTIONS = "portions"
"""Key of store.json, where there are features: how many segments were hashed at a time, each before their features."""
BESIDE_META = ("format_version", "num_records", "fingerprint", "shards", "unit", "scale", PORTIONS)
"""Keys of store.json that `StoreWriter` adds and the fingerprint does not cover."""


class StoreError(UserError):
    """A store is missing, damaged, of another format, or cannot serve what was asked of it."""


class ECGStore:
    """A prepared store, opened for reading.

    Attributes:
        fs: Hz.
        leads: names of the rows of every signal.
        features: names of the measurements beside them, in the units of `shared.features.FEATURES`; often none.
        unit, scale: what the numbers mean: one step of the integers is `scale` of the `unit`.
        num_samples: samples per segment.
        resampled: what reads the signals where they are served at another rate than stored (`shared.data.resampled`).
        shuffle: how `order` mixes the records of an epoch.
        fingerprint: changes with any signal or setting.
    """

    def __init__(self, path: str | Path) -> None:
        from shared.data.store_files import open_shard, open_table, read_meta  # what opening checks, file by file

        self.path = repo_path(path)
        meta = read_meta(self.path)
        self.meta = meta
        self.fs: float = float(meta["fs"])
        self.leads: tuple[str, ...] = tuple(meta["leads"])
        self.unit: str = meta.get("unit", "mV")
        self.scale = float(meta.get("scale", MICROVOLT))
        self.features: tuple[str, ...] = tuple(meta.get("features", ()))
        self.num_samples: int = int(meta["num_samples"])
        self.resampled: Any = None
        self.shuffle = "full"
        self.fingerprint: str = meta["fingerprint"]
        shape = (len(self.leads), self.num_samples)
        self._shards = [open_shard(self.path / name, np.int16, shape) for name in meta["shards"]]
        shape = (len(self.features), self.num_samples)
        names = [feature_shard(name) for name in meta["shards"]] if self.features else []
        self._feature_shards = [open_shard(self.path / name, np.float16, shape) for name in names]
        self._starts = np.cumsum([0] + [len(shard) for shard in self._shards])
        lengths = {tuple(map(len, shards)) for shards in (self._shards, self._feature_shards or self._shards)}
        rows = open_table(self.path)
        if self._starts[-1] != rows or len(lengths) > 1:
            raise StoreError(f"{self.path} is damaged: {self._starts[-1]} signals for {rows} rows. Prepare it again.")

    @cached_property
    def records(self) -> pd.DataFrame:
        """One row per segment, row i belonging to signal i; read when first asked for, as training needs `fold` alone."""
        return self._table(None)

    @cached_property
    def fold(self) -> np.ndarray:
        """`[n]` fold of each record."""
        return self._table(["fold"]).fold.to_numpy()

    def _table(self, columns: list[str] | None) -> pd.DataFrame:
        from shared.data.store_files import read_table

        return read_table(self.path, columns)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def lengths(self, indices: np.ndarray) -> int | np.ndarray:
        """Samples of these records: one number where all have the same."""
        return self.num_samples

    def shard_of(self, indices: np.ndarray) -> np.ndarray:
        """Number of the file that each record lies in."""
        return np.searchsorted(self._starts, indices, side="right") - 1

    def loss_by_store(self, indices: torch.Tensor, losses: Sequence[torch.Tensor | None]) -> dict[str, torch.Tensor]:
        """Sums for `Epoch.add` that become the mean loss of each store of several; of one it is the epoch's."""
        return {}

    def order(self, indices: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The records of one epoch in the order they are read; `DataConfig.shuffle` says how they are mixed."""
        if self.shuffle == "full":
            return rng.permutation(indices)
        from shared.data.mixed import order_by_shards

        return order_by_shards(indices, self.shard_of(indices), rng)

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
            rows: lead rows to take, in order, then feature rows (counted on from the leads); None takes all leads.

        Returns:
            `[n, len(rows), length]`: int16 in µV; with features float32, the leads in mV and missing samples NaN.

        Raises:
            IndexError: a record or a window lies outside the store.
        """
        indices = np.where(indices < 0, indices + len(self), indices)
        if len(indices) and (indices.min() < 0 or indices.max() >= len(self)):
            raise IndexError(f"record {int(indices.max())} asked of a store of {len(self)} records ({self.path}).")
        if len(starts) and (starts.min() < 0 or starts.max() + length > self.num_samples):
            raise IndexError(f"a window of {length} samples reaches beyond the stored {self.num_samples} samples.")
        lead_rows, feature_rows = self.split_rows(rows)
        if self.resampled is not None:
            return np.asarray(self.resampled.read(lead_rows, feature_rows, indices, starts, length))
        signals = self._read(self._shards, len(self.leads), lead_rows, indices, starts, length)
        if not feature_rows:
            return signals
        features = self._read(self._feature_shards, len(self.features), feature_rows, indices, starts, length)
        out = np.empty((len(indices), len(lead_rows) + len(feature_rows), length), dtype=np.float32)
        np.multiply(signals, np.float32(self.scale), out=out[:, : len(lead_rows)])
        out[:, len(lead_rows) :] = features
        return out

    def read_features(self, indices: np.ndarray) -> np.ndarray:
        """Features `[n, F, T]` float16 of these records as they are stored."""
        rows = list(range(len(self.features)))
        return self._read(self._feature_shards, len(rows), rows, indices, indices * 0, self.num_samples)

    def split_rows(self, rows: Sequence[int] | None) -> tuple[list[int], list[int]]:
        """Rows as `read_windows` takes them: those of the leads, and those of the features counted from 0.

        Raises:
            IndexError: a row that is not there, or a lead after a feature.
        """
        num_leads, num = len(self.leads), len(self.leads) + len(self.features)
        rows = list(range(num_leads)) if rows is None else list(rows)
        lead_rows = [row for row in rows if row < num_leads]
        feature_rows = [row - num_leads for row in rows[len(lead_rows) :]]
        if rows and (min(rows) < 0 or max(rows) >= num or (feature_rows and min(feature_rows) < 0)):
            raise IndexError(
                f"rows {rows} asked of {num_leads} leads, then {len(self.features)} features ({self.path})."
            )
        return lead_rows, feature_rows

    def _read(
        self, shards: list[np.ndarray], num: int, rows: list[int], indices: np.ndarray, starts: np.ndarray, length: int
    ) -> np.ndarray:
        """Windows `[n, len(rows), length]` of shards `[record, num, sample]`."""
        shard_of = self.shard_of(indices)
        asked = np.unique(shard_of)
        chosen: Any = slice(None) if rows == list(range(num)) else np.array(rows, dtype=np.int64)

        def gather(shard: int, of: Any) -> np.ndarray:
            windows = sliding_window_view(shards[shard], length, axis=2)  # [record, num, start, length], nothing copied
            records, first = indices[of] - self._starts[shard], starts[of]
            if isinstance(chosen, slice):  # all rows of a record lie together
                return np.asarray(windows[records, :, first])
            return np.asarray(windows[records[:, None], chosen, first[:, None]])

        if len(asked) == 1:
            return gather(asked[0], slice(None))
        out = np.empty((len(indices), len(rows), length), dtype=shards[0].dtype)
        for shard in asked:
            of = np.flatnonzero(shard_of == shard)
            out[of] = gather(shard, of)
        return out

    def rows_for(self, spec: InputSpec) -> list[int]:
        """Rows of the spec's leads and then of its features, after checking that this store can serve the spec.

        Raises:
            StoreError: another sampling rate, too short, or a lead or feature is missing.
        """
        from shared.data.store_files import rows_for

        return rows_for(self, spec)

    def select(self, folds: Sequence[int] | None = None, most: int | None = None) -> np.ndarray:
        """Indices of the records in these folds, in order; None takes all; at most so many.

        Raises:
            StoreError: no record is in them.
        """
        if folds is None:
            return np.arange(len(self))[:most]
        chosen = np.flatnonzero(np.isin(self.fold, list(folds)))
        if not len(chosen):
            there = ", ".join(map(str, np.unique(self.fold)))
            raise StoreError(f"no record of {self.path} is in fold(s) {list(folds)}; its folds are {there}.")
        return chosen[:most]


def open_store(data: DataConfig, spec: InputSpec | None = None) -> ECGStore:
    """What a training reads: one store, or a list of them as one.

    Raises:
        StoreError: one cannot be opened, or cannot serve the spec, where one is given.
    """
    if isinstance(data.store, list):
        from shared.data.mixed import MixedStore

        store: ECGStore = MixedStore(data.store)
    else:
        store = ECGStore(data.store)
    store.shuffle = data.shuffle
    if spec is not None:
        store.rows_for(spec)
    return store


def feature_shard(name: str) -> str:
    """Name of the features' file that belongs to a signals' file."""
    return name.replace("signals", "features", 1)
