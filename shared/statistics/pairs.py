"""Sums over pairs of records under resampling, never holding all pairs of a large set at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from shared.statistics.metrics import Array

BLOCK = 1024


def sum_pairs(weights: Array, block: Callable[[slice], Array]) -> Array:
    """Sum w_i w_j k_ij over all ordered pairs.

    Args:
        weights: `[R, n]`, how often each record counts.
        block: rows of the pair values, slice to `[b, n]`.

    Returns:
        float64 `[R]`.
    """
    weights = weights.astype(np.float64)
    total = np.zeros(len(weights))
    for start in range(0, weights.shape[1], BLOCK):
        rows = slice(start, min(start + BLOCK, weights.shape[1]))
        total += np.einsum("rb,rb->r", weights[:, rows], weights @ block(rows).T.astype(np.float64))
    return total
