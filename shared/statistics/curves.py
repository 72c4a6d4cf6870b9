"""ROC and precision-recall curves of many resamples at once, and what is read from them.

True positives grow only at scores that some positive record has. All that is computed here follows from these points, which
are few where a class is rare; counts of records are whole numbers, exact in float32 up to 2^24.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SPECIFICITY = 0.95
FEW_COLUMNS = 32
"""With fewer resamples than this, a row-by-row sum costs more than numpy's own."""


@dataclass(frozen=True)
class Curve:
    """Counts of calling all at or above a score, at the `K` distinct scores of positives, the highest first.

    Attributes:
        tps, fps: `[K, R]`, true and false positives.
        fps_above: `[K, R]`, false positives of calling only what is above the score; ties make the difference.
        positives, negatives: float64 `[R]`, all there are.
    """

    tps: Array
    fps: Array
    fps_above: Array
    positives: Array
    negatives: Array

    @property
    def gains(self) -> Array:
        """True positives `[K, R]` at exactly each score."""
        return np.diff(self.tps, axis=0, prepend=np.zeros_like(self.tps[:1]))


def divide(top: Array, bottom: Array) -> Array:
    """`top / bottom` with NaN, and no warning, where `bottom` is 0."""
    undefined = np.full(np.broadcast_shapes(top.shape, bottom.shape), np.nan)
    return np.asarray(np.divide(top, bottom, out=undefined, where=bottom > 0))


def read_curves(
    functions: Sequence[Callable[[Curve], Array]], labels: Array, scores: Array, weights: Array
) -> list[Array]:
    """Apply each of `functions`, curve to `[R]`, to every class: float64 `[R, C]` each.

    Args:
        functions: such as `roc_area`.
        labels: bool `[n, C]`.
        scores: `[n, C]`.
        weights: `[R, n]`, how often each record counts.
    """
    counts = np.ascontiguousarray(weights.T)  # [n, R]: records are reordered by whole rows
    whole = weights.dtype.kind == "u" and weights.sum(axis=1, dtype=np.int64).max(initial=0) < 2**24
    dtype = np.float32 if whole else np.float64
    found = []
    for c in range(labels.shape[1]):
        curve = make_curve(labels[:, c], scores[:, c], counts, dtype)
        found.append([function(curve) for function in functions])
    return [np.stack(values, axis=1) for values in zip(*found, strict=True)]


def make_curve(positive: Array, scores: Array, counts: Array, dtype: type = np.float64) -> Curve:
    """The curve of one class.

    Args:
        positive: bool `[n]`.
        scores: `[n]`.
        counts: `[n, R]`, how often each record counts.
        dtype: of the curve.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.flatnonzero(positive[order])
    called = _running_sum(counts[order], dtype)  # [n, R]
    true = _running_sum(counts[order[hits]], dtype)  # [P, R]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # tied records are called together
    group = np.unique(np.searchsorted(ends, hits))  # [K], the groups that hold a positive
    tps = true[np.searchsorted(hits, ends[group], side="right") - 1]
    above = np.where(group[:, None] > 0, called[ends[group - 1]], 0)
    positives = true[-1].astype(np.float64) if len(true) else np.zeros(counts.shape[1])
    return Curve(
        tps,
        called[ends[group]] - tps,
        above - np.concatenate([np.zeros_like(tps[:1]), tps[:-1]]),
        positives,
        called[-1].astype(np.float64) - positives,
    )


def _running_sum(values: Array, dtype: type) -> Array:
    """Cumulative sum over the rows of `values [n, R]`."""
    if values.shape[1] < FEW_COLUMNS:
        return np.asarray(np.cumsum(values, axis=0, dtype=dtype))
    total: Array = values.astype(dtype)
    for before, row in pairwise(total):  # five times as fast as `cumsum`, which goes by columns
        np.add(before, row, out=row)
    return total


def roc_area(curve: Curve) -> Array:
    """Area under the ROC curve, ties counted half; NaN without positives or without negatives."""
    # Trapezoids, by the negatives below each positive. Of whole numbers every term is one: the sum is exact.
    below = 2 * curve.negatives - curve.fps - curve.fps_above
    doubled = np.einsum("kr,kr->r", curve.gains.astype(np.float64), below)
    return divide(doubled, 2 * curve.positives * curve.negatives)


def average_precision(curve: Curve) -> Array:
    """Precision at each score, weighted by the gain in recall; NaN without positives."""
    tps = curve.tps.astype(np.float64)
    called = tps + curve.fps
    precision = np.divide(tps, called, out=np.zeros_like(tps), where=called > 0)
    return divide(np.einsum("kr,kr->r", curve.gains.astype(np.float64), precision), curve.positives)


def highest_sensitivity(curve: Curve) -> Array:
    """Highest sensitivity where specificity is at least 95 %; NaN without positives or without negatives."""
    allowed = curve.negatives * (1 - SPECIFICITY) * (1 + 1e-12)  # 5 false of 100 stay allowed after rounding
    best = np.where(curve.fps <= allowed, curve.tps, 0.0).max(axis=0, initial=0.0)
    return divide(best, np.where(curve.negatives > 0, curve.positives, 0.0))
