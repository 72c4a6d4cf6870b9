"""Evaluate an ECG-JEPA encoder beside a random one of the same architecture.

python -m ecg_jepa_modified.evaluate configs/ecg_jepa/inference_clusters.yaml encoder.weights=runs/ecg_jepa/pretrain
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ecg_jepa_modified.hybrid import HybridEncoder
from ecg_jepa_modified.loading import load_encoder, random_encoder
from shared.config import config_from_cli, entry_point
from shared.evaluation.config import EvaluateConfig
from shared.evaluation.evaluate import evaluate_weights, training_figures
from shared.evaluation.rows import Rows

NAMES = {False: "ECG-JEPA", True: "hybrid ECG-JEPA"}


def run_evaluation(config: EvaluateConfig) -> Path:
    """Evaluate as the config says; returns the path of the report page.

    Raises:
        UserError: no weights were named.
    """
    return evaluate_weights(config, rows_of)


def rows_of(weights: Path, config: EvaluateConfig, out: Path) -> Rows:
    """The rows of a checkpoint and the curves of its training."""
    encoder, trained = load_encoder(weights)
    name = NAMES[isinstance(encoder, HybridEncoder)]
    return Rows(
        f"{name}, {trained['mode']}" if "mode" in trained else name,
        encoder,
        random_encoder(encoder, config.seed),
        trained_on=trained.get("data"),
        figures=training_figures(weights),
    )


def main(argv: Sequence[str]) -> None:
    """Entry point."""
    run_evaluation(config_from_cli(EvaluateConfig, argv, "ecg_jepa_modified.evaluate"))


if __name__ == "__main__":
    entry_point(main)
