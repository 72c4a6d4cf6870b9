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

import json
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
        records: DataFrame, one row per segment, row i belonging to signal i.
        fingerprint: changes with any signal or setting.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = repo_path(path)
        meta = _read_meta(self.path)
        self.meta = meta
        self.fs: float = float(meta["fs"])
        self.leads: tuple[str, ...] = tuple(meta["leads"])
        self.unit: str = meta.get("unit", "mV")
        self.scale = float(meta.get("scale", MICROVOLT))
        self.features: tuple[str, ...] = tuple(meta.get("features", ()))
        self.num_samples: int = int(meta["num_samples"])
        self.resampled: Any = None
        self.fingerprint: str = meta["fingerprint"]
        try:
            self.records = pd.read_parquet(self.path / "records.parquet")
        except Exception as error:  # pyarrow raises many kinds for flipped bytes
            raise StoreError(
                f"{self.path / 'records.parquet'} cannot be read ({error}). Prepare the store again."
            ) from None
        missing = [name for name in ("record", "fold") if name not in self.records]
        if missing:
            raise StoreError(f"the records of {self.path} have no {', '.join(missing)}. Prepare the store again.")
        shape = (len(self.leads), self.num_samples)
        self._shards = [_open_shard(self.path / name, np.int16, shape) for name in meta["shards"]]
        shape = (len(self.features), self.num_samples)
        names = [feature_shard(name) for name in meta["shards"]] if self.features else []
        self._feature_shards = [_open_shard(self.path / name, np.float16, shape) for name in names]
        self._starts = np.cumsum([0] + [len(shard) for shard in self._shards])
        lengths = {tuple(map(len, shards)) for shards in (self._shards, self._feature_shards or self._shards)}
        if self._starts[-1] != len(self.records) or len(lengths) > 1:
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
        # A slice copies whole rows at memory speed; a list of rows gathers and is needed only for a real subset.
        chosen: Any = slice(None) if rows == list(range(num)) else rows
        out = np.empty((len(indices), len(rows), length), dtype=shards[0].dtype)
        shard_of = np.searchsorted(self._starts, indices, side="right") - 1
        for i, (index, shard, start) in enumerate(zip(indices, shard_of, starts, strict=True)):
            out[i] = shards[shard][index - self._starts[shard], chosen, start : start + length]
        return out

    def rows_for(self, spec: InputSpec) -> list[int]:
        """Rows of the spec's leads and then of its features, after checking that this store can serve the spec.

        Raises:
            StoreError: another sampling rate, too short, or a lead or feature is missing.
        """
        if spec.fs != self.fs:
            raise StoreError(
                f"the model takes {spec.fs:g} Hz but the store {self.path} is at {self.fs:g} Hz: prepare one with fs={spec.fs:g}."
            )
        if spec.num_samples > self.num_samples:
            raise StoreError(
                f"the model takes {spec.num_samples} samples but the store {self.path} holds segments of {self.num_samples}: "
                f"prepare one with seconds={spec.seconds:g} or more."
            )
        missing = [name for name in spec.features if name not in self.features]
        if missing:
            there = f"has only {', '.join(self.features)}" if self.features else "was prepared without features"
            raise StoreError(
                f"the model takes the features {', '.join(missing)}, but the store {self.path} {there}: prepare one with "
                f"features=[{', '.join(spec.features)}], or features=all."
            )
        try:
            leads = lead_indices(spec.leads, self.leads)
            return leads + [len(self.leads) + self.features.index(name) for name in spec.features]
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


def feature_shard(name: str) -> str:
    """Name of the features' file that belongs to a signals' file."""
    return name.replace("signals", "features", 1)


def _open_shard(path: Path, dtype: type[np.generic], shape: tuple[int, int]) -> np.ndarray:
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
