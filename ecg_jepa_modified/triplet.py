"""Fine-tune an ECG-JEPA encoder, plain or hybrid, by a metric-learning loss, and evaluate it beside the untuned one.

python -m ecg_jepa_modified.triplet configs/ecg_jepa/triplet.yaml encoder.weights=runs/ecg_jepa/pretrain loss.miner=semihard
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from ecg_jepa_modified.config import ModelConfig
from ecg_jepa_modified.loading import TRIPLET, load_encoder
from ecg_jepa_modified.rows import run_evaluation
from shared.config import config_from_cli, entry_point
from shared.epochs import exit_on_stop
from shared.triplet import config as shared_triplet
from shared.triplet import train as shared_train


class TripletConfig(shared_triplet.TripletConfig):
    """`python -m ecg_jepa_modified.triplet`."""

    model: ModelConfig | None = Field(None, description="read from encoder.weights; not to be given")


METHOD = shared_train.Method("ECG-JEPA", TRIPLET, load_encoder, run_evaluation)


def train(config: TripletConfig) -> Path:
    """Train and evaluate; returns the run folder."""
    return shared_train.train(config, METHOD)


def main(argv: Sequence[str]) -> None:
    """Entry point."""
    config = config_from_cli(TripletConfig, argv, "ecg_jepa_modified.triplet")
    print(f"trained: {train(config)}")


if __name__ == "__main__":
    entry_point(exit_on_stop(main))
