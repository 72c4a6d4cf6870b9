"""Encoders back from checkpoints: this package's own by the method name they carry, or a released ECG-JEPA file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ecg_jepa_modified.config import ModelConfig
from ecg_jepa_modified.encoder import ECGJEPAEncoder
from ecg_jepa_modified.hybrid import HybridEncoder, copy_scales
from ecg_jepa_modified.model import ECGJEPA, load_official, make_encoder
from shared.checkpoints import CheckpointError, find_weights, load_state, read_weights

FINETUNED = "ecg_jepa_finetuned"


def load_encoder(weights: Path) -> tuple[ECGJEPAEncoder, dict[str, Any]]:
    """The (context) encoder from a run folder, a `model.safetensors`, or a released `.pth`.

    Returns:
        The encoder in evaluation mode, and the whole config it was trained with; empty where it is not known.

    Raises:
        CheckpointError: nothing there, or a checkpoint of another model.
    """
    path = find_weights(weights)
    if path.suffix != ".safetensors":
        return load_official(path), {}
    state, method, config = read_weights(path)
    if method not in ("ecg_jepa", FINETUNED):
        raise CheckpointError(f"{path} is a checkpoint of {method}, not of ecg_jepa or {FINETUNED}.")
    model_config = ModelConfig.model_validate(config["model"])
    if method == FINETUNED:
        encoder = make_encoder(model_config)
        own = {k.removeprefix("encoder."): v for k, v in state.items() if k.startswith("encoder.")}
        load_state(encoder, own, path)
        return encoder.eval(), config
    model = ECGJEPA(model_config)
    load_state(model, state, path)
    return model.encoder.eval(), config


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
