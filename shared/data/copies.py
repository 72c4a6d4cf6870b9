"""Records that are one recording: identical or shifted in time, cut, resampled, rescaled, lightly filtered.

Beats whose surroundings look alike propose a pair and its shift; the correlation of the whole stretch that the two have in
common decides. Every beat is held against every beat (as one matrix product, in blocks), so that nothing is missed by a
hash (scripts/benchmarks/copies.py measures misses, false alarms and cost).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shared.data.fingerprint import PRINT_FS, Prints, Signals, common_leads, store_prints
from shared.data.store import ECGStore

ALIKE = 0.98
"""Beats whose surroundings correlate this much propose a pair."""
SAME, SAME_OF_FEW = 0.98, {1: 0.995, 2: 0.985}
"""A pair whose leads all correlate this much over their common stretch is one recording; fewer leads say less, and more is
asked of them (of pairs that beats propose, two patients' records of PTB-XL reach 0.990 in lead II, 0.975 in two leads)."""
MIN_COMMON = 2.5
"""s; of a shorter common stretch two people's ECG may look the same."""
EDGE = 0.6
"""s at a record's ends, which a filter sees differently once a record was cut there."""
NUM_COMPONENTS = 48
BLOCK = (1024, 4096)
"""Beats of either side that are compared at a time; what fits into a processor's cache."""
AT_A_TIME = 8192
"""Records whose fingerprints are in memory at a time, of either side."""
LAGS = np.arange(-3, 4)
"""Samples by which a proposed shift may be off."""


@dataclass(frozen=True)
class Copies:
    """Pairs of one recording.

    Attributes:
        a, b: `[k]` positions among the records compared.
        correlation: `[k]` of the lead that agrees least, over the common stretch.
        leads: those compared; none where the stores share none, and then nothing was compared.
        mute: records of a and b that gave nothing to compare.
    """

    a: np.ndarray
    b: np.ndarray
    correlation: np.ndarray
    leads: tuple[str, ...]
    mute: tuple[int, int]


def find_copies(a: ECGStore, in_a: np.ndarray, b: ECGStore, in_b: np.ndarray) -> Copies:
    """Which of the records `in_a` of one store are a recording of `in_b` of another, or of the same, store.

    Two stores may differ in rate, length of segments, leads and gain. A record is never compared with itself.
    """
    leads, none = common_leads(a.leads, b.leads), np.empty(0, int)
    if not leads:
        return Copies(none, none, np.empty(0), leads, (len(in_a), len(in_b)))
    in_a, in_b = np.asarray(in_a), np.asarray(in_b)
    pairs: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    mute_a = mute_b = 0
    for first in range(0, len(in_a), AT_A_TIME):
        prints = store_prints(a, in_a[first : first + AT_A_TIME], leads)
        mute_a, mute_b = mute_a + prints.mute, 0
        for second in range(0, len(in_b), AT_A_TIME):
            others = store_prints(b, in_b[second : second + AT_A_TIME], leads)
            mute_b += others.mute
            one, two, correlation = match_prints(prints, others)
            pairs.append((one + first, two + second, correlation))
    if not pairs:
        return Copies(none, none, np.empty(0), leads, (0, 0))
    one, two, correlation = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    if a.path == b.path:
        other = in_a[one] != in_b[two]
        one, two, correlation = one[other], two[other], correlation[other]
    return Copies(one, two, correlation, leads, (mute_a, mute_b))


def find_copies_within(store: Signals, indices: np.ndarray) -> Copies:
    """Which of these records are one recording: `find_copies` of one store with itself, each pair once, at half its cost."""
    leads, indices = common_leads(store.leads, store.leads), np.asarray(indices)
    pairs = [np.empty((3, 0))]
    mute = 0
    for first in range(0, len(indices) if leads else 0, AT_A_TIME):
        prints = store_prints(store, indices[first : first + AT_A_TIME], leads)
        mute += prints.mute
        for second in range(first, len(indices), AT_A_TIME):
            others = prints if second == first else store_prints(store, indices[second : second + AT_A_TIME], leads)
            one, two, correlation = match_prints(prints, others)
            pairs.append(np.stack([one + first, two + second, correlation]))
    one, two, correlation = np.concatenate(pairs, axis=1)
    once = one < two
    mute = mute if leads else len(indices)
    return Copies(one[once].astype(int), two[once].astype(int), correlation[once], leads, (mute, mute))


def match_prints(a: Prints, b: Prints) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of one recording: record of a, record of b, correlation; each pair once.

    Of prints with themselves, at least those where the record of a comes first.
    """
    none = np.empty(0, int), np.empty(0, int), np.empty(0)
    if not len(a.owner) or not len(b.owner):
        return none
    components = _components(b.vectors)
    flat_a, flat_b = _project(a.vectors, components), _project(b.vectors, components)
    pairs = []
    product = np.empty(BLOCK, np.float32)  # a fresh one in each turn would cost more than the product itself
    for first in range(0, len(flat_a), BLOCK[0]):
        rows, columns = [], []
        for second in range(first // BLOCK[1] * BLOCK[1] if a is b else 0, len(flat_b), BLOCK[1]):
            one, two = flat_a[first : first + BLOCK[0]], flat_b[second : second + BLOCK[1]]
            alike = np.matmul(one, two.T, out=product.ravel()[: len(one) * len(two)].reshape(len(one), len(two)))
            row, column = np.divmod(np.flatnonzero(alike.ravel() > ALIKE), len(two))
            rows.append(row + first)
            columns.append(column + second)
        pairs.append(_confirm(a, b, np.concatenate(rows), np.concatenate(columns)))
    one, two, correlation = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    order = np.lexsort((-correlation, two, one))
    one, two, correlation = one[order], two[order], correlation[order]
    new = np.ones(len(one), dtype=bool)
    new[1:] = (np.diff(one) != 0) | (np.diff(two) != 0)
    return one[new], two[new], correlation[new]


def _components(vectors: np.ndarray) -> np.ndarray:
    """`[D, k]`: the directions along which a sample of the vectors is longest."""
    some = vectors[:: max(1, len(vectors) // 20000)]
    _, directions = np.linalg.eigh(some.T @ some)
    return np.ascontiguousarray(directions[:, -NUM_COMPONENTS:])


def _project(vectors: np.ndarray, components: np.ndarray) -> np.ndarray:
    """`[m, k + 1]`: coordinates, and the length of what they leave: products are upper bounds of those of the vectors."""
    along = vectors @ components
    left = np.sqrt(np.maximum((vectors**2).sum(axis=1) - (along**2).sum(axis=1), 0))
    return np.ascontiguousarray(np.column_stack([along, left]), dtype=np.float32)


def _confirm(a: Prints, b: Prints, row: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Those of the proposed pairs of beats whose records agree over all they have in common."""
    shift = np.rint(a.at[row] - b.at[column]).astype(int)
    likeness = np.einsum("md,md->m", a.vectors[row], b.vectors[column])  # what the bound let through
    true = likeness > ALIKE
    proposals = np.column_stack([a.owner[row], b.owner[column], shift])[true]
    # Beats of a pair propose one shift give or take a sample: each group of three is looked at once.
    proposals[:, 2] = 3 * np.rint(proposals[:, 2] / 3).astype(int)
    proposals = np.unique(proposals, axis=0)
    found = [_correlate(a.signals, b.signals, proposals[k : k + 256]) for k in range(0, len(proposals), 256)]
    correlation = np.concatenate(found) if found else np.empty(0)
    same = correlation >= SAME_OF_FEW.get(a.signals.shape[1], SAME)
    return proposals[same, 0], proposals[same, 1], correlation[same]


def _correlate(a: np.ndarray, b: np.ndarray, proposals: np.ndarray) -> np.ndarray:
    """`[k]`: correlation over the common stretch, at the best shift near the proposed, of the lead that agrees least.

    Args:
        a, b: `[n, L, T]` signals.
        proposals: `[k, 3]` record of a, record of b, samples by which b lies later in a.
    """
    one, two, shift = proposals.T
    edge, need = round(EDGE * PRINT_FS), round(MIN_COMMON * PRINT_FS)
    place = np.arange(a.shape[2])
    in_a = (place >= edge) & (place < a.shape[2] - edge)
    in_b = place[None] - shift[:, None]
    common = in_a & (in_b >= edge) & (in_b < b.shape[2] - edge)
    x = a[one].astype(np.float32) * common[:, None]
    size_x = np.einsum("klt,klt->kl", x, x)
    rows = two[:, None, None], np.arange(b.shape[1])[None, :, None]
    by_lag = []
    for lag in LAGS:
        y = b[(*rows, np.clip(in_b + lag, 0, b.shape[2] - 1)[:, None])].astype(np.float32) * common[:, None]
        size = np.sqrt(size_x * np.einsum("klt,klt->kl", y, y))
        agreement = np.einsum("klt,klt->kl", x, y) / np.maximum(size, 1e-9)
        by_lag.append(np.where(size > 1e-6, agreement, np.nan))
    values = np.stack(by_lag, axis=-1)  # [k, L, lags]
    silent = np.isnan(values).all(axis=(1, 2)) | (common.sum(axis=1) < need)
    values = np.where(np.isnan(values), np.inf, values).min(axis=1)
    # Between two samples the correlation is higher than at either: the parabola's top, where the best lag has neighbours.
    best = values.argmax(axis=1)
    inner = (best > 0) & (best < len(LAGS) - 1)
    k, mid = np.arange(len(best)), np.clip(best, 1, len(LAGS) - 2)
    before, top, after = values[k, mid - 1], values[k, mid], values[k, mid + 1]
    bend = np.where(np.isfinite(top), np.minimum(before - 2 * top + after, -1e-9), -1.0)
    peak = np.where(inner, top - (before - after) ** 2 / (8 * bend), values[k, best])
    return np.where(silent | ~np.isfinite(values).all(axis=1), -1.0, np.minimum(peak, 1.0))
