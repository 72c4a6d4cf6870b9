"""Several stores read as one, each drawn by its weight; and the order of an epoch that keeps reads near one another."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import ValidationError
from torch import Tensor

from shared.data.spec import InputSpec, StoreShare
from shared.data.store import ECGStore, StoreError

WINDOW_SHARDS = 4
"""Files whose records are shuffled together under `data.shuffle=shards`."""


def read_shares(values: Sequence[Any]) -> list[StoreShare]:
    """The entries of a list of stores, each a path or `{path, weight}`.

    Raises:
        ValueError: an empty list, an entry that is none, a weight that is not above 0, or the same store twice.
    """
    shares = []
    for number, value in enumerate(values):
        if isinstance(value, str):
            value = {"path": value}
        try:
            shares.append(StoreShare.model_validate(value))
        except ValidationError as error:
            detail = error.errors()[0]
            key = ".".join(map(str, detail["loc"]))
            raise ValueError(
                f"entry {number + 1} of the list: {key} {detail['msg']}; expected a path and a weight"
            ) from None
    if not shares:
        raise ValueError("the list of stores is empty; give at least one path")
    places = [share.path.resolve() for share in shares]
    twice = sorted({str(place) for place in places if places.count(place) > 1})
    if twice:
        raise ValueError(f"the same store stands twice: {', '.join(twice)}; give it once, with a larger weight")
    return shares


class MixedStore(ECGStore):
    """Stores one after another, with the reading interface of one: record i of the second follows the first's last.

    Leads and features are those that all of them have, in the first's order. An epoch holds `round(weight · n)` records of
    a store's n: each `floor(weight)` times, and a fraction drawn anew in each epoch once more.

    Args:
        shares: the stores and their weights.

    Attributes:
        stores: as opened.
        names: of their folders, in the log; with their place in the list where two are called the same.
        num_samples: of the shortest; windows may start anywhere in a record of its own length (`lengths`).

    Raises:
        StoreError: one cannot be opened, or their steps are worth different amounts.
    """

    def __init__(self, shares: Sequence[StoreShare]) -> None:
        self.stores = [ECGStore(share.path) for share in shares]
        called = [share.path.name for share in shares]
        self.names = [n if called.count(n) == 1 else f"{n}-{k + 1}" for k, n in enumerate(called)]
        self.weights = [share.weight for share in shares]
        first = self.stores[0]
        for store in self.stores[1:]:
            if (store.unit, store.scale) != (first.unit, first.scale):
                raise StoreError(
                    f"a step is {store.scale:g} {store.unit} in {store.path} but {first.scale:g} {first.unit} in "
                    f"{first.path}: prepare one of them again."
                )
        self.path, self.fs, self.unit, self.scale = first.path, first.fs, first.unit, first.scale
        self.leads = tuple(name for name in first.leads if all(name in store.leads for store in self.stores))
        self.features = tuple(name for name in first.features if all(name in s.features for s in self.stores))
        self.num_samples = min(store.num_samples for store in self.stores)
        self.fingerprint = "+".join(store.fingerprint for store in self.stores)
        self.resampled, self.shuffle = None, "full"
        self._firsts = np.cumsum([0] + [len(store) for store in self.stores])
        self._starts = np.concatenate(
            [[0], *(store._starts[1:] + at for store, at in zip(self.stores, self._firsts[:-1], strict=True))]
        )
        self.meta = {**first.meta, "labels": self._labels()}

    @cached_property
    def records(self) -> pd.DataFrame:
        """The rows of all stores in order."""
        return pd.concat([store.records for store in self.stores], ignore_index=True)

    @cached_property
    def fold(self) -> np.ndarray:
        """`[n]` fold of each record."""
        return np.concatenate([store.fold for store in self.stores])

    def store_of(self, indices: np.ndarray) -> np.ndarray:
        """Number of the store that each record lies in."""
        return np.searchsorted(self._firsts, indices, side="right") - 1

    def lengths(self, indices: np.ndarray) -> int | np.ndarray:
        """Samples of these records: one number where all stores have the same."""
        known = [store.num_samples for store in self.stores]
        return known[0] if len(set(known)) == 1 else np.array(known)[self.store_of(indices)]

    def order(self, indices: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The records of one epoch, drawn by weight, in the order they are read."""
        if any(weight != 1 for weight in self.weights):
            of = self.store_of(indices)
            indices = np.concatenate([draw(indices[of == k], weight, rng) for k, weight in enumerate(self.weights)])
        return super().order(indices, rng)

    def select(self, folds: Sequence[int] | None = None, most: int | None = None) -> np.ndarray:
        """As `ECGStore.select`, from each store in turn; of at most so many an even share from each.

        Raises:
            StoreError: a store has no record in these folds.
        """
        num, parts = len(self.stores), []
        for k, (store, first) in enumerate(zip(self.stores, self._firsts[:-1], strict=True)):
            share = None if most is None else most * (k + 1) // num - most * k // num
            parts.append(store.select(folds, share) + first)
        return np.concatenate(parts)

    def loss_by_store(self, indices: Tensor, losses: Sequence[Tensor | None]) -> dict[str, Tensor]:
        """`loss/<name>` and `count/loss/<name>` of this step, on the losses' device; none of an objective without `record_loss`."""
        known = [part for part in losses if part is not None]
        if not known:
            return {}
        loss = torch.cat(known).float()
        of = torch.from_numpy(self.store_of(indices.numpy())).to(loss.device, non_blocking=True)
        found: dict[str, Tensor] = {}
        for k, name in enumerate(self.names):
            inside = of == k
            found |= {f"loss/{name}": (loss * inside).sum(), f"count/loss/{name}": inside.sum().float()}
        return found

    def rows_for(self, spec: InputSpec) -> list[int]:
        """As `ECGStore.rows_for`, once every store was found able to serve the spec.

        Raises:
            StoreError: naming the store and, of another rate or too short, the command that prepares one that fits.
        """
        for store in self.stores:
            try:
                store.rows_for(spec)
            except StoreError as error:
                out = f"{store.path}_{spec.fs:g}hz_{spec.seconds:g}s"
                fits = spec.fs == store.fs and spec.num_samples <= store.num_samples
                command = f"bash scripts/prepare_data.sh CONFIG fs={spec.fs:g} seconds={spec.seconds:g} out={out}"
                raise StoreError(
                    f"{error} It is one of a list of stores." + ("" if fits else f" For example: {command}")
                ) from None
        names = (*self.leads, *self.features)
        return [names.index(name) for name in (*spec.leads, *spec.features)]

    def read_windows(
        self, indices: np.ndarray, starts: np.ndarray, length: int, rows: Sequence[int] | None = None
    ) -> np.ndarray:
        """As `ECGStore.read_windows`."""
        indices = np.where(indices < 0, indices + len(self), indices)
        if len(indices) and (indices.min() < 0 or indices.max() >= len(self)):
            raise IndexError(f"record {int(indices.max())} asked of stores of {len(self)} records.")
        lead_rows, feature_rows = self.split_rows(rows)
        names = [self.leads[row] for row in lead_rows] + [self.features[row] for row in feature_rows]
        kind = np.float32 if feature_rows else np.int16
        out = np.empty((len(indices), len(names), length), dtype=kind)
        of = self.store_of(indices)
        for k in np.unique(of):
            store, chosen = self.stores[k], np.flatnonzero(of == k)
            known = (*store.leads, *store.features)
            own = [known.index(name) for name in names]
            out[chosen] = store.read_windows(indices[chosen] - self._firsts[k], starts[chosen], length, own)
        return out

    def _labels(self) -> dict[str, list[str]]:
        """Label columns that all stores have, with the classes of any of them."""
        known = [store.meta.get("labels", {}) for store in self.stores]
        common = [column for column in known[0] if all(column in labels for labels in known)]
        return {column: list(dict.fromkeys(name for labels in known for name in labels[column])) for column in common}


def draw(indices: np.ndarray, weight: float, rng: np.random.Generator) -> np.ndarray:
    """`round(weight · n)` of n records: each `floor(weight)` times or once more, the ones drawn at random."""
    whole = int(weight)
    rest = round(weight * len(indices)) - whole * len(indices)
    return np.concatenate([np.tile(indices, whole), rng.choice(indices, rest, replace=False)])


def order_by_shards(indices: np.ndarray, shard_of: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Files in random order, `WINDOW_SHARDS` at a time, and the records of these shuffled among them.

    Args:
        indices: `[n]` records of an epoch.
        shard_of: `[n]` their files.
        rng: of the epoch.
    """
    shards, where = np.unique(shard_of, return_inverse=True)
    window = rng.permutation(len(shards))[where] // WINDOW_SHARDS
    shuffled = rng.permutation(len(indices))
    return indices[shuffled][np.argsort(window[shuffled], kind="stable")]
