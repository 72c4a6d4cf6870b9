"""Scores of predicted numbers, under resampling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from shared.statistics.curves import divide
from shared.statistics.metrics import Array, check_finite, check_weights


def _errors(truth: ArrayLike, prediction: ArrayLike, weights: ArrayLike | None) -> tuple[Array, Array, Array]:
    """Return truth and prediction `[n]`, both less the mean of truth, and shares `[R, n]` that sum to 1 in each row."""
    of_truth, predicted = np.asarray(truth, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    if of_truth.ndim != 1 or of_truth.shape != predicted.shape or not of_truth.size:
        raise ValueError(
            f"truth {of_truth.shape} and prediction {predicted.shape} given; expected the same non-empty [records]"
        )
    check_finite(of_truth, "truth")
    check_finite(predicted, "predictions")
    counts = check_weights(weights, len(of_truth)).astype(np.float64)
    shares = divide(counts, counts.sum(axis=1, keepdims=True))
    return of_truth - of_truth.mean(), predicted - of_truth.mean(), shares


def _variance(values: Array, shares: Array) -> Array:
    """Variance `[R]` of `values [n]`; exactly 0 where it is nothing but rounding."""
    values = values - values.mean()
    variance = shares @ values**2 - (shares @ values) ** 2
    return np.where(variance > 1e-12 * (values**2).max(), variance, 0.0)


def mae(truth: ArrayLike, prediction: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """Mean absolute error `[R]` of `prediction [n]`, in the unit of `truth [n]`."""
    true, predicted, shares = _errors(truth, prediction, weights)
    return np.asarray(shares @ np.abs(predicted - true))


def rmse(truth: ArrayLike, prediction: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """Root mean squared error `[R]` of `prediction [n]`, in the unit of `truth [n]`."""
    true, predicted, shares = _errors(truth, prediction, weights)
    return np.asarray(np.sqrt(shares @ (predicted - true) ** 2))


def r2(truth: ArrayLike, prediction: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """Coefficient of determination `[R]`; NaN where a row holds one true value only."""
    true, predicted, shares = _errors(truth, prediction, weights)
    return np.asarray(1 - divide(shares @ (predicted - true) ** 2, _variance(true, shares)))


def pearson(truth: ArrayLike, prediction: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """Pearson correlation `[R]`; NaN where truth or prediction does not vary in a row."""
    true, predicted, shares = _errors(truth, prediction, weights)
    predicted = predicted - predicted.mean()
    covariance = shares @ (true * predicted) - (shares @ true) * (shares @ predicted)
    return divide(covariance, np.sqrt(_variance(true, shares) * _variance(predicted, shares)))


REGRESSION: dict[str, Callable[[Any, Any, Any], Array]] = {"mae": mae, "rmse": rmse, "r2": r2, "pearson": pearson}
