"""Evaluate an ST-MEM encoder, or what a modification made of it, beside a random one of the same architecture.

python -m st_mem_modified.evaluate configs/st_mem/inference_clusters.yaml encoder.weights=runs/st_mem/pretrain
"""

from __future__ import annotations

from collections.abc import Sequence

from shared.config import config_from_cli, entry_point
from shared.evaluation.config import EvaluateConfig
from shared.evaluation.together import together
from st_mem_modified.loading import load_model, random_encoder
from st_mem_modified.rows import run_evaluation

__all__ = ["load_model", "random_encoder", "run_evaluation"]


def main(argv: Sequence[str]) -> None:
    """Entry point."""
    config = config_from_cli(EvaluateConfig, argv, "st_mem_modified.evaluate")
    with together():
        run_evaluation(config)


if __name__ == "__main__":
    entry_point(main)
