"""A store that is being written: finished shards stay where they are, so that a stopped `prepare` continues.

.NAME.unfinished/   beside the store
    store/                the store to be: its shards so far
    part-00000.parquet …  the rows of each shard
    left-out-00000.json … what was left out up to its end, and why
    progress.json         how far it is and what with; written last, so that all it names is whole
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shared.data.segments import Chunk
from shared.data.store import StoreError, feature_shard
from shared.data.writer import StoreWriter
from shared.files import sync

PROGRESS = "progress.json"


class UnfinishedStore(StoreWriter):
    """A writer that keeps what it has. Use as a context: only a failure before the first shard leaves nothing.

    Args:
        path: of the store.
        settings: how it is made; only with the same, and of the same records, it is continued.
        records: names of all records, in the order in which they are read.
        num_leads, num_samples, shard, num_features: as of `StoreWriter`.
        overwrite: begin anew where what was begun is something else.

    Attributes:
        done: records of the index that need not be read again.
        parts: files of the table.
    """

    def __init__(
        self,
        path: Path,
        settings: dict[str, Any],
        records: Sequence[str],
        num_leads: int,
        num_samples: int,
        shard: int,
        num_features: int = 0,
        overwrite: bool = False,
    ) -> None:
        super().__init__(path, num_leads, num_samples, shard, num_features)
        self.beside = path.with_name(f".{path.name}.unfinished")
        self.folder = self.beside / "store"
        named = hashlib.blake2b("\n".join(map(str, records)).encode(), digest_size=16).hexdigest()
        self.made_of: dict[str, Any] = {"settings": settings, "records": named, "number": len(records)}
        self.overwrite = overwrite
        self.done, self.parts = 0, list[Path]()
        self._rows: list[dict[str, Any]] = []
        self._left_out: list[dict[str, str]] = []
        self._read = 0

    def __enter__(self) -> UnfinishedStore:
        if not self._continue():
            shutil.rmtree(self.beside, ignore_errors=True)
            self.folder.mkdir(parents=True)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None and self.done:
            number = self.made_of["number"]
            print(f"stopped: {self.done} of {number} records are in {self.beside}; the same command continues")
        else:
            shutil.rmtree(self.beside, ignore_errors=True)
        self.report(error)

    def add_chunk(self, chunk: Chunk) -> None:
        """Append what some more records gave."""
        self._rows += chunk.rows
        self._left_out += chunk.left_out
        self._read += chunk.num_read
        self.add(chunk.signals, chunk.features)

    def left_out(self) -> Iterator[dict[str, str]]:
        """All that was left out so far."""
        for part in self.parts:
            yield from json.loads(_left_out_of(part).read_text())
        yield from self._left_out

    def flush(self) -> None:
        """Write a shard, its part of the table, and how far that is."""
        if not self._buffer:
            return
        super().flush()
        part = self.beside / f"part-{len(self.parts):05d}.parquet"
        pd.DataFrame(self._rows).to_parquet(part, index=False)
        _left_out_of(part).write_text(json.dumps(self._left_out))
        progress = {
            **self.made_of,
            "done": self.done + self._read,
            "shards": self.shards,
            "parts": [path.name for path in (*self.parts, part)],
            "portions": self._portions,
            "digest": self._digest.hexdigest(),
        }
        new = self.beside / f"{PROGRESS}.new"
        new.write_text(json.dumps(progress))
        sync(self.folder)
        sync(self.beside)
        os.replace(new, self.beside / PROGRESS)
        self.done, self._read = self.done + self._read, 0
        self.parts.append(part)
        self._rows, self._left_out = [], []

    def _continue(self) -> bool:
        """Take over what a former process finished, where it was making the same store and its shards are as it wrote them."""
        if not self.beside.is_dir():
            return False
        try:
            progress = json.loads((self.beside / PROGRESS).read_text())
            begun = {key: progress[key] for key in self.made_of}
        except (OSError, ValueError, KeyError, TypeError) as error:
            print(f"{self.beside} cannot be continued ({error}), and is begun anew")
            return False
        if begun != self.made_of:
            if not self.overwrite:
                self._refuse(begun, progress["done"])
            return False
        try:
            self.shards, self._portions = progress["shards"], progress["portions"]
            for segments in self._segments():
                self._digest.update(segments.data)
            if self._digest.hexdigest() != progress["digest"]:
                raise ValueError("its shards have changed")
        except (OSError, ValueError, KeyError, TypeError) as error:
            print(f"{self.beside} cannot be continued ({error}), and is begun anew")
            self.shards, self._portions, self._digest = [], [], hashlib.blake2b(digest_size=16)
            return False
        self.done, self.parts = progress["done"], [self.beside / name for name in progress["parts"]]
        print(f"continuing: {self.done} of {self.made_of['number']} records are in {self.beside}")
        return True

    def _refuse(self, begun: dict[str, Any], done: int) -> None:
        old, new = begun["settings"], self.made_of["settings"]
        other = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key)) or ["other records"]
        raise StoreError(
            f"{self.beside} holds {done} records of a stopped `prepare` with other settings ({', '.join(other)}). "
            "Continue with those, give another `out`, or overwrite=true to begin anew."
        )

    def _segments(self) -> Iterator[np.ndarray]:
        """The finished shards in the order and portions in which they were hashed."""
        portions = iter(self._portions)
        for name in self.shards:
            signals = np.load(self.folder / name, mmap_mode="r", allow_pickle=False)
            if not self.feature_shape[0]:
                yield np.ascontiguousarray(signals)
                continue
            features = np.load(self.folder / feature_shard(name), mmap_mode="r", allow_pickle=False)
            first = 0
            while first < len(signals):
                last = first + next(portions)
                yield from (np.ascontiguousarray(x[first:last]) for x in (signals, features))
                first = last


def _left_out_of(part: Path) -> Path:
    """The file of what was left out that belongs to a part of the table."""
    return part.with_name(part.name.replace("part", "left-out", 1)).with_suffix(".json")
