"""What a protocol gets and gives: config, split, embeddings of every row, scores with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shared.data.splits import Split
from shared.data.store import ECGStore
from shared.data.tasks import Task
from shared.embeddings import embed_cached
from shared.errors import UserError
from shared.evaluation.config import EvaluateConfig
from shared.leads import subset_leads
from shared.statistics.bootstrap import Resamples, difference_all, score_all
from shared.statistics.interval import Scores
from shared.statistics.metrics import choose_thresholds

SCORED = (
    "auroc_macro",
    "auroc_weighted",
    "auprc_macro",
    "f1_macro",
    "f1_weighted",
    "sensitivity_at_95_macro",
    "ece_macro",
)


@dataclass(frozen=True)
class Context:
    """What a protocol gets.

    Attributes:
        config: the evaluation's config.
        store: the records.
        task: labels of all records of the store.
        indices: `[n]` store rows of the embeddings, in order.
        split: positions within `indices`.
        rows: encoder name to embeddings `[n, D]`; the first is the one evaluated, `random encoder` is always there.
        resamples: of the test split, the same for all rows.
        out: the report folder.
        device: where to compute.
        encoders: encoder name to the encoder (a module that satisfies `embed.Encoder`), for protocols that embed anew.
    """

    config: EvaluateConfig
    store: ECGStore
    task: Task
    indices: np.ndarray
    split: Split
    rows: dict[str, np.ndarray]
    resamples: Resamples
    out: Path
    device: torch.device
    encoders: dict[str, Any] = field(default_factory=dict)

    def embed(
        self,
        row: str,
        leads: Sequence[str] | None = None,
        store: ECGStore | None = None,
        indices: np.ndarray | None = None,
    ) -> np.ndarray:
        """Embeddings `[n, D]` of a row under other circumstances, cached.

        Args:
            row: a name in `encoders`.
            leads: which leads it sees; None takes the config's.
            store: other signals of the same records; None takes the context's store.
            indices: store rows; None takes all of the context.

        Raises:
            UserError: the context has no such encoder, or what `embed_store` refuses.
        """
        if row not in self.encoders:
            raise UserError(f"encoder {row!r} is not at hand, only its embeddings are; this protocol must embed anew.")
        if leads is None and self.config.encoder.leads is not None:
            leads = subset_leads(self.config.encoder.leads, self.encoders[row].input_spec.leads)
        return embed_cached(
            self.out / "cache",
            self.encoders[row],
            self.store if store is None else store,
            self.indices if indices is None else indices,
            leads=leads,
            num_crops=self.config.num_crops,
            batch_size=self.config.batch_size,
            device=self.device,
            dtype=torch.bfloat16 if self.config.precision == "bf16" else None,
            name=row.replace(" ", "-"),
        )

    @property
    def labels(self) -> np.ndarray:
        """`[n, C]`, aligned with the embeddings."""
        return self.task.labels[self.indices]

    @property
    def patients(self) -> np.ndarray:
        """`[n]` patient names, aligned with the embeddings."""
        return self.store.records.patient.to_numpy()[self.indices]


RANDOM = "random encoder"


@dataclass(frozen=True)
class Picture:
    """A picture of the report."""

    path: Path
    caption: str


@dataclass
class Result:
    """Scores of every row, and of every row minus the baseline.

    Attributes:
        scores: row to metric to interval.
        differences: row to metric to interval of `row − baseline`, same resamples.
        predictions: row to test scores `[n_test, C]`, where the protocol predicts.
        notes: what a reader must know.
        figures: pictures already written below the report folder.
        baseline: what the differences are to.
    """

    scores: dict[str, Scores]
    differences: dict[str, Scores] = field(default_factory=dict)
    predictions: dict[str, np.ndarray] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    figures: list[Picture] = field(default_factory=list)
    baseline: str = RANDOM


def score_predictions(context: Context, predictions: dict[str, tuple[np.ndarray, np.ndarray]]) -> Result:
    """Score every row's test predictions; F1 thresholds come from its validation predictions.

    Args:
        context: labels, resamples and class names.
        predictions: row to `(val [n_val, C], test [n_test, C])`.
    """
    config, split, labels = context.config, context.split, context.labels
    truth = labels[split.test]
    thresholds = {name: choose_thresholds(labels[split.val], val) for name, (val, _) in predictions.items()}
    common = {
        "resamples": context.resamples,
        "class_names": context.task.classes,
        "metrics": SCORED,
        "min_positives": config.min_positives,
    }
    scores = {
        name: score_all(truth, test, thresholds=thresholds[name], **common)  # type: ignore[arg-type]
        for name, (_, test) in predictions.items()
    }
    differences = {
        name: difference_all(
            truth,
            test,
            predictions[RANDOM][1],
            thresholds=(thresholds[name], thresholds[RANDOM]),
            **common,  # type: ignore[arg-type]
        )
        for name, (_, test) in predictions.items()
        if name != RANDOM and RANDOM in predictions
    }
    first = next(iter(scores.values()))
    left_out = first["auroc_macro"].get("left_out", {})
    notes = [f"left out of the averages: {name} ({reason})" for name, reason in left_out.items()]
    return Result(scores, differences, {name: test for name, (_, test) in predictions.items()}, notes)
