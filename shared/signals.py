"""What all that reads ECG agrees on: which rates are possible, what is flat, what is cut off."""

from __future__ import annotations

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
"""A lead that rests on its own extreme value this long was cut off; no wave is flat for so long to the last bit."""


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

    Both ends are continued by their reflection in the end point, which keeps value and slope; on real records that leaves
    a third of the error that a constant leaves (`python -m scripts.benchmarks.resampling`).

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
    for extreme in (signal.max(axis=-1, keepdims=True), signal.min(axis=-1, keepdims=True)):
        begins = run_starts(signal == extreme, run)
        for shift in range(run) if begins.any() else ():
            result[..., shift : shift + begins.shape[-1]] |= begins
    return result
