"""Scores of the spectrum of embeddings: how many dimensions they use, and how it decays."""

from __future__ import annotations

import numpy as np

from shared.statistics.metrics import Array

BLOCK = 2**14


ALPHA_RANKS = (11, 50)


EPSILON = 1e-7


def moments(x: Array, weights: Array | None = None) -> tuple[Array, Array, float]:
    """Sum of x xᵀ float64 `[D, D]`, sum of x `[D]` and number of records, in blocks, each record counted `weights [n]` times."""
    counts = np.ones(len(x)) if weights is None else weights.astype(np.float64)
    products, total = np.zeros((x.shape[1],) * 2), np.zeros(x.shape[1])
    for i in range(0, len(x), BLOCK):
        part = x[i : i + BLOCK].astype(np.float64)
        weighted = part * counts[i : i + BLOCK, None]
        products += weighted.T @ part
        total += weighted.sum(axis=0)
    return products, total, float(counts.sum())


def rank_me(x: Array, weights: Array | None = None) -> float:
    """Effective rank of embeddings `[n, D]`: exp of the entropy of their normalised singular values.

    The singular values are those of the matrix as it is, not centred, from the eigenvalues of xᵀx.

    Source: Garrido et al., RankMe, ICML 2023, eq. 1–2 (with its ε of 1e-7).
    """
    singular = np.sqrt(np.linalg.eigvalsh(moments(x, weights)[0]).clip(0))
    total = singular.sum()
    if total == 0:
        return 0.0
    p = singular[-min(x.shape) :] / total + EPSILON
    return float(np.exp(-(p * np.log(p)).sum()))


def alpha_req(x: Array, weights: Array | None = None) -> float:
    """Decay α of the covariance's eigenvalues, λ_j ∝ j^(−α), of embeddings `[n, D]`.

    Least squares of log λ on log j over ranks 11 to 50 (the first few follow no power law), fewer where the covariance
    has fewer eigenvalues above rounding; NaN below 20 of them.

    Source: Agrawal et al., α-ReQ, NeurIPS 2022; ranks as in Stringer et al., Nature 2019;571:361.
    """
    products, total, count = moments(x, weights)
    mean = total / count
    spectrum = np.linalg.eigvalsh(products / count - np.outer(mean, mean))[::-1]
    spectrum = spectrum[spectrum > spectrum[0] * 1e-12]
    first, last = ALPHA_RANKS[0], min(ALPHA_RANKS[1], len(spectrum), len(x) - 1)
    if last < 20:
        return float("nan")
    ranks = np.arange(first, last + 1)
    return float(-np.polyfit(np.log(ranks), np.log(spectrum[first - 1 : last]), 1)[0])
