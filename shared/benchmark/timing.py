"""Seconds of work in turns with the machine's own matrix product, and peak memory."""

from __future__ import annotations

import math
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def drain(device: torch.device) -> None:
    """Wait for the device's queue."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(work: Callable[[], object], times: int, device: torch.device) -> float:
    """Seconds of one call, of so many in a row."""
    drain(device)
    start = time.perf_counter()
    for _ in range(times):
        work()
    drain(device)
    return (time.perf_counter() - start) / times


def repeats(work: Callable[[], object], least: float, device: torch.device) -> int:
    """How often work must be done to take so many seconds; it is done once or twice to know, which warms it up."""
    took = timed(work, 1, device)
    if took < least:
        took = timed(work, 1, device)  # the first one may have built something
    return max(1, math.ceil(least / max(took, 1e-6)))


class Product:
    """The plain matrix product that the others are measured against, by the library that does the models' products.

    Args:
        side: of the square matrices; large enough that nothing but the arithmetic counts.
        precision: of the operands; fp32 on CUDA is TF32, as in training.
        least: seconds of a measurement.
    """

    def __init__(self, side: int, precision: str, device: torch.device, least: float) -> None:
        self.flops, self.device = 2.0 * side**3, device
        self.left, self.right = (torch.randn(side, side, device=device, dtype=DTYPES[precision]) for _ in range(2))
        self.times = repeats(self._multiply, least, device)

    def _multiply(self) -> torch.Tensor:
        return self.left @ self.right

    def rate(self) -> float:
        """FLOP/s just now."""
        return self.flops / timed(self._multiply, self.times, self.device)


@dataclass(frozen=True)
class Measured:
    """Medians over the rounds.

    Attributes:
        seconds: of one call.
        rate: useful FLOP/s.
        share: of the product's rate, that measured just before and just after, so that other load falls on both.
        shares: of every round.
        product: FLOP/s of the plain product.
    """

    seconds: float
    rate: float
    share: float
    shares: tuple[float, ...]
    product: float


def measure(work: Callable[[], float], product: Product, rounds: int, least: float) -> Measured:
    """Work and product in turns.

    Args:
        work: one call; returns its useful FLOPs.
    """
    device, times = product.device, repeats(work, least, product.device)
    seconds, rates, shares, products = [], [], [], [product.rate()]
    for _ in range(rounds):
        done: list[float] = []
        took = timed(lambda done=done: done.append(work()), times, device)  # type: ignore[misc]
        products.append(product.rate())
        seconds.append(took)
        rates.append(statistics.mean(done) / took)
        shares.append(rates[-1] / statistics.mean(products[-2:]))
    middle = statistics.median
    return Measured(middle(seconds), middle(rates), middle(shares), tuple(shares), middle(products))


def reset_peak(device: torch.device) -> None:
    """Forget the highest use of memory so far, where the system can."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_bytes(device: torch.device) -> int:
    """The highest use of memory since `reset_peak`: of tensors on a GPU, of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
