"""Evaluate an ECG-JEPA encoder beside a random one of the same architecture.

python -m ecg_jepa_modified.evaluate configs/ecg_jepa/inference_clusters.yaml encoder.weights=runs/ecg_jepa/pretrain
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ecg_jepa_modified.hybrid import HybridEncoder
from ecg_jepa_modified.loading import load_encoder, random_encoder
from shared.config import config_from_cli, entry_point
from shared.errors import UserError
from shared.evaluation.config import EvaluateConfig
from shared.evaluation.evaluate import evaluate, evaluation_folder, training_figures
from shared.evaluation.outside import evaluate_outside

NAMES = {False: "ECG-JEPA", True: "hybrid ECG-JEPA"}


def run_evaluation(config: EvaluateConfig) -> Path:
    """Evaluate as the config says; returns the path of the report page.

    Raises:
        UserError: no weights were named.
    """
    if config.encoder.module is not None:
        return evaluate_outside(config)
    if config.encoder.weights is None:
        raise UserError("encoder.weights is not set: give a run folder, a model.safetensors or a released .pth.")
    encoder, trained = load_encoder(config.encoder.weights)
    out = config.out or evaluation_folder(config.encoder.weights)
    name = NAMES[isinstance(encoder, HybridEncoder)]
    return evaluate(
        encoder,
        random_encoder(encoder, config.seed),
        config,
        out,
        name=f"{name}, {trained['mode']}" if "mode" in trained else name,
        trained_on=trained.get("data"),
        figures=training_figures(config.encoder.weights),
    )


def main(argv: Sequence[str]) -> None:
    """Entry point."""
    run_evaluation(config_from_cli(EvaluateConfig, argv, "ecg_jepa_modified.evaluate"))


if __name__ == "__main__":
    entry_point(main)
