"""Batches that threads read ahead are those that are read when asked for, in their order; errors and stops end the threads."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest
import torch

from shared.data.loader import EpochBatches
from shared.data.read_ahead import GPU_THREADS, WAITING, Ahead


class Batches:
    """Twenty batches that say when they are read, and wait to be let."""

    def __init__(self, broken: int = -1) -> None:
        self.broken, self.begun = broken, [threading.Event() for _ in range(20)]
        self.gate = threading.Event()
        self.gate.set()

    def __len__(self) -> int:
        return 20

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        self.begun[number].set()
        assert self.gate.wait(30)
        if number == self.broken:
            raise OSError("the store is gone")
        return torch.full((2,), number), torch.tensor([number])


def ahead(batches: Batches, first: int = 0, threads: int | None = 2, pin_memory: bool = False) -> Ahead:
    return Ahead(cast(EpochBatches, batches), first, threads, pin_memory)


def readers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("reading ahead")]


@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize("first", [0, 7, 19, 20])
def test_order_and_place_are_kept(threads: int, first: int) -> None:
    batches = ahead(Batches(), first, threads)
    for _ in range(2):
        assert [int(indices) for _, indices in batches] == list(range(first, 20))
    assert len(batches) == 20 - first and not readers()


def test_they_are_read_before_they_are_asked_for_and_not_more() -> None:
    batches = Batches()
    found = iter(ahead(batches, threads=2))
    next(found)
    for number in range(2 * WAITING + 1):
        assert batches.begun[number].wait(30)
    assert not batches.begun[2 * WAITING + 1].is_set()  # memory holds no more
    cast(Any, found).close()
    assert not readers()


def test_without_threads_nothing_is_read_before() -> None:
    batches = Batches()
    next(iter(ahead(batches, threads=0)))
    assert batches.begun[0].is_set() and not batches.begun[1].is_set()


def test_an_error_comes_in_its_turn_and_ends_the_threads() -> None:
    seen = []
    with pytest.raises(OSError, match="the store is gone"):
        for _, indices in ahead(Batches(broken=5)):
            seen.append(int(indices))
    assert seen == [0, 1, 2, 3, 4] and not readers()


def test_a_gpu_gets_threads_and_a_cpu_none() -> None:
    assert ahead(Batches(), threads=None).threads == 0
    assert ahead(Batches(), threads=None, pin_memory=True).threads == GPU_THREADS
    assert ahead(Batches(), threads=0, pin_memory=True).threads == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_batches_for_a_gpu_are_pinned() -> None:
    assert all(signals.is_pinned() for signals, _ in ahead(Batches(), threads=None, pin_memory=True))
