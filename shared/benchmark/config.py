"""What is measured. Every list multiplies the cases; `null` takes what suits the device."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, field_validator

from shared.config import RepoPath, Section
from shared.run import RunConfig

Precision = Literal["fp32", "bf16", "fp16"]


class BenchmarkConfig(Section):
    """`python -m shared.benchmark`."""

    out: RepoPath = Field(
        Path("runs/benchmark"), validate_default=True, description="folder of the JSON, table, figure"
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    parts: tuple[Literal["data", "step", "encode"], ...] = Field(
        ("data", "step", "encode"), description="the data path; training steps; embedding"
    )
    models: tuple[str, ...] = Field((), description="of the methods' benchmark.py; empty: all")
    sizes: tuple[str, ...] = Field(("small", "base"), description="of the models")
    seconds: tuple[float, ...] = Field((), description="window lengths; empty: each model's own")
    batches: tuple[int, ...] | None = Field(
        None,
        description="records at a time on each device, until memory is full; null: 16 on a CPU, 16 to 1024 on CUDA",
    )
    precisions: tuple[Precision, ...] | None = Field(None, description="null: fp32 on a CPU, bf16 and fp32 on CUDA")
    modes: tuple[Literal["eager", "compiled"], ...] | None = Field(
        None, description="null: eager on a CPU, both on CUDA"
    )
    variants: tuple[str, ...] = Field(
        ("plain",),
        description="plain, or model settings to try as well: recompute=true, cropa=flex; who lacks it passes",
    )
    processes: tuple[int, ...] | None = Field(
        None, description="of a data-parallel step, one per GPU; null: 1, 2, 4 … up to the GPUs there are, 1 on a CPU"
    )
    rounds: int = Field(5, ge=1, description="of each measurement, taking turns with the plain product; medians count")
    min_seconds: float = Field(0.2, gt=0, description="a measurement repeats its work for so long at least")
    product_side: int | None = Field(
        None, ge=8, description="of the square matrices; null: 2048 on a CPU, 8192 on CUDA"
    )
    records: int = Field(4096, ge=8, description="synthetic ones in the store that the data path reads")
    upstream_st_mem: Path | None = Field(None, description="folder of the published ST-MEM, timed in turns with ours")
    upstream_ecg_jepa: Path | None = Field(None, description="folder of the published ECG-JEPA, likewise")

    @field_validator("batches", "processes")
    @classmethod
    def _positive(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and min(value, default=0) < 1:
            raise ValueError("numbers of 1 or more are expected")
        return value

    def for_device(self, device: torch.device) -> BenchmarkConfig:
        """With nothing left open."""
        cuda = device.type == "cuda"
        open_ends = {
            "batches": (16, 64, 256, 1024) if cuda else (16,),
            "precisions": ("bf16", "fp32") if cuda else ("fp32",),
            "modes": ("eager", "compiled") if cuda else ("eager",),
            "processes": tuple(2**k for k in range(torch.cuda.device_count().bit_length())) if cuda else (1,),
            "product_side": 8192 if cuda else 2048,
        }
        return self.model_copy(update={key: value for key, value in open_ends.items() if getattr(self, key) is None})

    def run(self, precision: str, compiled: bool) -> RunConfig:
        """The setting of a training run, of which nothing is written."""
        return RunConfig.model_validate(
            {"out": self.out, "device": self.device, "precision": precision, "compile": compiled}
        )
