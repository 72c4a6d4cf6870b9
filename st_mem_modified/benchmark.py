"""ST-MEM for `python -m shared.benchmark`: a training step and its useful FLOPs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from shared.benchmark.workload import Maker, Workload, block_flops, linear_flops, training_flops
from st_mem_modified.config import ModelConfig, Optim
from st_mem_modified.model import STMEM, draw_noise


def forward_flops(config: ModelConfig) -> float:
    """Of one record in pretraining. Only the patches that stay are counted as embedded."""
    leads, kept = len(config.input.leads), int(config.num_patches * (1 - config.mask_ratio))
    seen, whole = leads * (kept + 2), leads * (config.num_patches + 2)
    inner = config.decoder_heads * config.head_dim
    decoder = config.decoder_depth * block_flops(
        whole, whole * (config.num_patches + 2), config.decoder_dim, inner, config.mlp_ratio
    )
    ends = linear_flops(seen, config.embed_dim, config.decoder_dim)
    ends += linear_flops(leads * config.num_patches, config.decoder_dim, config.patch_size)
    return encoder_flops(config, kept) + decoder + ends


def encoder_flops(config: ModelConfig, patches: int) -> float:
    """Of one record of which so many patches a lead are seen, and both separators."""
    leads = len(config.input.leads)
    tokens, inner = leads * (patches + 2), config.num_heads * config.head_dim
    blocks = config.depth * block_flops(tokens, tokens**2, config.embed_dim, inner, config.mlp_ratio)
    return blocks + linear_flops(leads * patches, config.patch_size, config.embed_dim)


def make_st_mem(values: Mapping[str, Any]) -> Workload:
    """The masked autoencoder."""
    config = ModelConfig.model_validate(values)
    model = STMEM(config)

    def draw(batch: int, generator: torch.Generator) -> Tensor:
        return draw_noise(batch, len(config.input.leads), config.num_patches, generator)

    step = training_flops(forward_flops(config))
    return Workload(
        model,
        model.encoder,
        config.input,
        Optim(),
        draw,
        step_flops=lambda batch, _: batch * step,
        embed_flops=encoder_flops(config, config.num_patches),
    )


MODELS: dict[str, Maker] = {"st_mem": Maker(ModelConfig, make_st_mem)}
