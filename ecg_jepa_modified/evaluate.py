"""Evaluate an ECG-JEPA encoder beside a random one of the same architecture.

python -m ecg_jepa_modified.evaluate configs/ecg_jepa/inference_clusters.yaml encoder.weights=runs/ecg_jepa/pretrain
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ecg_jepa_modified.config import ModelConfig
from ecg_jepa_modified.encoder import ECGJEPAEncoder
from ecg_jepa_modified.hybrid import HybridEncoder, copy_scales
from ecg_jepa_modified.model import ECGJEPA, load_official, make_encoder
from shared.checkpoints import CheckpointError, find_weights, load_state, read_weights
from shared.config import config_from_cli, entry_point
from shared.errors import UserError
from shared.evaluation.context import EvaluateConfig
from shared.evaluation.evaluate import evaluate, evaluation_folder, training_figures

NAMES = {False: "ECG-JEPA", True: "hybrid ECG-JEPA"}


def load_encoder(weights: Path) -> tuple[ECGJEPAEncoder, dict[str, Any] | None]:
    """The context encoder from a run folder, a `model.safetensors`, or a released `.pth`.

    Returns:
        The encoder and the pretraining's `data` section, None where it is not known.

    Raises:
        CheckpointError: nothing there, or a checkpoint of another model.
    """
    path = find_weights(weights)
    if path.suffix != ".safetensors":
        return load_official(path), None
    state, method, config = read_weights(path)
    if method != "ecg_jepa":
        raise CheckpointError(f"{path} is a checkpoint of {method}, not of ecg_jepa.")
    model = ECGJEPA(ModelConfig.model_validate(config["model"]))
    load_state(model, state, path)
    return model.encoder.eval(), config.get("data")


def random_encoder(encoder: ECGJEPAEncoder, seed: int) -> ECGJEPAEncoder:
    """An untrained encoder of this one's architecture, the same for the same seed; features are scaled alike."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        random = make_encoder(encoder.config).eval()
    if isinstance(encoder, HybridEncoder):
        copy_scales(encoder, random)
    return random


def run_evaluation(config: EvaluateConfig) -> Path:
    """Evaluate as the config says; returns the path of the report page.

    Raises:
        UserError: no weights were named.
    """
    if config.encoder.weights is None:
        raise UserError("encoder.weights is not set: give a run folder, a model.safetensors or a released .pth.")
    encoder, trained_on = load_encoder(config.encoder.weights)
    out = config.out or evaluation_folder(config.encoder.weights)
    return evaluate(
        encoder,
        random_encoder(encoder, config.seed),
        config,
        out,
        name=NAMES[isinstance(encoder, HybridEncoder)],
        trained_on=trained_on,
        figures=training_figures(config.encoder.weights),
    )


def main(argv: Sequence[str]) -> None:
    """Entry point."""
    run_evaluation(config_from_cli(EvaluateConfig, argv))


if __name__ == "__main__":
    entry_point(main)
