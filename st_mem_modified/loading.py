"""Models back from checkpoints: any of this package by the method name it carries, or a released ST-MEM file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shared.checkpoints import CheckpointError, Loader, load_checkpoint, load_part, load_state
from shared.triplet.model import HeadConfig, TripletModel
from st_mem_modified.config import ModelConfig
from st_mem_modified.model import STMEM, STMEMEncoder, load_official
from st_mem_modified.vqvae.config import VQVAEConfig
from st_mem_modified.vqvae.model import VQVAE

Weights = Mapping[str, Tensor]
FINETUNED = "st_mem_finetuned"
TRIPLET = "st_mem_triplet"


def load_model(weights: Path) -> tuple[nn.Module, dict[str, Any]]:
    """A model from a run folder, a `model.safetensors`, or a released `.pth`.

    Returns:
        The model in evaluation mode, and the whole config it was trained with; empty where it is not known.

    Raises:
        CheckpointError: nothing there, or a checkpoint of another model.
    """
    return load_checkpoint(weights, load_official, LOADERS)


def load_encoder(weights: Path) -> STMEMEncoder:
    """The ST-MEM encoder inside whatever `load_model` reads."""
    model, _ = load_model(weights)
    return encoder_of(model)


def encoder_of(model: nn.Module) -> STMEMEncoder:
    """A model's ST-MEM encoder."""
    encoder = model if isinstance(model, STMEMEncoder) else model.encoder
    assert isinstance(encoder, STMEMEncoder)
    return encoder


def load_vqvae(weights: Path, quantizer: str | None = None) -> VQVAE:
    """A trained VQ-VAE.

    Args:
        weights: run folder or `model.safetensors`.
        quantizer: the quantiser it must have; None takes any.

    Raises:
        CheckpointError: another model, or another quantiser.
    """
    model, _ = load_model(weights)
    if not isinstance(model, VQVAE):
        raise CheckpointError(f"{weights} holds a {type(model).__name__}, not a VQ-VAE (st_mem_modified.vqvae.train).")
    own = model.config.quantizer.name
    if quantizer is not None and own != quantizer:
        raise CheckpointError(f"{weights} holds a VQ-VAE with quantizer {own}, not {quantizer}.")
    return model


def random_encoder(config: ModelConfig, seed: int) -> STMEMEncoder:
    """An untrained encoder of this architecture, the same for the same seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return STMEMEncoder(config).eval()


def _load_stmem(state: Weights, config: Mapping[str, Any], path: Path) -> nn.Module:
    model = STMEM(ModelConfig.model_validate(config["model"]))
    load_state(model, state, path)
    return model


def _load_encoder_alone(state: Weights, config: Mapping[str, Any], path: Path) -> nn.Module:
    """The encoder; a decoder that speaks codes, or a classifier's head, is of use only in training."""
    encoder = STMEMEncoder(ModelConfig.model_validate(config["model"]))
    load_part(encoder, state, "encoder.", path)
    return encoder


def _load_triplet(state: Weights, config: Mapping[str, Any], path: Path) -> nn.Module:
    encoder = STMEMEncoder(ModelConfig.model_validate(config["model"]))
    model = TripletModel(encoder, HeadConfig.model_validate(config["head"]))
    load_state(model, state, path)
    return model


def _load_vqvae(state: Weights, config: Mapping[str, Any], path: Path) -> nn.Module:
    model = VQVAE(VQVAEConfig.model_validate({k: config[k] for k in VQVAEConfig.model_fields}))
    load_state(model, state, path)
    return model


LOADERS: dict[str, Loader] = {
    "st_mem": _load_stmem,
    "st_mem_masked_tokens": _load_encoder_alone,
    FINETUNED: _load_encoder_alone,
    TRIPLET: _load_triplet,
    "st_mem_vqvae": _load_vqvae,
}
"""Method name in a checkpoint → how it is read."""
