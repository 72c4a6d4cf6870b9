"""Writing a store: under a temporary name, renamed when whole."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shared.data.store import FORMAT_VERSION, MICROVOLT, PORTIONS, StoreError, feature_shard
from shared.files import replace_folder


class StoreWriter:
    """Writes a store under a temporary name; `finish` renames it. Used as a context: an exception removes what was written.

    Whoever uses it holds the store's path (`shared.files.hold`).
    """

    def __init__(self, path: Path, num_leads: int, num_samples: int, shard: int, num_features: int = 0) -> None:
        self.path = path
        self.folder = path.with_name(f".{path.name}.partial")
        self.shape, self.feature_shape = (num_leads, num_samples), (num_features, num_samples)
        self.shard = shard
        self.shards: list[str] = []
        self._buffer: list[np.ndarray] = []
        self._features: list[np.ndarray] = []
        self._portions: list[int] = []
        self._digest = hashlib.blake2b(digest_size=16)

    def __enter__(self) -> StoreWriter:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.report(error)

    def report(self, error: BaseException | None) -> None:
        """Say of an error of the disk what it means for the store."""
        if isinstance(error, OSError):
            raise StoreError(
                f"{self.path} could not be written ({error}). What was there before is as it was."
            ) from error

    def add(self, signals: np.ndarray, features: np.ndarray | None = None) -> None:
        """Append segments `[n, L, T]` int16 and, where the store has any, their features `[n, F, T]` float16."""
        if not len(signals):
            return
        if signals.shape[1:] != self.shape or signals.dtype != np.int16:
            raise AssertionError(f"segments {signals.shape} {signals.dtype} for a store of {self.shape} int16")
        self._digest.update(np.ascontiguousarray(signals).data)
        self._buffer.append(signals)
        if self.feature_shape[0]:
            if (
                features is None
                or features.shape != (len(signals), *self.feature_shape)
                or features.dtype != np.float16
            ):
                raise AssertionError(f"no features {self.feature_shape} float16 for each of {len(signals)} segments")
            self._digest.update(np.ascontiguousarray(features).data)
            self._features.append(features)
            self._portions.append(len(signals))
        if sum(map(len, self._buffer)) >= self.shard:
            self.flush()

    def finish(self, records: pd.DataFrame, meta: dict[str, Any], audit: dict[str, Any]) -> None:
        """Write the table and the descriptions, then give the store its name."""
        self.flush()
        records.to_parquet(self.folder / "records.parquet", index=False)
        self.close(len(records), meta, audit)

    def close(
        self,
        num_records: int,
        meta: dict[str, Any],
        audit: dict[str, Any],
        *,
        unit: str = "mV",
        scale: float = MICROVOLT,
    ) -> None:
        """Write the descriptions beside a table that is there, then give the store its name."""
        self._digest.update(json.dumps(meta, sort_keys=True).encode())
        meta = {
            "format_version": FORMAT_VERSION,
            "num_records": num_records,
            "fingerprint": self._digest.hexdigest(),
            "shards": self.shards,
            "unit": unit,
            "scale": scale,
            **({PORTIONS: self._portions} if self._portions else {}),
            **meta,
        }
        (self.folder / "store.json").write_text(json.dumps(meta, indent=1))
        (self.folder / "audit.json").write_text(json.dumps(audit, indent=1))
        replace_folder(self.folder, self.path)

    def flush(self) -> None:
        """Write what has been added since the last shard as a shard of its own."""
        if self._buffer:
            name = f"signals-{len(self.shards):05d}.npy"
            np.save(self.folder / name, np.concatenate(self._buffer))
            self.shards.append(name)
            self._buffer = []
            if self._features:
                np.save(self.folder / feature_shard(name), np.concatenate(self._features))
                self._features = []
