"""Training steps and embeddings of one case, made as a run makes them: the same wrapping, autocast, optimizer and update."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from typing import Any

import torch
from torch import Tensor

from shared.benchmark.config import BenchmarkConfig
from shared.benchmark.timing import Measured, Product, measure, peak_bytes, reset_peak
from shared.benchmark.workload import Maker, Workload
from shared.optim import make_optimizer
from shared.run import Run

MASKS = 7
"""Drawn ahead and taken in turns; their lengths differ."""


@dataclass(frozen=True)
class Case:
    """One line of the table.

    Attributes:
        part: step or encode.
        variant: `plain`, or `key=value` of the model's config.
    """

    part: str
    model: str
    size: str
    seconds: float | None
    batch: int
    precision: str
    compiled: bool
    variant: str = "plain"
    processes: int = 1


def model_values(case: Case) -> dict[str, Any]:
    """Values of the model's config."""
    values: dict[str, Any] = {"size": case.size}
    if case.seconds is not None:
        values["input"] = {"seconds": case.seconds}
    if case.variant != "plain":
        key, _, value = case.variant.partition("=")
        values[key] = value
    return values


class Trainer:
    """A model with its optimizer, one step at a time on the same batch.

    Args:
        case: what is made; on several processes `batch` is each one's.
        config: the benchmark's.
        maker: of the model.
    """

    def __init__(self, case: Case, config: BenchmarkConfig, maker: Maker) -> None:
        self.run = Run(config.run(case.precision, case.compiled), config, "benchmark")
        torch.manual_seed(0)
        self.work: Workload = maker(model_values(case))
        self.model = self.work.model.train()
        self.wrapped = self.run.wrap(self.model)
        self.optimizer = make_optimizer(self.model, self.work.optim)
        self.batch = case.batch
        self.ecg = self.work.ecg(case.batch, self.run.device)
        self.drawn: Iterator[Tensor] = self._draws()

    def _draws(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(0)
        drawn = [self.work.draw(self.batch, generator) for _ in range(MASKS)]
        # Noise is drawn on the device in a run, a mask on the CPU.
        return cycle([one.to(self.run.device) if one.is_floating_point() else one for one in drawn])

    def step(self, ecg: Tensor | None = None) -> float:
        """One optimizer step; its useful FLOPs."""
        drawn = next(self.drawn)
        flops = self.work.step_flops(self.batch, drawn)
        with self.run.autocast():
            loss = self.wrapped(self.ecg if ecg is None else ecg, drawn).loss
        self.run.scaler.scale(loss).backward()
        self.run.update(self.model, self.optimizer, self.work.optim.clip_grad)
        self.work.after()
        return flops

    @torch.no_grad()
    def embed(self) -> float:
        """Embed the batch; useful FLOPs."""
        with self.run.autocast():
            self.work.encoder.embed(self.ecg)
        return self.batch * self.work.embed_flops


def measure_case(case: Case, config: BenchmarkConfig, maker: Maker, product: Product) -> dict[str, Any]:
    """The case with its figures; `error` in place of them where memory is full."""
    reset_peak(product.device)
    torch.compiler.reset()
    try:
        trainer = Trainer(case, config, maker)
        work: Callable[[], float] = trainer.step
        if case.part == "encode":
            trainer.model.eval()
            if case.compiled:
                trainer.work.encoder.embed = torch.compile(trainer.work.encoder.embed)
            work = trainer.embed
        start = time.perf_counter()
        work()
        first = time.perf_counter() - start
        for _ in range(MASKS - 1 if case.compiled and case.part == "step" else 0):
            work()  # every mask once: what has to be compiled is, before it is timed
        found = measure(work, product, config.rounds, config.min_seconds)
    except torch.OutOfMemoryError:
        return {**asdict(case), "error": "out of memory"}
    return {**asdict(case), **figures(found, case.batch * case.processes), **memory(product), "first_call_s": first}


def figures(found: Measured, records: int) -> dict[str, Any]:
    """What is written of a measurement."""
    return {
        "seconds_a_call": found.seconds,
        "ecg_per_s": records / found.seconds,
        "tflops": found.rate / 1e12,
        "product_tflops": found.product / 1e12,
        "share_of_product": found.share,
        "shares": list(found.shares),
    }


def memory(product: Product) -> dict[str, Any]:
    """Peak memory, and graphs compiled since the reset."""
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    return {"peak_gib": peak_bytes(product.device) / 2**30, "graphs": int(graphs)}


def waiting_share(trainer: Trainer, batches: Callable[[], Iterator[Tensor]], steps: int) -> tuple[float, float]:
    """Share of the time of training that waits for batches, and crops/s of it.

    On a CPU the time until the next batch is there and preprocessed. On CUDA that is done while the device computes:
    what steps on fresh batches take longer than steps on one batch.

    Args:
        trainer: ready to step.
        batches: starts to read; preprocessed batches.
        steps: counted; one more warms up.
    """
    from shared.benchmark.timing import drain, timed

    device, waited = trainer.run.device, []
    reading = batches()
    trainer.step(next(reading))
    drain(device)
    start = time.perf_counter()
    for _ in range(steps):
        before = time.perf_counter()
        ecg = next(reading)
        waited.append(time.perf_counter() - before)
        trainer.step(ecg)
    drain(device)
    whole = time.perf_counter() - start
    if device.type == "cuda":
        bare = statistics.median(timed(trainer.step, steps, device) for _ in range(3)) * steps
        return max(0.0, 1 - bare / whole), trainer.batch * steps / whole
    return sum(waited) / whole, trainer.batch * steps / whole


def cases_of(config: BenchmarkConfig, models: Sequence[str], lacking: Mapping[str, set[str]]) -> list[Case]:
    """Every case of one process, the batches of each growing.

    Args:
        config: with nothing left open.
        models: names.
        lacking: of each, the variants that its config does not know.
    """
    assert config.batches and config.precisions and config.modes
    return [
        Case(part, model, size, seconds, batch, precision, mode == "compiled", variant)
        for part in config.parts
        if part != "data"
        for model in models
        for size in config.sizes
        for seconds in config.seconds or (None,)
        for precision in config.precisions
        for mode in config.modes
        for variant in config.variants
        if variant not in lacking[model]
        for batch in config.batches
    ]
