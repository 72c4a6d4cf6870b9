"""What a pretraining on many records asks of disks, network and GPUs: arithmetic on measured speeds.

python -m shared.benchmark.plan [records=10000000] [measured=runs/benchmark/benchmark.json] [tflops=300] [gpus=8]
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field

from shared.benchmark.report import table
from shared.benchmark.workload import Maker, pick_models
from shared.config import RepoPath, Section, config_from_cli, entry_point
from shared.errors import UserError

LEADS, SAMPLES, BYTES = 12, 2500, 2
"""Of a stored record: twelve leads, 10 s at 250 Hz, int16."""
COLUMNS: dict[str, tuple[str, str]] = {
    "model": ("model", "{}"), "gflop": ("GFLOP an ECG", "{:.1f}"), "rate": ("ECG/s a GPU", "{:.0f}"),
    "read": ("MB/s a GPU", "{:.1f}"), "epoch_hours": ("GPU-hours an epoch", "{:.1f}"), "epochs": ("epochs", "{}"),
    "hours": ("GPU-hours", "{:.0f}"), "days": ("days on all GPUs", "{:.1f}"), "state": ("GB a checkpoint", "{:.2f}"),
}  # fmt: skip


class PlanConfig(Section):
    """`python -m shared.benchmark.plan`."""

    records: int = Field(10_000_000, ge=1, description="of 10 s, twelve leads, 250 Hz")
    shard: int = Field(8192, ge=1, description="records in a file of the store, as it is prepared")
    models: tuple[str, ...] = Field(("st_mem", "ecg_jepa"), description="of the methods' benchmark.py")
    size: str = "base"
    epochs: int | None = Field(None, ge=1, description="null: each method's published number")
    gpus: int = Field(8, ge=1)
    measured: RepoPath | None = Field(
        None, description="a benchmark.json: its fastest training step of the size counts"
    )
    tflops: float | None = Field(None, gt=0, description="useful TFLOP/s a GPU, where nothing was measured")


def plan(config: PlanConfig) -> str:
    """The plan in Markdown.

    Raises:
        UserError: neither a measurement nor a rate, or a measurement without these models.
    """
    if (config.measured is None) == (config.tflops is None):
        raise UserError("give the speed: measured=runs/benchmark/benchmark.json, or tflops=… of useful work a GPU.")
    store = config.records * LEADS * SAMPLES * BYTES
    rows = [_row(config, name, maker) for name, maker in pick_models(config.models).items()]
    source = f"measured: {config.measured.name}" if config.measured else f"at {config.tflops:g} TFLOP/s, not measured"
    return "\n".join((
        f"{config.records} records: {store / 1e9:.0f} GB in {-(-config.records // config.shard)} files of "
        f"{config.shard * LEADS * SAMPLES * BYTES / 1e6:.0f} MB; {config.gpus} GPUs; {source}.",
        "",
        table(rows, COLUMNS),
    ))  # fmt: skip


def _row(config: PlanConfig, name: str, maker: Maker) -> dict[str, Any]:
    work = maker({"size": config.size})
    generator = torch.Generator().manual_seed(0)
    flops = sum(work.step_flops(1, work.draw(1, generator)) for _ in range(256)) / 256  # over masks
    rate = _measured_rate(config, name) if config.tflops is None else config.tflops * 1e12 / flops
    epochs = config.epochs or work.optim.epochs
    window = LEADS * work.spec.num_samples * BYTES  # all leads of a window are on the pages that are read
    hours = config.records / rate / 3600
    parameters = sum(p.numel() for p in work.model.parameters())
    trained = sum(p.numel() for p in work.model.parameters() if p.requires_grad)
    return {
        "model": f"{name} {config.size}", "gflop": flops / 1e9, "rate": rate, "read": rate * window / 1e6,
        "epoch_hours": hours, "epochs": epochs, "hours": hours * epochs, "days": hours * epochs / config.gpus / 24,
        "state": 4 * (parameters + 2 * trained) / 1e9,
    }  # fmt: skip


def _measured_rate(config: PlanConfig, name: str) -> float:
    """ECG/s of one process in the fastest step of the model and size."""
    assert config.measured is not None
    try:
        rows = json.loads(config.measured.read_text())["rows"]
        found = [
            float(row["ecg_per_s"]) / int(row["processes"])
            for row in rows
            if row["part"] == "step" and "error" not in row and (row["model"], row["size"]) == (name, config.size)
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        told = f"measured={config.measured} is no benchmark.json ({error}); bash scripts/benchmark.sh writes one."
        raise UserError(told) from None
    if not found:
        raise UserError(
            f"{config.measured} has no training step of {name} {config.size}: measure one, or give tflops=…."
        )
    return max(found)


def main(argv: Sequence[str]) -> None:
    """Entry point."""
    print(plan(config_from_cli(PlanConfig, argv)))


if __name__ == "__main__":
    entry_point(main)
