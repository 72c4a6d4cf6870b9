"""What each kind of checkpoint puts into an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ecg_jepa_modified.hybrid import HybridEncoder
from ecg_jepa_modified.loading import encoder_of, load_encoder, load_model, random_encoder
from shared.errors import UserError
from shared.evaluation.config import EvaluateConfig
from shared.evaluation.evaluate import evaluate, evaluation_folder, training_figures
from shared.evaluation.outside import evaluate_outside
from shared.triplet.model import TripletModel

NAMES = {False: "ECG-JEPA", True: "hybrid ECG-JEPA"}
UNTUNED = "untuned encoder"


def run_evaluation(config: EvaluateConfig) -> Path:
    """Evaluate as the config says; returns the path of the report page.

    Raises:
        UserError: no weights were named.
    """
    if config.encoder.module is not None:
        return evaluate_outside(config)
    if config.encoder.weights is None:
        raise UserError("encoder.weights is not set: give a run folder, a model.safetensors or a released .pth.")
    model, trained = load_model(config.encoder.weights)
    encoder = encoder_of(model)
    name = NAMES[isinstance(encoder, HybridEncoder)]
    others: dict[str, nn.Module] = {}
    if isinstance(model, TripletModel):
        name, others = f"{name} + {trained['loss']['name']}", untuned(model, trained)
    elif "mode" in trained:
        name = f"{name}, {trained['mode']}"
    return evaluate(
        model if isinstance(model, TripletModel) else encoder,
        random_encoder(encoder, config.seed),
        config,
        config.out or evaluation_folder(config.encoder.weights),
        name=name,
        others=others,
        trained_on=trained.get("data"),
        figures=training_figures(config.encoder.weights),
    )


def untuned(model: TripletModel, trained: Mapping[str, Any]) -> dict[str, nn.Module]:
    """The row of the encoder that the tuning started from, where its weights are still there or it never changed."""
    weights = trained["encoder"]["weights"]
    if weights is not None and Path(weights).exists():
        return {UNTUNED: load_encoder(Path(weights))[0]}
    return {UNTUNED: model.encoder} if trained["encoder"]["train"] == "none" else {}
