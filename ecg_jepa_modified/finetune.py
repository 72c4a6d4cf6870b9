"""Fine-tune ECG-JEPA for a task, or train a head on it, or the same model from random weights; tested beside a control.

python -m ecg_jepa_modified.finetune configs/ecg_jepa/finetune.yaml mode=finetune encoder.weights=runs/ecg_jepa/pretrain
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ecg_jepa_modified.config import FinetuneConfig, ModelConfig
from ecg_jepa_modified.loading import FINETUNED, load_encoder, random_encoder
from shared.config import config_from_cli, entry_point
from shared.evaluation.finetune import Method, finetune
from shared.run import exit_on_stop


def method(model: ModelConfig) -> Method:
    """What fine-tuning needs to know of ECG-JEPA; `model` is the architecture where no weights are given."""

    def load(weights: Path) -> tuple[nn.Module, Mapping[str, Any] | None]:
        encoder, trained = load_encoder(weights)
        return encoder, trained.get("data")

    return Method("ECG-JEPA", FINETUNED, load, lambda like, seed: random_encoder(getattr(like, "config", model), seed))


def main(argv: Sequence[str]) -> None:
    """Entry point."""
    config = config_from_cli(FinetuneConfig, argv)
    print(f"fine-tuned: {finetune(config, method(config.model))}")


if __name__ == "__main__":
    entry_point(exit_on_stop(main))
