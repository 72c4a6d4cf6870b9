"""A small ECG-JEPA and its inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ecg_jepa_modified.config import ModelConfig


def small(**changes: Any) -> ModelConfig:
    """Two leads of six patches: enough for every property."""
    sizes = {
        "embed_dim": 16,
        "depth": 2,
        "num_heads": 2,
        "predictor_dim": 8,
        "predictor_depth": 1,
        "predictor_heads": 2,
    }
    grid = {"patch_size": 10, "input": {"leads": "I,II,V1", "num_samples": 60}}
    return ModelConfig.model_validate({**sizes, **grid, "drop_path": 0.0, **changes})


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def times_mask(*masked: int, length: int = 6) -> Tensor:
    mask = torch.zeros(length, dtype=torch.bool)
    mask[list(masked)] = True
    return mask
