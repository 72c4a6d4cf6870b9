"""Linear probe: logistic regression on frozen embeddings, its strength chosen on validation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, PositiveFloat

from shared.config import Section
from shared.evaluation.context import Context, Protocol, Result
from shared.evaluation.scoring import CLASSIFICATION, CLASSIFICATION_HEADLINES, CLASSIFICATION_MAIN, score_predictions
from shared.statistics.metrics import Array

if TYPE_CHECKING:
    from shared.statistics.probe import LinearProbe


class LinearProbeSettings(Section):
    """Linear probes: classes by logistic regression, numbers by ridge."""

    l2: tuple[PositiveFloat, ...] = Field(
        (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0),
        min_length=1,
        description="strengths tried: mean loss + l2/2 |w|^2 on standardised features; validation chooses",
    )
    c: tuple[PositiveFloat, ...] | None = Field(
        None,
        min_length=1,
        description="in place of l2, of classes: inverse strengths as scikit-learn's C, l2 = 1/(training records x c)",
    )

    def strengths(self, num_records: int) -> tuple[float, ...]:
        """The l2 values to try with so many training records."""
        return self.l2 if self.c is None else tuple(1 / (num_records * c) for c in self.c)


def linear_probe(context: Context) -> Result:
    """Logistic regression on frozen embeddings; softmax where the task has one label per record."""
    split, labels = context.split, context.labels
    predictions, notes = {}, []
    for row, embeddings in context.rows.items():
        probe = fit_row(context, embeddings, split.train)
        predictions[row] = probe.predict(embeddings[split.val]), probe.predict(embeddings[split.test])
        notes.append(f"linear probe of {row}: l2 = {probe.l2:g}, chosen on validation")
        if not probe.converged:
            notes.append(f"linear probe of {row}: the solver did not converge, its scores may be too low")
    empty = [c for c, n in zip(context.task.classes, labels[split.train].sum(axis=0), strict=True) if n == 0]
    if empty:
        notes.append(f"linear probe: no training record has {', '.join(empty)}; predicted as a constant")
    result = score_predictions(context, predictions, chosen="the probe's l2")
    result.notes += notes
    return result


def fit_row(context: Context, embeddings: Array, train: Array) -> LinearProbe:
    """The linear probe of one encoder from the training positions `train`, as the config says."""
    from shared.statistics.probe import fit_logistic

    val, labels = context.split.val, context.labels
    return fit_logistic(
        embeddings[train],
        labels[train],
        embeddings[val],
        labels[val],
        context.config.settings(LinearProbeSettings).strengths(len(train)),
        softmax=context.config.single_label,
        device=context.device,
    )


LINEAR_PROBE = Protocol(
    linear_probe,
    LinearProbeSettings,
    "probe",
    CLASSIFICATION,
    CLASSIFICATION_MAIN,
    CLASSIFICATION_HEADLINES,
    validates=True,
)
