"""Quantisers from vector-quantize-pytorch behind one small interface (`base.py`), each beside its config.

Projections in and out of the code space belong to the VQ-VAE, so every quantiser works in exactly `width` dimensions.
To add one: its config, its class with `_quantize` and `_lookup`, and a line in `QUANTIZERS`. The library is imported by the
quantiser that is built, so that a config can be read without it.
"""

from __future__ import annotations

from typing import Annotated

from shared.config_keys import OneOf
from st_mem_modified.vqvae.quantizers.base import Quantizer, QuantizerConfig
from st_mem_modified.vqvae.quantizers.codebooks import (
    LinearVQ,
    MovingAverageVQ,
    ResidualMovingAverageVQ,
    ResidualVQConfig,
    SimVQConfig,
    VQConfig,
)
from st_mem_modified.vqvae.quantizers.without_codebook import FiniteScalar, FSQConfig, LFQConfig, LookupFree

QUANTIZERS: dict[str, tuple[type[QuantizerConfig], type[Quantizer]]] = {
    "vq": (VQConfig, MovingAverageVQ),
    "residual_vq": (ResidualVQConfig, ResidualMovingAverageVQ),
    "simvq": (SimVQConfig, LinearVQ),
    "fsq": (FSQConfig, FiniteScalar),
    "lfq": (LFQConfig, LookupFree),
}
"""Name → its config and its class; the first is the default."""

SAVED_TOGETHER = (
    "codebook_size", "code_dim", "commitment", "decay", "kmeans_init", "kmeans_iters", "revive_below", "cosine",
    "rotation_trick", "num_quantizers", "levels", "entropy_weight",
)  # fmt: skip
"""Keys that runs once saved for every quantiser, read or not."""

AnyQuantizer = Annotated[
    QuantizerConfig, OneOf({name: config for name, (config, _) in QUANTIZERS.items()}, SAVED_TOGETHER)
]


def make_quantizer(config: QuantizerConfig) -> Quantizer:
    """The quantiser that the config describes."""
    return QUANTIZERS[config.name][1](config)
