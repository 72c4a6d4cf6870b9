"""Fine-tune ST-MEM for a task, or train a head on it, or the same model from random weights; tested beside a control.

python -m st_mem_modified.finetune configs/st_mem/finetune.yaml mode=finetune encoder.weights=runs/st_mem/pretrain
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field
from torch import nn

from shared.config import config_from_cli, entry_point
from shared.epochs import exit_on_stop
from shared.evaluation.finetuned import run_finetuning
from shared.finetune import config as shared_finetune
from shared.finetune.train import Method
from st_mem_modified.config import ModelConfig
from st_mem_modified.loading import FINETUNED, encoder_of, load_model, random_encoder


class FinetuneConfig(shared_finetune.FinetuneConfig):
    """`python -m st_mem_modified.finetune`."""

    model: ModelConfig = Field(default_factory=ModelConfig, description="read only where encoder.weights is not given")


def method(config: FinetuneConfig) -> Method:
    """What fine-tuning needs to know of ST-MEM; `config.model` is the architecture where no weights are given."""

    def load(weights: Path) -> tuple[nn.Module, Mapping[str, Any] | None]:
        loaded, trained = load_model(weights)
        return encoder_of(loaded), trained.get("data")

    return Method(
        "ST-MEM", FINETUNED, load, lambda like, seed: random_encoder(getattr(like, "config", config.model), seed)
    )


def run(config: FinetuneConfig) -> Path:
    """Train, test once and report; returns the run folder, scores and page are in its `evaluation/`."""
    return run_finetuning(config, method(config))


def main(argv: Sequence[str]) -> None:
    """Entry point."""
    config = config_from_cli(FinetuneConfig, argv, "st_mem_modified.finetune")
    print(f"fine-tuned: {run(config)}")


if __name__ == "__main__":
    entry_point(exit_on_stop(main))
