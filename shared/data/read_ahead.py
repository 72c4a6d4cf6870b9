"""The batches of an epoch in order, read by threads while the device works on those before."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from shared.data.loader import EpochBatches

WAITING = 2
"""Batches per thread that are read before they are asked for."""
GPU_THREADS = 2
"""Where nothing is said. Threads suffice: a batch is one gather of numpy's, within which others run."""


class Ahead:
    """What is left of an epoch's batches; iterate over it as often as wanted.

    Args:
        batches: item b is the whole batch b, and depends on b alone.
        first: the batch to begin with.
        threads: that read ahead; 0 reads when asked; None: two where the batches go to a GPU, else none, as a CPU that
            computes has no time to spare.
        pin_memory: for a copy to a GPU that does not block.
    """

    def __init__(self, batches: EpochBatches, first: int, threads: int | None, pin_memory: bool) -> None:
        self.batches, self.first, self.pin_memory = batches, first, pin_memory
        self.threads = (GPU_THREADS if pin_memory else 0) if threads is None else threads

    def __len__(self) -> int:
        return len(self.batches) - self.first

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        numbers = range(self.first, len(self.batches))
        if self.threads == 0:
            yield from map(self._read, numbers)
            return
        pool, waiting = ThreadPoolExecutor(self.threads, "reading ahead"), deque[Future[tuple[Tensor, Tensor]]]()
        try:
            for number in numbers:
                waiting.append(pool.submit(self._read, number))
                if len(waiting) > WAITING * self.threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # also where the training stops within an epoch
            pool.shutdown(cancel_futures=True)

    def _read(self, number: int) -> tuple[Tensor, Tensor]:
        signals, indices = self.batches[number]
        return (signals.pin_memory(), indices.pin_memory()) if self.pin_memory else (signals, indices)
