"""Batches from a store. Each batch depends on (seed, epoch, batch number) alone, so a resumed run continues exactly."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from shared.data.spec import InputSpec
from shared.data.store import ECGStore
from shared.data.transforms import even_starts
from shared.errors import UserError

if TYPE_CHECKING:
    from shared.data.read_ahead import Ahead


class EpochBatches(Dataset[tuple[Tensor, Tensor]]):
    """The batches of one epoch: item b is the whole batch b, `(signals [n, L, T] int16, record indices [n])`.

    Where the spec has features, signals are `[n, L + F, T]` float32, as `ECGStore.read_windows` gives them; so below.
    Records are shuffled over all ranks and dealt out by rank; an incomplete last batch is left out, so that every step
    of every rank has the same size. Windows start at a random sample.

    Args:
        store: where the signals are.
        indices: the records to draw from.
        spec: leads and window length.
        batch_size: per rank.
        seed, epoch: what the shuffle and the windows depend on.
        rank, world_size: this process and their number.

    Raises:
        UserError: fewer records than one batch on all ranks.
    """

    def __init__(
        self,
        store: ECGStore,
        indices: np.ndarray,
        spec: InputSpec,
        batch_size: int,
        *,
        seed: int,
        epoch: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.store, self.spec = store, spec
        self.rows = store.rows_for(spec)
        rng = np.random.default_rng([seed, epoch])
        order = store.order(indices, rng)
        num_batches = len(order) // (batch_size * world_size)
        if num_batches == 0:
            raise UserError(
                f"{len(order)} records are fewer than one batch of {batch_size} on {world_size} process(es). "
                "Lower the batch size or use more records."
            )
        order = order[: num_batches * batch_size * world_size]
        self.batches = order.reshape(num_batches, world_size * batch_size)
        self.stream = [seed, epoch, 0]
        self.own = slice(rank * batch_size, (rank + 1) * batch_size)

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, batch: int) -> tuple[Tensor, Tensor]:
        whole, indices = self.batches[batch], self.batches[batch, self.own]
        rng = np.random.default_rng([*self.stream, batch])
        # Drawn for all ranks, so that a record's window does not depend on how many there are.
        starts = rng.integers(0, self.store.lengths(whole) - self.spec.num_samples + 1, len(whole))[self.own]
        signals = self.store.read_windows(indices, starts, self.spec.num_samples, self.rows)
        return torch.from_numpy(signals), torch.from_numpy(indices)


class TrainingBatches:
    """The batches of every epoch of a training, for `Run.epochs`: called with the epoch and the first batch wanted.

    Args:
        store, indices, spec, batch_size, seed, rank, world_size: as of `EpochBatches`.
        num_workers: threads reading ahead; None: as of `Ahead`.
        pin_memory: for a copy to a GPU that does not block.

    Attributes:
        steps: batches in an epoch.
    """

    def __init__(
        self,
        store: ECGStore,
        indices: np.ndarray,
        spec: InputSpec,
        batch_size: int,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int | None = 0,
        pin_memory: bool = False,
    ) -> None:
        if world_size > 1:
            from shared.ranks import require_alike

            require_alike("the store", store.fingerprint)
        self._of = partial(EpochBatches, store, indices, spec, batch_size, seed=seed, rank=rank, world_size=world_size)
        self.num_workers, self.pin_memory = num_workers, pin_memory
        self.steps = len(self._of(epoch=0))

    def __call__(self, epoch: int, first: int = 0) -> Ahead:
        """Batches of the epoch from batch `first` on."""
        return train_batches(self._of(epoch=epoch), first, self.num_workers, self.pin_memory)


def train_batches(
    batches: EpochBatches, first: int = 0, num_workers: int | None = 0, pin_memory: bool = False
) -> Ahead:
    """Iterate over an epoch's batches from batch `first` on, read ahead by `num_workers` threads, as of `Ahead`."""
    from shared.data.read_ahead import Ahead  # only where something is read

    return Ahead(batches, first, num_workers, pin_memory)


def eval_batches(
    store: ECGStore, indices: np.ndarray, spec: InputSpec, batch_size: int, num_crops: int = 1
) -> Iterator[Tensor]:
    """Evenly spaced windows of the records in order.

    Yields:
        `[n, num_crops, L, T]` int16, at most `batch_size` records at a time.
    """
    rows = store.rows_for(spec)
    starts = even_starts(store.num_samples, spec.num_samples, num_crops)
    for first in range(0, len(indices), batch_size):
        chosen = np.asarray(indices[first : first + batch_size])
        crops = [store.read_windows(chosen, np.full(len(chosen), start), spec.num_samples, rows) for start in starts]
        yield torch.from_numpy(np.stack(crops, axis=1))


def read_validation(store: ECGStore, spec: InputSpec, folds: tuple[int, ...] | None, most: int = 512) -> Tensor:
    """The middle windows of up to `most` records of these folds, `[n, L, T]` int16; none for `folds=None`.

    A few hundred records give a loss with three digits; more would only cost time each epoch.
    """
    if folds is None:
        return torch.empty(0, len(spec.leads) + len(spec.features), spec.num_samples, dtype=torch.int16)
    indices = store.select(folds, most)
    return torch.cat(list(eval_batches(store, indices, spec, most)))[:, 0]
