"""Scores of the spectrum of embeddings: how many dimensions they use, and how it decays."""

from __future__ import annotations

import numpy as np
import torch

BLOCK = 2**14
ALPHA_RANKS = (11, 50)
EPSILON = 1e-7


def effective_rank(x: np.ndarray, weights: np.ndarray | None = None, *, centred: bool = False) -> float:
    """Exponential of the entropy of the normalised singular values of embeddings `[n, D]`.

    As they are it is RankMe, from the eigenvalues of xᵀx and with its ε of 1e-7; centred it counts the directions in which
    records differ, and a constant added to all of them changes nothing.

    Args:
        x: embeddings.
        weights: `[n]`, how often each counts; not for the centred one.
        centred: whether to subtract the mean first.

    Source: Roy and Vetterli, EUSIPCO 2007; Garrido et al., RankMe, ICML 2023, eq. 1-2.
    """
    if centred:
        values = torch.linalg.svdvals((torch.from_numpy(x) - torch.from_numpy(x).mean(0)).double())
        return float(torch.special.entr(values / values.sum().clamp_min(1e-12)).sum().exp())
    singular = np.sqrt(np.linalg.eigvalsh(moments(x, weights)[0]).clip(0))
    total = singular.sum()
    if total == 0:
        return 0.0
    p = singular[-min(x.shape) :] / total + EPSILON
    return float(np.exp(-(p * np.log(p)).sum()))


def alpha_req(x: np.ndarray, weights: np.ndarray | None = None) -> float:
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


def moments(x: np.ndarray, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, float]:
    """Sum of x xᵀ float64 `[D, D]`, sum of x `[D]` and number of records, in blocks, each record counted `weights [n]` times."""
    counts = np.ones(len(x)) if weights is None else weights.astype(np.float64)
    products, total = np.zeros((x.shape[1],) * 2), np.zeros(x.shape[1])
    for i in range(0, len(x), BLOCK):
        part = x[i : i + BLOCK].astype(np.float64)
        weighted = part * counts[i : i + BLOCK, None]
        products += weighted.T @ part
        total += weighted.sum(axis=0)
    return products, total, float(counts.sum())
