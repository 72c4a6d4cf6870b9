"""Fine-tune ECG-JEPA for a task, or train a head on it, or the same model from random weights; tested beside a control.

python -m ecg_jepa_modified.finetune configs/ecg_jepa/finetune.yaml mode=finetune encoder.weights=runs/ecg_jepa/pretrain
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field
from torch import nn

from ecg_jepa_modified.config import ModelConfig
from ecg_jepa_modified.hybrid import fit_features
from ecg_jepa_modified.loading import FINETUNED, encoder_of, load_model, random_encoder, untrained
from shared.config import config_from_cli, entry_point
from shared.data.store import open_store
from shared.epochs import exit_on_stop
from shared.evaluation.finetuned import run_finetuning
from shared.finetune import config as shared_finetune
from shared.finetune.train import Method


class FinetuneConfig(shared_finetune.FinetuneConfig):
    """`python -m ecg_jepa_modified.finetune`."""

    model: ModelConfig = Field(default_factory=ModelConfig, description="read only where encoder.weights is not given")


def method(config: FinetuneConfig) -> Method:
    """What fine-tuning needs to know of ECG-JEPA; `config.model` is the architecture where no weights are given."""

    def load(weights: Path) -> tuple[nn.Module, Mapping[str, Any] | None]:
        loaded, trained = load_model(weights)
        return encoder_of(loaded), trained.get("data")

    def random(like: Any | None, seed: int) -> nn.Module:
        if like is not None:
            return random_encoder(like, seed)
        encoder = untrained(config.model, seed)
        store = open_store(config.data)
        fit_features([encoder], store, store.select(config.data.folds))
        return encoder

    return Method("ECG-JEPA", FINETUNED, load, random)


def run(config: FinetuneConfig) -> Path:
    """Train, test once and report; returns the run folder, scores and page are in its `evaluation/`."""
    return run_finetuning(config, method(config))


def main(argv: Sequence[str]) -> None:
    """Entry point."""
    config = config_from_cli(FinetuneConfig, argv, "ecg_jepa_modified.finetune")
    print(f"fine-tuned: {run(config)}")


if __name__ == "__main__":
    entry_point(exit_on_stop(main))
