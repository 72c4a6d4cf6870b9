"""The way of a record from the store to the device, preprocessed: each stage alone, and what a training step waits for it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shared.benchmark.config import BenchmarkConfig
from shared.benchmark.steps import Case, Trainer, waiting_share
from shared.benchmark.timing import repeats, timed
from shared.benchmark.workload import Maker
from shared.config import load_config
from shared.data.loader import TrainingBatches
from shared.data.prepare import choose_config, prepare
from shared.data.spec import InputSpec
from shared.data.store import ECGStore
from shared.data.transforms import Preprocess

BATCH = 256
WAIT_STEPS = 4
FILTERED = InputSpec(seconds=9.0, highpass=0.67, lowpass=40.0, standardize="record")
"""The more expensive of the two methods' inputs: twelve leads, filtered, standardised."""


def measure_data(config: BenchmarkConfig, models: dict[str, Maker], device: torch.device) -> list[dict[str, Any]]:
    """Rows of the table: crops/s of each stage, then of each model and size the share of a step that waits."""
    with tempfile.TemporaryDirectory() as folder:
        settings = [f"out={Path(folder) / 'store'}", f"num_records={config.records}"]
        store = prepare(load_config(choose_config, "configs/data/synthetic.yaml", settings))
        rows = [{"part": "data", "stage": name, **found} for name, found in stages(store, config, device).items()]
        for name, maker in models.items():
            if not maker({"size": config.sizes[0]}).spec.features:  # a store of signals has none
                rows += [waiting(store, config, name, maker, size) for size in config.sizes]
    return rows


def stages(store: ECGStore, config: BenchmarkConfig, device: torch.device) -> dict[str, dict[str, float]]:
    """Crops/s in one process: read, read and made float on the device, filtered and standardised there."""
    batch = min(BATCH, len(store))
    data = TrainingBatches(store, np.arange(len(store)), FILTERED, batch, seed=0, pin_memory=device.type == "cuda")
    preprocess = Preprocess(FILTERED, store.scale).to(device)
    epoch = iter(range(1_000_000))

    def read(use: Callable[[Tensor], object]) -> float:
        def whole_epoch() -> None:
            for signals, _ in data(next(epoch)):
                use(signals)

        times = repeats(whole_epoch, config.min_seconds, device)
        took = sorted(timed(whole_epoch, times, device) for _ in range(config.rounds))[config.rounds // 2]
        return data.steps * batch / took

    def on_device(signals: Tensor) -> Tensor:
        return signals.to(device, non_blocking=True).float().mul_(store.scale)

    bytes_each = len(FILTERED.leads) * FILTERED.num_samples * 2
    rates = {
        "read int16": read(lambda signals: signals),
        "read, float on the device": read(on_device),
        "read, filtered and standardised": read(lambda signals: preprocess(signals.to(device, non_blocking=True))),
    }
    return {name: {"ecg_per_s": rate, "read_gb_per_s": rate * bytes_each / 1e9} for name, rate in rates.items()}


def waiting(store: ECGStore, config: BenchmarkConfig, name: str, maker: Maker, size: str) -> dict[str, Any]:
    """The share of a training step that waits for its batch."""
    assert config.batches and config.precisions and config.modes
    batch = min(config.batches[0], len(store) // 2)
    case = Case("step", name, size, None, batch, config.precisions[0], config.modes[-1] == "compiled")
    trainer = Trainer(case, config, maker)
    spec, device = trainer.work.spec, trainer.run.device
    data = TrainingBatches(store, np.arange(len(store)), spec, batch, **trainer.run.loading)
    preprocess = Preprocess(spec, store.scale).to(device)

    def batches() -> Iterator[Tensor]:
        epoch = 0
        while True:
            for signals, _ in data(epoch):
                yield preprocess(signals.to(device, non_blocking=True))
            epoch += 1

    share, rate = waiting_share(trainer, batches, WAIT_STEPS)
    found = {"model": name, "size": size, "batch": batch, "precision": case.precision, "compiled": case.compiled}
    return {"part": "data", "stage": "a step waits", **found, "ecg_per_s": rate, "waiting_share": share}
