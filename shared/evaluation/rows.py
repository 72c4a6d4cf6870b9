"""What a method puts into an evaluation: the row that is evaluated, and what it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from shared.evaluation.context import RANDOM, UNTUNED, Picture
from shared.run_folder import BEST


@dataclass(frozen=True)
class Rows:
    """The rows of one evaluation; every encoder offers `embed`, `embed_dim`, `input_spec`.

    Attributes:
        name: of the first row, the one evaluated.
        encoder: the first row's.
        random: the same with random weights: the row `random encoder`, a baseline of every table.
        others: further rows, name to encoder; those that are `OneKind` of one model are embedded in one pass.
        baselines: rows among `others` that the first ones are compared with, beside the random encoder.
        trained_on: the `data` section of the pretraining config, to look for overlap with the test split.
        figures: further figures for the page, already written below the report folder.
        notes: what a reader must know of the rows.
        chosen: what the training of the first row chose on validation records, which makes its scores there too high.
    """

    name: str
    encoder: nn.Module
    random: nn.Module
    others: Mapping[str, nn.Module] = field(default_factory=dict)
    baselines: tuple[str, ...] = ()
    trained_on: Mapping[str, Any] | None = None
    figures: Sequence[Picture] = ()
    notes: Sequence[str] = ()
    chosen: str | None = None

    @property
    def encoders(self) -> dict[str, nn.Module]:
        """Row to encoder, in the order of the tables."""
        return {self.name: self.encoder, **self.others, RANDOM: self.random}


def chosen_in(trained: Mapping[str, Any], weights: Path) -> str | None:
    """What was chosen on validation records in a training.

    Args:
        trained: its config. Triplet and fine-tuning keep their best epoch.
        weights: what of it is evaluated. `RUN/best` is the epoch that scored best in a pretraining.
    """
    is_best = any((folder / f"{BEST}.json").is_file() for folder in (weights, weights.parent))
    chose = {"choose_k", "mode"} & trained.keys() and trained.get("keep") != "last"
    return "the epoch" if is_best or chose else None


def start_of(trained: Mapping[str, Any], load: Callable[[Path], nn.Module]) -> nn.Module | None:
    """The encoder that a training started from, where its weights are still there.

    Args:
        trained: the training's config.
        load: the method's: weights to their encoder.
    """
    weights = trained["encoder"]["weights"]
    return load(Path(weights)) if weights is not None and Path(weights).exists() else None


def untuned_row(
    encoder: nn.Module, trained: Mapping[str, Any], load: Callable[[Path], nn.Module]
) -> dict[str, nn.Module]:
    """The row of the encoder that a tuning started from, where its weights are still there or it never changed.

    Args:
        encoder: as tuned.
        trained, load: as of `start_of`.
    """
    start = start_of(trained, load)
    if start is None and trained["encoder"]["train"] == "none":
        start = encoder
    return {} if start is None else {UNTUNED: start}
