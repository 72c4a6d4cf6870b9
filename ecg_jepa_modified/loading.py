"""Encoders back from checkpoints: this package's own by the method name they carry, or a released ECG-JEPA file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ecg_jepa_modified.config import ModelConfig
from ecg_jepa_modified.encoder import ECGJEPAEncoder
from ecg_jepa_modified.hybrid import HybridEncoder, copy_scales
from ecg_jepa_modified.model import ECGJEPA, load_official, make_encoder
from shared.checkpoints import Loader, load_checkpoint, load_part, load_state

FINETUNED = "ecg_jepa_finetuned"


def load_encoder(weights: Path) -> tuple[ECGJEPAEncoder, dict[str, Any]]:
    """The (context) encoder from a run folder, a `model.safetensors`, or a released `.pth`.

    Returns:
        The encoder in evaluation mode, and the whole config it was trained with; empty where it is not known.

    Raises:
        CheckpointError: nothing there, or a checkpoint of another model.
    """
    encoder, config = load_checkpoint(weights, load_official, LOADERS)
    assert isinstance(encoder, ECGJEPAEncoder)
    return encoder, config


def random_encoder(encoder: ECGJEPAEncoder, seed: int) -> ECGJEPAEncoder:
    """An untrained encoder of this one's architecture, the same for the same seed; features are scaled alike."""
    random = untrained(encoder.config, seed)
    if isinstance(encoder, HybridEncoder):
        copy_scales(encoder, random)
    return random


def untrained(config: ModelConfig, seed: int) -> ECGJEPAEncoder:
    """An encoder with random weights, the same for the same seed; scales of features are not fitted."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make_encoder(config).eval()


def _load_pretrained(state: Mapping[str, Tensor], config: Mapping[str, Any], path: Path) -> nn.Module:
    model = ECGJEPA(ModelConfig.model_validate(config["model"]))
    load_state(model, state, path)
    return model.encoder


def _load_finetuned(state: Mapping[str, Tensor], config: Mapping[str, Any], path: Path) -> nn.Module:
    encoder = make_encoder(ModelConfig.model_validate(config["model"]))
    load_part(encoder, state, "encoder.", path)
    return encoder


LOADERS: dict[str, Loader] = {"ecg_jepa": _load_pretrained, FINETUNED: _load_finetuned}
"""Method name in a checkpoint → how its encoder is read."""
