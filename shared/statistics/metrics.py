"""Scores of predictions against labels, each for many sets of record weights at once.

Every function takes `weights [R, n]`: row `r` says how often each record counts, so one call scores a whole block of
bootstrap resamples (`bootstrap.py`); without weights every record counts once and `R` is 1. Labels are `[n, C]` in
{0, 1}, scores `[n, C]`. A class that a row of weights leaves without positives (or, for ROC figures, without negatives)
gives NaN in that row and is skipped by the averages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from shared.errors import UserError
from shared.statistics.curves import (
    Array,
    average_precision,
    divide,
    highest_sensitivity,
    make_curve,
    read_curves,
    roc_area,
)

Compute = Callable[[Any, Any, Any], Array]
CALIBRATION_BINS = 15


def check_finite(values: Array, what: str) -> None:
    """Refuse NaN and infinity in `values [n, ...]` with a UserError that says how many rows and which is the first."""
    bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if bad.any():
        raise UserError(
            f"{what} hold NaN or infinity in {int(bad.sum())} of {len(values)} rows, first in row {int(bad.argmax())}; "
            "expected finite numbers. Check the encoder and its input, or leave these records out."
        )


def check_inputs(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None) -> tuple[Array, Array, Array]:
    """Return labels as bool `[n, C]`, scores as float64 `[n, C]` and weights `[R, n]`, all checked.

    Raises:
        UserError: scores that are not finite.
        ValueError: shapes that disagree, labels other than 0 and 1, negative weights.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if labels.ndim != 2 or labels.shape != scores.shape or not labels.size:
        raise ValueError(
            f"labels {labels.shape} and scores {scores.shape} given; expected the same non-empty [records, classes]"
        )
    check_finite(scores, "scores")
    if labels.dtype != bool and not (valid := np.isin(labels, (0, 1))).all():
        raise ValueError(f"labels hold {labels[~valid][0]}; expected 0 and 1 only, one column per class (multi-hot)")
    return labels.astype(bool), scores, check_weights(weights, len(labels))


def check_weights(weights: ArrayLike | None, num_records: int) -> Array:
    """Return `weights [R, n]` in their (compact) dtype, refusing negative ones; ones `[1, n]` where none are given."""
    if weights is None:
        return np.ones((1, num_records), dtype=np.uint8)
    weights = np.asarray(weights)
    if weights.ndim != 2 or weights.shape[1] != num_records:
        raise ValueError(f"weights {weights.shape} given; expected [resamples, {num_records}], one column per record")
    if weights.dtype.kind != "u" and not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError("weights hold negative or non-finite values; expected how often each record counts, 0 or more")
    return weights


def auroc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """Area under the ROC curve per class, ties counted half.

    Args:
        labels: `[n, C]` in {0, 1}.
        scores: `[n, C]`, higher for more likely.
        weights: `[R, n]`, how often each record counts.

    Returns:
        float64 `[R, C]`; NaN where a row holds no positive or no negative of the class.
    """
    return read_curves([roc_area], *check_inputs(labels, scores, weights))[0]


def scored_auroc(labels: Array, scores: Array) -> float:
    """Mean area under the ROC curve over the classes of `labels [n, C]` that some records have and others do not."""
    both = labels.any(axis=0) & ~labels.all(axis=0)
    return float(np.mean(auroc(labels[:, both], scores[:, both])))


def auprc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """Average precision per class: precision at each distinct score, weighted by the gain in recall.

    Args and Returns as `auroc`; NaN where a row holds no positive of the class.
    """
    return read_curves([average_precision], *check_inputs(labels, scores, weights))[0]


def sensitivity_at_specificity(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """Highest sensitivity per class on the ROC curve where specificity is at least 95 %.

    Args and Returns as `auroc`.
    """
    return read_curves([highest_sensitivity], *check_inputs(labels, scores, weights))[0]


OF_CURVES = {auroc: roc_area, auprc: average_precision, sensitivity_at_specificity: highest_sensitivity}


def compute_all(
    wanted: Iterable[Compute], labels: Array, scores: Array, weights: Array, decisions: Array | None = None
) -> dict[Compute, Array]:
    """Compute several of `METRICS` on the same records; those of curves share their passes over the records.

    Args:
        wanted: what `Metric.compute` is.
        labels, scores, weights: as `auroc` takes them.
        decisions: `[n, C]`, given to those in place of scores that take decisions.

    Returns:
        Each of them to its `[R, C]`, or `[R, 1]`.
    """
    wanted = list(dict.fromkeys(wanted))
    curves = [compute for compute in wanted if compute in OF_CURVES]
    found: dict[Compute, Array] = {}
    if curves:
        values = read_curves([OF_CURVES[c] for c in curves], *check_inputs(labels, scores, weights))
        found.update(zip(curves, values, strict=True))
    by_decision = {metric.compute for metric in METRICS.values() if metric.takes_decisions}
    others = [compute for compute in wanted if compute not in found]
    return found | {c: c(labels, decisions if c in by_decision else scores, weights) for c in others}


def calibration_error(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """Expected calibration error per class: mean |observed − predicted| frequency over 15 equal bins.

    Args and Returns as `auroc`, never NaN for rows that count any record.

    Raises:
        ValueError: scores outside 0 … 1.

    Source: Guo et al. 2017, eq. 5, applied to each class as a yes/no question (multi-label).
    """
    labels, scores, weights = check_inputs(labels, scores, weights)
    if scores.min() < -1e-6 or scores.max() > 1 + 1e-6:
        raise ValueError(
            f"scores from {scores.min():g} to {scores.max():g} given; the calibration error expects probabilities "
            "from 0 to 1. Apply a sigmoid or softmax first."
        )
    bins = np.clip(np.ceil(scores * CALIBRATION_BINS).astype(np.intp) - 1, 0, CALIBRATION_BINS - 1)
    weights = weights.astype(np.float64)
    total = weights.sum(axis=1)
    errors = []
    for c in range(labels.shape[1]):
        gaps = np.zeros((len(labels), CALIBRATION_BINS))
        gaps[np.arange(len(labels)), bins[:, c]] = labels[:, c] - scores[:, c]
        errors.append(divide(np.abs(weights @ gaps).sum(axis=1), total))
    return np.stack(errors, axis=1)


def f1(labels: ArrayLike, decisions: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """F1 per class of yes/no decisions `[n, C]` in {0, 1} (see `decide`).

    Args and Returns as `auroc`; NaN where a row holds no positive of the class.

    Raises:
        ValueError: decisions other than 0 and 1.
    """
    hits, called, positives, _ = _count_decisions(labels, decisions, weights)
    return divide(2 * hits, np.where(positives > 0, called + positives, 0.0))


def sensitivity(labels: ArrayLike, decisions: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """Share of the positives that are called, per class; Args, Returns and Raises as `f1`."""
    hits, _, positives, _ = _count_decisions(labels, decisions, weights)
    return divide(hits, positives)


def specificity(labels: ArrayLike, decisions: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """Share of the negatives that are not called, per class; as `f1`, but NaN where a row holds no negative."""
    hits, called, positives, total = _count_decisions(labels, decisions, weights)
    return divide(total - positives - (called - hits), total - positives)


def positive_predictive_value(labels: ArrayLike, decisions: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """Share of the called that are positives, per class; as `f1`, but NaN where nothing is called."""
    hits, called, _, _ = _count_decisions(labels, decisions, weights)
    return divide(hits, called)


def _count_decisions(
    labels: ArrayLike, decisions: ArrayLike, weights: ArrayLike | None
) -> tuple[Array, Array, Array, Array]:
    """Weights of the true positives, of the called, of the positives, each `[R, C]`, and of all, `[R, 1]`."""
    labels, decided, weights = check_inputs(labels, decisions, weights)
    if not np.isin(decided, (0, 1)).all():
        raise ValueError("scores given; expected decisions 0 or 1. Use decide(scores, thresholds) first.")
    weights = weights.astype(np.float64)
    hits, called, positives = (weights @ x for x in (labels * decided, decided, labels.astype(np.float64)))
    return hits, called, positives, weights.sum(axis=1, keepdims=True)


def choose_thresholds(labels_val: ArrayLike, scores_val: ArrayLike) -> Array:
    """Choose the threshold of each class that maximises F1 on validation records.

    The threshold lies midway between the lowest score called positive and the next lower one; of equally good ones the
    highest is taken.

    Returns:
        float64 `[C]`; NaN for a class without a positive in validation: `score_all` leaves it out and lists it.
    """
    labels, scores, ones = check_inputs(labels_val, scores_val, None)
    thresholds = np.full(labels.shape[1], np.nan)
    for c in np.flatnonzero(labels.any(axis=0)):
        curve = make_curve(labels[:, c], scores[:, c], ones.T)
        best = int(np.argmax(2 * curve.tps / (curve.positives + curve.tps + curve.fps)))
        upper = np.unique(scores[labels[:, c], c])[::-1][best]  # the curve has the scores of positives, highest first
        lower = scores[:, c].max(initial=-np.inf, where=scores[:, c] < upper)
        lower = lower if np.isfinite(lower) else upper
        middle = lower + (upper - lower) / 2
        thresholds[c] = middle if middle > lower else upper
    return thresholds


def decide(scores: ArrayLike, thresholds: ArrayLike) -> Array:
    """Return bool `[n, C]`: scores at or above the threshold `[C]` of their class; a NaN threshold never fires.

    Raises:
        ValueError: not one threshold per class.
    """
    scores, thresholds = np.asarray(scores), np.asarray(thresholds, dtype=np.float64)
    if thresholds.shape != scores.shape[1:]:
        raise ValueError(f"thresholds {thresholds.shape} given; expected one per class {scores.shape[1:]}")
    return np.asarray(scores >= thresholds)


def _argmax(labels: Array, scores: Array) -> Array:
    """Decide for the highest score of each single-label record (the first of equals), bool `[n, C]`."""
    per_record = labels.sum(axis=1)
    if (per_record != 1).any():
        raise ValueError(
            f"{int((per_record != 1).sum())} of {len(labels)} records carry no or several labels, first row "
            f"{int((per_record != 1).argmax())}; argmax metrics expect exactly one. Use a single-label task "
            "or thresholds."
        )
    return np.asarray(np.arange(scores.shape[1]) == scores.argmax(axis=1)[:, None])


def accuracy(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """Share of single-label records whose highest score is that of their class, `[R, 1]`; other labels are refused."""
    labels, scores, weights = check_inputs(labels, scores, weights)
    correct = (labels & _argmax(labels, scores)).any(axis=1)
    weights = weights.astype(np.float64)
    return divide(weights @ correct.astype(np.float64), weights.sum(axis=1))[:, None]


def f1_argmax(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """F1 per class, `[R, C]`, of single-label records, each given to its highest score; other labels are refused."""
    labels, scores, weights = check_inputs(labels, scores, weights)
    return f1(labels, _argmax(labels, scores), weights)


def count_positives(labels: Array, weights: Array) -> Array:
    """Weight of the positives of `labels [n, C]` in each row of `weights [R, n]`, float64 `[R, C]`."""
    return np.asarray(weights.astype(np.float64) @ labels.astype(np.float64))


def average_classes(values: Array, positives: Array, average: str, kept: Sequence[int] | None = None) -> Array:
    """Average `values [R, C]` over classes to `[R]`, skipping NaN.

    Args:
        values: score per row of weights and class.
        positives: `[R, C]`, from `count_positives`.
        average: `macro` (every class alike), `weighted` (by positives in the row) or `records` (already one column).
        kept: indices of the classes that take part; all if None.
    """
    if average == "records":
        return np.asarray(values[:, 0])
    columns = np.arange(values.shape[1]) if kept is None else np.asarray(kept, dtype=np.intp)
    values = values[:, columns]
    share = positives[:, columns] if average == "weighted" else np.ones_like(values)
    share = np.where(np.isnan(values), 0.0, share)
    return divide((np.nan_to_num(values) * share).sum(axis=1), share.sum(axis=1))


@dataclass(frozen=True)
class Metric:
    """A named score: `metric(labels, scores, weights [R, n]) -> [R]`.

    Attributes:
        compute: gives `[R, C]`, or `[R, 1]` for a score of whole records.
        average: how classes are averaged, see `average_classes`.
        takes_decisions: expects `decide(scores, thresholds)` in place of scores.
        recentre: resampling shifts the score itself, see `bootstrap.bootstrap_interval`.
        every: averages every class that has a positive and a negative record, however few.
    """

    compute: Compute
    average: str
    takes_decisions: bool = False
    recentre: bool = False
    every: bool = False

    def __call__(self, labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Array:
        """Score every row of `weights`, `[R]`."""
        labels, scores, weights = check_inputs(labels, scores, weights)
        return average_classes(self.compute(labels, scores, weights), count_positives(labels, weights), self.average)


METRICS: dict[str, Metric] = {
    "auroc_macro": Metric(auroc, "macro"),
    "auroc_all_macro": Metric(auroc, "macro", every=True),
    "auroc_weighted": Metric(auroc, "weighted"),
    "auprc_macro": Metric(auprc, "macro"),
    "auprc_weighted": Metric(auprc, "weighted"),
    "f1_macro": Metric(f1, "macro", takes_decisions=True),
    "f1_weighted": Metric(f1, "weighted", takes_decisions=True),
    "sensitivity_macro": Metric(sensitivity, "macro", takes_decisions=True),
    "specificity_macro": Metric(specificity, "macro", takes_decisions=True),
    "ppv_macro": Metric(positive_predictive_value, "macro", takes_decisions=True),
    "sensitivity_at_95_macro": Metric(sensitivity_at_specificity, "macro"),
    "ece_macro": Metric(calibration_error, "macro", recentre=True),
    "accuracy": Metric(accuracy, "records"),
    "f1_argmax_macro": Metric(f1_argmax, "macro"),
    "f1_argmax_weighted": Metric(f1_argmax, "weighted"),
}
