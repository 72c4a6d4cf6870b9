"""ECG-JEPA, plain and hybrid, for `python -m shared.benchmark`: a training step and its useful FLOPs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ecg_jepa_modified.config import MaskConfig, ModelConfig, Optim
from ecg_jepa_modified.masking import draw_mask
from ecg_jepa_modified.model import ECGJEPA
from shared.benchmark.workload import Maker, Workload, block_flops, linear_flops, training_flops

MOMENTUM = 0.996
MISSING = 0.05
"""Share of the measurements of a hybrid input that could not be made."""


def encoder_flops(config: ModelConfig, times: int) -> float:
    """Of one record of which so many times are seen: each token sees its row and its column, its own place once."""
    rows = len(config.rows)
    tokens, dim = rows * times, config.embed_dim
    pairs = tokens * (times + rows - 1)
    patches = (len(config.input.leads) + len(config.input.features)) * times
    blocks = config.depth * block_flops(tokens, pairs, dim, dim, config.mlp_ratio)
    return blocks + linear_flops(patches, config.patch_size, dim)


def predictor_flops(config: ModelConfig, times: int) -> float:
    """Of one record of which so many times are seen and the others predicted, row by row."""
    rows, all_times, width = len(config.rows), config.num_patches, config.predictor_dim
    blocks = config.predictor_depth * block_flops(rows * all_times, rows * all_times**2, width, width, config.mlp_ratio)
    embed = linear_flops(rows * times, config.embed_dim, width)
    return blocks + embed + linear_flops(rows * (all_times - times), width, config.embed_dim)


def step_flops(config: ModelConfig, mask: Tensor) -> float:
    """Of one record under a mask bool `[N]`."""
    seen = int((~mask).sum())
    trained = encoder_flops(config, seen) + predictor_flops(config, seen)
    return training_flops(trained, teacher=encoder_flops(config, config.num_patches))


def make_ecg_jepa(values: Mapping[str, Any]) -> Workload:
    """Student, teacher and predictor under multi-block masks."""
    config = ModelConfig.model_validate(values)
    model = ECGJEPA(config)

    def draw(_: int, generator: torch.Generator) -> Tensor:
        return draw_mask(MaskConfig(), config.num_patches, generator)

    return Workload(
        model,
        model.encoder,
        config.input,
        Optim(),
        draw,
        step_flops=lambda batch, mask: batch * step_flops(config, mask),
        embed_flops=encoder_flops(config, config.num_patches),
        after=lambda: model.update_target(MOMENTUM),
    )


def make_hybrid(values: Mapping[str, Any]) -> Workload:
    """The same over eight leads and all features, 19 rows, scaled by noise of which some is missing."""
    work = make_ecg_jepa({**values, "input": {**values.get("input", {}), "features": "all"}})
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(64, len(work.spec.features), work.spec.num_samples, generator=generator)
    features.masked_fill_(torch.rand(features.shape[:2], generator=generator)[..., None] < MISSING, torch.nan)
    for encoder in (work.model.encoder, work.model.target_encoder):
        encoder.get_submodule("feature_embed.scaler").fit([features.numpy()])  # type: ignore[operator, union-attr]
    return work


MODELS: dict[str, Maker] = {
    "ecg_jepa": Maker(ModelConfig, make_ecg_jepa),
    "ecg_jepa_hybrid": Maker(ModelConfig, make_hybrid),
}
