"""What each kind of checkpoint puts into an evaluation."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from ecg_jepa_modified.hybrid import HybridEncoder
from ecg_jepa_modified.loading import encoder_of, load_encoder, load_model, random_encoder
from shared.evaluation.config import EvaluateConfig
from shared.evaluation.evaluate import evaluate_weights, training_figures
from shared.evaluation.rows import Rows, chosen_in, untuned_row
from shared.triplet.model import TripletModel

NAMES = {False: "ECG-JEPA", True: "hybrid ECG-JEPA"}


def run_evaluation(config: EvaluateConfig) -> Path:
    """Evaluate as the config says; returns the path of the report page.

    Raises:
        UserError: no weights were named.
    """
    return evaluate_weights(config, rows_of)


def rows_of(weights: Path, config: EvaluateConfig, out: Path) -> Rows:
    """The rows of a checkpoint and the curves of its training."""
    model, trained = load_model(weights)
    encoder = encoder_of(model)
    name = NAMES[isinstance(encoder, HybridEncoder)]
    others: dict[str, nn.Module] = {}
    if isinstance(model, TripletModel):
        name, others = f"{name} + {trained['loss']['name']}", untuned_row(encoder, trained, load_encoder)
    elif "mode" in trained:
        name = f"{name}, {trained['mode']}"
    return Rows(
        name,
        model if isinstance(model, TripletModel) else encoder,
        random_encoder(encoder, config.seed),
        others,
        baselines=tuple(others),
        trained_on=trained.get("data"),
        figures=training_figures(weights),
        chosen=chosen_in(trained, weights),
    )
