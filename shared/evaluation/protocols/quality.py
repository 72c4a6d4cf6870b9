"""Quality of embeddings without labels: how many dimensions they use, and how they lie on the sphere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shared.data.store import ECGStore
from shared.evaluation.context import Context, Protocol, Result
from shared.evaluation.protocols.robustness import DisturbedStore, add_white_noise
from shared.evaluation.scoring import score_values
from shared.statistics.metrics import Array, check_finite
from shared.statistics.pairs import sum_pairs
from shared.statistics.spectrum import alpha_req, effective_rank

MAX_POINTS = 4000
"""Pairs for the uniformity come from at most so many records: their number grows with the square."""
SPECTRUM_RESAMPLES = 100
"""Every resample needs its own eigenvalues: the spectral scores take the first so many."""
JITTER_DB = 20.0


def quality(context: Context) -> Result:
    """RankMe, alpha-ReQ, alignment and uniformity of the test embeddings; labels play no part.

    Positives of the alignment are the first and the last window of the same record; where the encoder's window is as
    long as the record, the record and itself with white noise at 20 dB. Lower alignment and uniformity are better; RankMe
    is better high; alpha-ReQ near 1. Intervals of the spectral scores are moved onto the value, since a resample with
    repeated records always has a lower rank.
    """
    test = context.split.test
    sample = np.arange(len(test))
    if len(test) > MAX_POINTS:
        sample = np.sort(np.random.default_rng(context.config.seed).choice(len(test), MAX_POINTS, replace=False))
    notes, values = [], {}
    for row, embeddings in context.rows.items():
        x = embeddings[test]
        check_finite(x, f"embeddings of {row}")
        spectral = {"rankme": [np.array([effective_rank(x)])], "alpha_req": [np.array([alpha_req(x)])]}
        for weights in context.resamples.weights(0, min(SPECTRUM_RESAMPLES, context.resamples.num)):
            spectral["rankme"].append(np.array([effective_rank(x, weights)]))
            spectral["alpha_req"].append(np.array([alpha_req(x, weights)]))
        values[row] = {name: np.concatenate(v) for name, v in spectral.items() if np.isfinite(v[0][0])}
        unit = normalise(x)
        near = np.exp(-2 * squared_distances(unit[sample]))
        np.fill_diagonal(near, 0)

        def spread(weights: Array, near: Array = near) -> dict[str, Array]:
            return {"uniformity": uniformity(near, weights[:, sample])}

        values[row] |= context.resamples.evaluate(spread)
        if row in context.encoders:
            first, second, how = two_views(context, row)
            apart = ((normalise(first) - normalise(second)) ** 2).sum(axis=1)

            def mean(weights: Array, apart: Array = apart) -> dict[str, Array]:
                return {"alignment": weights @ apart / weights.sum(axis=1)}

            values[row] |= context.resamples.evaluate(mean)
            notes = [f"quality: positives of the alignment are {how}"]
    dim = next(iter(context.rows.values())).shape[1]
    notes.append(
        f"quality: RankMe is at most {min(dim, len(test))} here; intervals of RankMe and alpha-ReQ from "
        f"{min(SPECTRUM_RESAMPLES, context.resamples.num)} resamples"
    )
    result = score_values(context, values, len(test), recentre=("rankme", "alpha_req"))
    result.notes = notes
    return result


def normalise(x: Array) -> Array:
    """Rows of unit length, float64; a zero row stays zero."""
    x = x.astype(np.float64)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.where(length > 0, length, 1))


def squared_distances(unit: Array) -> Array:
    """Squared Euclidean distances `[n, n]` of rows of unit length."""
    return np.asarray((2 - 2 * unit @ unit.T).clip(0))


def uniformity(near: Array, weights: Array) -> Array:
    """log of the mean of exp(−2 d²) over pairs of different records, `[R]`; lower is more uniform.

    Args:
        near: `[n, n]`, exp(−2 d²) with a zero diagonal: copies of one record in a resample are no pair.
        weights: `[R, n]`.

    Source: Wang and Isola, ICML 2020, L_uniform with t = 2; the alignment beside it is L_align with α = 2.
    """
    counts = weights.astype(np.float64)
    pairs = counts.sum(axis=1) ** 2 - (counts**2).sum(axis=1)
    total = sum_pairs(weights, lambda rows: near[rows])
    with np.errstate(divide="ignore"):
        return np.log(np.divide(total, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0))


class WindowStore(ECGStore):
    """The same records seen through one fixed window, whatever window is asked for."""

    def __init__(self, store: ECGStore, start: int) -> None:
        self.__dict__.update(store.__dict__)
        self.fingerprint = f"{store.fingerprint}+start{start}"
        self.start = start

    def read_windows(
        self, indices: np.ndarray, starts: np.ndarray, length: int, rows: Sequence[int] | None = None
    ) -> np.ndarray:
        """As `ECGStore.read_windows`, from the fixed start."""
        return super().read_windows(indices, np.full(len(indices), self.start), length, rows)


def two_views(context: Context, row: str) -> tuple[Array, Array, str]:
    """Embeddings `[n_test, D]` of two views of every test record, and what the views are."""
    store, indices = context.store, context.indices[context.split.test]
    spare = store.num_samples - context.encoders[row].input_spec.num_samples
    if spare > 0:
        views = [context.embed(row, store=WindowStore(store, start), indices=indices) for start in (0, spare)]
        return views[0], views[1], "the first and the last window of a record"
    noisy = DisturbedStore(store, f"noise{JITTER_DB:g}", add_white_noise, JITTER_DB, context.config.seed)
    return (
        context.embed(row, indices=indices),
        context.embed(row, store=noisy, indices=indices),
        f"a record and itself with white noise at {JITTER_DB:g} dB",
    )


QUALITY = Protocol(
    quality,
    titles={
        "rankme": "RankMe ↑",
        "alpha_req": "alpha-ReQ (near 1 is best)",
        "alignment": "alignment ↓",
        "uniformity": "uniformity ↓",
    },
    unranked=("alpha_req",),
)
