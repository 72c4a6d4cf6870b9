"""Fine-tune an ST-MEM encoder by a metric-learning loss, and evaluate it beside the untuned one.

python -m st_mem_modified.triplet configs/st_mem/triplet.yaml encoder.weights=runs/st_mem/pretrain loss.miner=semihard
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from shared.config import config_from_cli, entry_point
from shared.epochs import exit_on_stop
from shared.triplet import config as shared_triplet
from shared.triplet import train as shared_train
from shared.triplet.model import TripletModel
from st_mem_modified.config import ModelConfig
from st_mem_modified.loading import TRIPLET, load_encoder
from st_mem_modified.rows import run_evaluation

__all__ = ["TripletConfig", "TripletModel", "train"]

METHOD = shared_train.Method("ST-MEM", TRIPLET, load_encoder, run_evaluation)


class TripletConfig(shared_triplet.TripletConfig):
    """`python -m st_mem_modified.triplet`."""

    model: ModelConfig | None = Field(None, description="read from encoder.weights; not to be given")


def train(config: TripletConfig) -> Path:
    """Train and evaluate; returns the run folder."""
    return shared_train.train(config, METHOD)


def main(argv: Sequence[str]) -> None:
    """Entry point."""
    config = config_from_cli(TripletConfig, argv, "st_mem_modified.triplet")
    print(f"trained: {train(config)}")


if __name__ == "__main__":
    entry_point(exit_on_stop(main))
