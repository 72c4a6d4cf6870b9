"""Evaluate an ECG-JEPA encoder, or what triplet fine-tuning made of it, beside a random one of the same architecture.

python -m ecg_jepa_modified.evaluate configs/ecg_jepa/inference_clusters.yaml encoder.weights=runs/ecg_jepa/pretrain
"""

from __future__ import annotations

from collections.abc import Sequence

from ecg_jepa_modified.loading import load_encoder, random_encoder
from ecg_jepa_modified.rows import run_evaluation
from shared.config import config_from_cli, entry_point
from shared.evaluation.config import EvaluateConfig
from shared.evaluation.together import together

__all__ = ["load_encoder", "random_encoder", "run_evaluation"]


def main(argv: Sequence[str]) -> None:
    """Entry point."""
    config = config_from_cli(EvaluateConfig, argv, "ecg_jepa_modified.evaluate")
    with together():
        run_evaluation(config)


if __name__ == "__main__":
    entry_point(main)
