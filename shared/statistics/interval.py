"""Scores with intervals, from the values of resamples."""

from __future__ import annotations

from typing import TypedDict

import numpy as np

from shared.statistics.metrics import Array

LEVEL = 0.95


class _Numbers(TypedDict):
    value: float
    low: float
    high: float
    n: int


class Interval(_Numbers, total=False):
    """A score of `n` records with its 95 % interval.

    Attributes:
        left_out: the classes that do not take part, and why.
        optimistic: what was chosen on the same records, which makes the score too high.
    """

    left_out: dict[str, str]
    optimistic: str


def bootstrap_interval(
    values: Array, n: int, recentre: bool = False, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> Interval:
    """Give the observed score with its 95 % percentile interval.

    Args:
        values: `[1 + R]`, the observed score and that of each resample; NaN resamples do not take part.
        n: records scored.
        recentre: move the interval so that its median is the observed score. Needed where resampling itself shifts the
            score: repeated records look like agreement to mutual information, inflate distances between centroids and
            widen calibration gaps, so that the plain interval may miss the value it belongs to.
        bounds: the range of the score, which a moved interval must not leave.

    Source: Efron and Tibshirani 1993, ch. 13 (percentile) and, for `recentre`, ch. 10 (estimate of bias).
    """
    value, drawn = float(values[0]), values[1:][~np.isnan(values[1:])]
    if not len(drawn) or np.isnan(value):
        return {"value": value, "low": float("nan"), "high": float("nan"), "n": n}
    low, middle, high = np.quantile(drawn, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2])
    if recentre:
        low, high = np.clip([low + value - middle, high + value - middle], *bounds)
    return {"value": value, "low": float(low), "high": float(high), "n": n}


def paired_difference(values_a: Array, values_b: Array, n: int, recentre: bool = False) -> Interval:
    """Give A − B with its interval, from `values [1 + R]` of both on the same resamples; see `bootstrap_interval`.

    Raises:
        ValueError: different numbers of resamples.
    """
    if values_a.shape != values_b.shape:
        raise ValueError(
            f"{len(values_a) - 1} and {len(values_b) - 1} resamples given; a paired difference expects the same "
            "resamples for both. Score both rows with one Resamples."
        )
    return bootstrap_interval(values_a - values_b, n, recentre)


Scores = dict[str, Interval]
