"""What all that reads ECG agrees on: which rates are possible, what is flat, what is cut off."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np

FS_RANGE = (50.0, 5000.0)
"""Hz; below, waves are lost, and above, a header is wrong."""
FLAT_MV = 0.005
"""A lead that moves less than this over a whole segment carries no ECG."""
MILLIVOLT = {"mv": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3, "v": 1e3}
"""Unit in lower case → mV; Unicode has a micro sign and a Greek letter."""
POSSIBLE_MV = (0.02, 20.0)
"""Typical peak-to-peak amplitude of a lead; beyond, the numbers are in another unit."""
CLIPPED_MS = 20.0
"""A lead that rests on its own extreme value this long may have been cut off."""
CLIPPED_STEPS = 10.0
"""It was, if within half of that time before and after it is this many of its smallest steps away."""


def typical_amplitude(ecg: np.ndarray, fs: float) -> np.ndarray:
    """Peak-to-peak amplitude `[…]` of each lead in a typical second: the median over the whole seconds of `ecg [..., T]`.

    Args:
        ecg: leads in any unit; under a second is taken as one.
        fs: Hz.
    """
    second = min(round(fs), ecg.shape[-1])
    whole = ecg[..., : ecg.shape[-1] // second * second]
    return np.asarray(np.median(np.ptp(whole.reshape(*ecg.shape[:-1], -1, second), axis=-1), axis=-1))


def resample_ends(ecg: np.ndarray, fs: float, to: float) -> np.ndarray:
    """`ecg [..., T]` at `fs` Hz as it is at `to` Hz: polyphase, so that nothing leaks from one end into the other.

    Both ends are continued by their reflection in the end point, which keeps value and slope: at the 95th percentile of 200
    PTB-XL records that leaves about half the error of a constant (`python scripts/benchmarks/resampling.py ROOT`).

    Returns:
        `[..., round(T * to / fs)]`.
    """
    if fs == to:
        return ecg
    from scipy.signal import resample_poly  # slow to import, and needed only where rates differ

    ratio = Fraction(to / fs).limit_denominator(5000)
    length = round(ecg.shape[-1] * to / fs)
    reach = 10 * max(ratio.numerator, ratio.denominator) // ratio.numerator + 1  # of the filter, in samples of `ecg`
    periods = -(-reach // ratio.denominator)  # whole ones, so that the samples of both rates still meet
    pad = [(0, 0)] * (ecg.ndim - 1) + [(periods * ratio.denominator,) * 2]
    continued = np.pad(ecg, pad, mode="reflect", reflect_type="odd") if ecg.shape[-1] > 1 else np.pad(ecg, pad, "edge")
    first = periods * ratio.numerator
    return np.asarray(
        resample_poly(continued, ratio.numerator, ratio.denominator, axis=-1)[..., first : first + length]
    )


def run_starts(there: np.ndarray, run: int) -> np.ndarray:
    """Whether a sample and those after it, `run` in all, are there: bool `[…, T]` to `[…, T - run + 1]`; at most T in a run."""
    counted = np.zeros((*there.shape[:-1], there.shape[-1] + 1), dtype=np.int32)
    np.cumsum(there, axis=-1, out=counted[..., 1:])
    return np.asarray(counted[..., run:] - counted[..., :-run] == run)


def clipped_samples(signal: np.ndarray, fs: float) -> np.ndarray:
    """Samples inside a stretch of `CLIPPED_MS` (three samples at least) that rests on its lead's own maximum or minimum.

    A wave's round top rests as long, where the steps of the numbers are coarse. But it leaves its stretch slowly: a parabola
    is three steps down after another half of the stretch. What was cut off leaves it steeply, on both sides.

    Args:
        signal: `[…, T]`, leads in any unit.
        fs: Hz.

    Returns:
        bool `[…, T]`.
    """
    run = max(3, round(CLIPPED_MS * fs / 1000))
    result = np.zeros(signal.shape, dtype=bool)
    if run > signal.shape[-1]:
        return result
    leads, flags = signal.reshape(-1, signal.shape[-1]), result.reshape(-1, signal.shape[-1])
    for sign in (1, -1):
        extreme = (sign * leads).max(axis=-1, keepdims=True)
        resting = sign * leads == extreme
        for row in np.flatnonzero(run_starts(resting, run).any(axis=-1)):
            for first, end in _cut_off(extreme[row] - sign * leads[row], run):
                flags[row, first:end] = True
    return result


def _cut_off(depth: np.ndarray, run: int) -> Iterator[tuple[int, int]]:
    """First sample and end of each stretch of `run` zeros or more that `depth [T]`, below the extreme, leaves steeply."""
    steps = np.abs(np.diff(depth))
    if not steps.any():
        return
    least = CLIPPED_STEPS * np.percentile(steps[steps > 0], 5)
    edges = np.flatnonzero(np.diff(np.pad((depth == 0).astype(np.int8), 1)))
    for first, end in edges.reshape(-1, 2):
        beyond = -(-(end - first) // 2)
        if first == 0 or end == len(depth):
            beyond = min(beyond, run)  # many records end in their last value, held
        sides = depth[max(first - beyond, 0) : first], depth[end : end + beyond]
        if end - first >= run and all(side.max() >= least for side in sides if len(side)):
            yield first, end
