"""Intervals of scores and of their differences by resampling patients.

Records of one patient are alike, so patients, not records, are drawn with replacement. A resample is a row of weights
(how often each record counts); the metrics score whole blocks of rows at once. Rows of a table that are given the same
`Resamples` are compared on the same draws.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from shared.errors import UserError, did_you_mean
from shared.statistics.interval import Interval, bootstrap_interval, paired_difference
from shared.statistics.metrics import (
    METRICS,
    Array,
    Compute,
    average_classes,
    check_inputs,
    compute_all,
    count_positives,
    decide,
)

K = TypeVar("K", bound=Hashable)
DEFAULT_METRICS = ("auroc_macro", "auroc_weighted", "auprc_macro")
MIN_POSITIVES = 5


class Resamples:
    """Draws of patients with replacement, made once and used for every row of a table.

    Args:
        patients: `[n]`, the patient of each record (numbers or strings).
        num: how many resamples.
        seed: the same patients, num and seed give the same draws to the bit.

    Raises:
        UserError: missing patients, fewer than two patients, no resamples.
    """

    def __init__(self, patients: npt.ArrayLike | pd.Series, num: int = 1000, seed: int = 0) -> None:
        codes, found = pd.factorize(np.asarray(patients))
        missing = codes < 0
        if missing.any():
            raise UserError(
                f"{int(missing.sum())} of {len(codes)} records have no patient, first row {int(missing.argmax())}; "
                "expected one per record. Where patients are unknown give the record's own name."
            )
        if len(found) < 2 or num < 1:
            raise UserError(
                f"{len(found)} patients and {num} resamples given; expected at least 2 patients and 1 resample. "
                "Score more patients."
            )
        self.num, self.num_records, self.num_patients = num, len(codes), len(found)
        self._patient = codes
        rng = np.random.default_rng(seed)
        # How often a patient is drawn is nearly Poisson(1): a byte holds it.
        self._counts = np.empty((num, len(found)), dtype=np.uint8)
        for row in self._counts:
            row[:] = np.bincount(rng.integers(len(found), size=len(found)), minlength=len(found))

    def weights(self, start: int, stop: int) -> npt.NDArray[np.uint8]:
        """Return how often each record counts in resamples `start` to `stop`, uint8 `[stop - start, n]`."""
        return np.take(self._counts[start:stop], self._patient, axis=1)

    def chunks(self) -> Iterator[npt.NDArray[np.uint8]]:
        """Yield all weights in blocks `[r, n]` of about half a million (at most eight million) entries."""
        rows = max(2**19 // self.num_records, min(64, 2**23 // self.num_records), 1)
        for start in range(0, self.num, rows):
            yield self.weights(start, min(start + rows, self.num))

    def evaluate(self, score: Callable[[Array], Mapping[K, Array]]) -> dict[K, Array]:
        """Apply `score(weights [R, n]) -> name: [R, ...]` to the records as they are and to every resample.

        Returns:
            name: float64 `[1 + num, ...]`; entry 0 is the observed score.
        """
        blocks = [score(np.ones((1, self.num_records), dtype=np.uint8)), *(score(weights) for weights in self.chunks())]
        return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def find_left_out(
    labels: npt.ArrayLike, class_names: Sequence[str], min_positives: int = MIN_POSITIVES, *thresholds: npt.ArrayLike
) -> dict[str, str]:
    """Name the classes that cannot be scored, each with the reason.

    Args:
        labels: `[n, C]` in {0, 1}.
        class_names: `C` names.
        min_positives: a class with fewer positives is left out.
        *thresholds: `[C]` each; a class with a NaN threshold is left out.

    Raises:
        UserError: no class is left.
        ValueError: names that do not fit, `min_positives` below 1.
    """
    labels = np.asarray(labels)
    if len(class_names) != labels.shape[1] or min_positives < 1:
        raise ValueError(
            f"{len(class_names)} class names and min_positives={min_positives} given; expected {labels.shape[1]} "
            "names, one per column of labels, and at least 1 positive"
        )
    chosen = np.array(thresholds, dtype=np.float64).reshape(-1, labels.shape[1])  # [0 or more, C]
    untuned: Array = np.asarray(np.isnan(chosen).any(axis=0))
    reasons: dict[str, str] = {}
    for c, (name, positives) in enumerate(zip(class_names, labels.sum(axis=0), strict=True)):
        if positives < min_positives:
            reasons[name] = f"{int(positives)} positives, fewer than {min_positives}"
        elif positives == len(labels):
            reasons[name] = f"all {len(labels)} records are positive"
        elif untuned[c]:
            reasons[name] = "no positive in validation to choose a threshold from"
    if len(reasons) == len(class_names):
        listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise UserError(
            f"no class can be scored ({listed}); expected at least one class with both positives and negatives. "
            "Choose another task, more records, or a lower min_positives."
        )
    return reasons


def _check_names(metrics: Sequence[str], has_thresholds: bool) -> None:
    """Refuse unknown metrics, and metrics of decisions when there are no thresholds."""
    for name in metrics:
        if name not in METRICS:
            hint = did_you_mean(name, METRICS, 0.6)
            raise ValueError(f"unknown metric {name!r}{hint} Expected some of {', '.join(METRICS)}.")
        if METRICS[name].takes_decisions and not has_thresholds:
            raise ValueError(
                f"{name!r} expects thresholds, none given. Pass choose_thresholds(labels_val, scores_val)."
            )


@dataclass(frozen=True)
class Drawn:
    """Scores of one row's predictions on the records as they are and on every resample, before classes are averaged.

    Attributes:
        labels: `[n, C]`.
        class_names: `C` names.
        metrics: names in `METRICS`.
        thresholds: `[C]` or None.
        values: what computes a metric to its `[1 + R, C]`, or `[1 + R, 1]`.
        positives: `[1 + R, C]`.
    """

    labels: Array
    class_names: Sequence[str]
    metrics: Sequence[str]
    thresholds: npt.ArrayLike | None
    values: dict[Compute, Array]
    positives: Array

    def average(self, left_out: Mapping[str, Mapping[str, str]]) -> dict[str, Array]:
        """Metric (and `auroc/<class>`) to `[1 + R]`; `left_out` maps metric to class to reason."""
        result: dict[str, Array] = {}
        for name in self.metrics:
            metric, values = METRICS[name], self.values[METRICS[name].compute]
            kept = [c for c, cls in enumerate(self.class_names) if cls not in left_out[name]]
            result[name] = average_classes(values, self.positives, metric.average, kept)
            if metric.average != "records" and not metric.every:
                result |= {f"{name.rpartition('_')[0]}/{self.class_names[c]}": values[:, c] for c in kept}
        return result


def draw_scores(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    resamples: Resamples,
    class_names: Sequence[str],
    metrics: Sequence[str] = DEFAULT_METRICS,
    thresholds: npt.ArrayLike | None = None,
) -> Drawn:
    """Score all resamples once, for the intervals of a row and for its differences to others; arguments as `score_all`."""
    _check_names(metrics, thresholds is not None)
    labels, scores, _ = check_inputs(labels, scores, None)
    if len(labels) != resamples.num_records:
        raise ValueError(
            f"{len(labels)} records given, the resamples were drawn for {resamples.num_records}; expected the same "
            "records in the same order. Make Resamples from the patients of these records."
        )
    decisions = None if thresholds is None else decide(scores, thresholds)

    def score(weights: Array) -> dict[Compute, Array]:
        return compute_all((METRICS[name].compute for name in metrics), labels, scores, weights, decisions)

    values = resamples.evaluate(score)
    positives = resamples.evaluate(lambda weights: {"positives": count_positives(labels, weights)})["positives"]
    return Drawn(labels, class_names, metrics, thresholds, values, positives)


def is_recentred(name: str) -> bool:
    """Whether the interval of a metric, or of one class of it, is moved onto the value."""
    group, slash, _ = name.partition("/")
    return METRICS[f"{group}_macro" if slash else name].recentre


def _left_out_by_metric(
    labels: npt.ArrayLike,
    class_names: Sequence[str],
    min_positives: int,
    metrics: Sequence[str],
    *thresholds: npt.ArrayLike | None,
) -> dict[str, dict[str, str]]:
    """Give class: reason for each metric; thresholds matter only to metrics of decisions."""
    given = [t for t in thresholds if t is not None]
    _check_names(metrics, len(given) == len(thresholds))
    plain = find_left_out(labels, class_names, min_positives)
    tuned = find_left_out(labels, class_names, min_positives, *given) if given else plain
    every = find_left_out(labels, class_names, 1)
    return {
        name: tuned if METRICS[name].takes_decisions else every if METRICS[name].every else plain for name in metrics
    }


def _attach(intervals: dict[str, Interval], left_out: Mapping[str, dict[str, str]]) -> dict[str, Interval]:
    """Add `left_out` to the scores that are averaged over classes."""
    for name, reasons in left_out.items():
        if reasons and METRICS[name].average != "records":
            intervals[name]["left_out"] = reasons
    return intervals


def score_all(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    resamples: Resamples,
    class_names: Sequence[str],
    metrics: Sequence[str] = DEFAULT_METRICS,
    thresholds: npt.ArrayLike | None = None,
    min_positives: int = MIN_POSITIVES,
) -> dict[str, Interval]:
    """Score predictions with patient-level 95 % intervals.

    Args:
        labels: `[n, C]` in {0, 1}.
        scores: `[n, C]`, higher for more likely.
        resamples: draws for these `n` records.
        class_names: `C` names.
        metrics: names in `METRICS`; an average also gives `auroc/<class>` and so on of each class that takes part.
        thresholds: `[C]` from `choose_thresholds` on validation; needed by the metrics of decisions.
        min_positives: a class with fewer positives is listed in `left_out` and takes no part in the average; but in that of
            a metric of `every` class, which leaves out only those without a positive or without a negative.

    Returns:
        metric: value, low, high, n and, for averages that miss some class, left_out.

    Raises:
        UserError, ValueError: what `check_inputs` and `find_left_out` refuse.
        ValueError: an unknown metric, missing thresholds.
    """
    return score_drawn(draw_scores(labels, scores, resamples, class_names, metrics, thresholds), min_positives)


def score_drawn(drawn: Drawn, min_positives: int = MIN_POSITIVES) -> dict[str, Interval]:
    """`score_all` of scores that were drawn before."""
    left_out = _left_out_by_metric(drawn.labels, drawn.class_names, min_positives, drawn.metrics, drawn.thresholds)
    values, n = drawn.average(left_out), len(drawn.labels)
    intervals = {name: bootstrap_interval(v, n, is_recentred(name), (0.0, 1.0)) for name, v in values.items()}
    return _attach(intervals, left_out)


def resample_all(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    resamples: Resamples,
    class_names: Sequence[str],
    metrics: Sequence[str],
    min_positives: int = MIN_POSITIVES,
) -> dict[str, Array]:
    """Give each metric on the records as they are and on every resample, `[1 + R]`; arguments as `score_all`.

    Rows given the same resamples can be subtracted, and scores of several seeds put together (`hierarchical`). Metrics of
    decisions are not among these: their thresholds are not stored.
    """
    drawn = draw_scores(labels, scores, resamples, class_names, metrics)
    found = drawn.average(_left_out_by_metric(drawn.labels, class_names, min_positives, metrics, None))
    return {name: found[name] for name in metrics}


def difference_all(
    labels: npt.ArrayLike,
    scores_a: npt.ArrayLike,
    scores_b: npt.ArrayLike,
    resamples: Resamples,
    class_names: Sequence[str],
    metrics: Sequence[str] = DEFAULT_METRICS,
    thresholds: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    min_positives: int = MIN_POSITIVES,
) -> dict[str, Interval]:
    """Score A − B on the same records, resamples and classes; arguments as `score_all`, `thresholds` of A and of B.

    An interval that excludes 0 is a difference at the 5 % level.
    """
    both = thresholds if thresholds is not None else (None, None)
    a, b = (
        draw_scores(labels, scores, resamples, class_names, metrics, of_row)
        for scores, of_row in zip((scores_a, scores_b), both, strict=True)
    )
    return difference_drawn(a, b, min_positives)


def difference_drawn(a: Drawn, b: Drawn, min_positives: int = MIN_POSITIVES) -> dict[str, Interval]:
    """`difference_all` of scores that were drawn before, on the same resamples."""
    left_out = _left_out_by_metric(a.labels, a.class_names, min_positives, a.metrics, a.thresholds, b.thresholds)
    of_a, of_b = a.average(left_out), b.average(left_out)
    intervals = {name: paired_difference(v, of_b[name], len(a.labels), is_recentred(name)) for name, v in of_a.items()}
    return _attach(intervals, left_out)
