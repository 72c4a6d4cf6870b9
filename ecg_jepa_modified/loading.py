"""Models back from checkpoints: this package's own by the method name they carry, or a released ECG-JEPA file."""

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
from shared.triplet.model import HeadConfig, TripletModel

FINETUNED = "ecg_jepa_finetuned"
TRIPLET = "ecg_jepa_triplet"


def load_model(weights: Path) -> tuple[nn.Module, dict[str, Any]]:
    """What is evaluated of a run folder, a `model.safetensors`, or a released `.pth`: an encoder, or a tuned one with its head.

    Returns:
        The model in evaluation mode, and the whole config it was trained with; empty where it is not known.

    Raises:
        CheckpointError: nothing there, or a checkpoint of another model.
    """
    return load_checkpoint(weights, load_official, LOADERS)


def load_encoder(weights: Path) -> ECGJEPAEncoder:
    """The (context) encoder inside whatever `load_model` reads."""
    model, _ = load_model(weights)
    return encoder_of(model)


def encoder_of(model: nn.Module) -> ECGJEPAEncoder:
    """A model's ECG-JEPA encoder."""
    encoder = model if isinstance(model, ECGJEPAEncoder) else model.encoder
    assert isinstance(encoder, ECGJEPAEncoder)
    return encoder


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


def _load_triplet(state: Mapping[str, Tensor], config: Mapping[str, Any], path: Path) -> nn.Module:
    encoder = make_encoder(ModelConfig.model_validate(config["model"]))
    model = TripletModel(encoder, HeadConfig.model_validate(config["head"]))
    load_state(model, state, path)
    return model


LOADERS: dict[str, Loader] = {
    "ecg_jepa": _load_pretrained,
    FINETUNED: _load_finetuned,
    TRIPLET: _load_triplet,
}
"""Method name in a checkpoint → how it is read."""
