"""The waves of a lead's median beat: bounds and sizes of P, QRS and T.

The median over the aligned normal beats carries far less noise than any single beat, and needs one delineation a record
instead of ten.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from shared.measurements.beats import Beats, Lattice

BEFORE, AFTER = 0.40, 0.70
"""s; the window of a beat around its R peak: a long PR before, a long QT after."""
SMOOTH = 0.007
"""s; width of the Gaussian that smooths the median beat before its slope is taken."""
ONSET_SLOPE, OFFSET_SLOPE, QUIET = 0.045, 0.05, 0.016
"""Outside the QRS the slope stays below these shares of its steepest for QUIET s (set on LUDB 1–50, lead II)."""


@dataclass(frozen=True)
class Waves:
    """Bounds and sizes of the waves of the median beat; a wave that is not there is NaN.

    Times are seconds from the R peak (negative before it); amplitudes are mV above the PQ level.
    """

    p_on: float = np.nan
    p_amplitude: float = np.nan
    qrs_on: float = np.nan
    qrs_off: float = np.nan
    t_amplitude: float = np.nan
    t_off: float = np.nan


def median_beat(lead: Lattice, beats: Beats) -> tuple[np.ndarray, float] | None:
    """The median over the normal beats that lie wholly inside the record.

    Returns:
        `(beat [W] mV from BEFORE s ahead of the R peak to AFTER s behind it, its noise in mV)`, or None without one.
    """
    fs = lead.fs
    before, after = round(BEFORE * fs), round(AFTER * fs)
    at = np.rint(lead.index(beats.times)).astype(int)
    at = at[beats.normal & (at >= before) & (at + after < len(lead.signal))]
    if not len(at):
        return None
    windows = lead.signal[at[:, None] + np.arange(-before, after + 1)]  # [n, W]
    windows = windows - windows.mean(axis=1, keepdims=True)  # the wander moves beats against each other
    beat = np.median(windows, axis=0)
    spread = np.median(np.abs(windows - beat)) if len(at) > 1 else np.std(np.diff(beat))
    return gaussian_filter1d(beat, SMOOTH * fs), float(1.5 * spread / np.sqrt(len(at)))


def delineate(beat: np.ndarray, noise: float, fs: float, rr: float) -> Waves:
    """Find the waves of a median beat.

    Args:
        beat: `[W]` mV, as `median_beat` gives it.
        noise: its noise, mV.
        fs: rate of the lattice, Hz.
        rr: the usual RR interval, s; it bounds the search for P and T at fast rates.

    Source:
        QRS bounds: where the slope stays below a share of the steepest one. P onset and T end: the tangent at the
        steepest point meets the baseline (Lepeschkin & Surawicz, Circulation 1952;6:378).
    """
    r = round(BEFORE * fs)
    slope = np.gradient(beat) * fs  # mV/s
    steep = np.abs(slope)
    core = slice(r - round(0.06 * fs), r + round(0.06 * fs))
    top = steep[core].max()
    if top <= 0:
        return Waves()
    first, last = (core.start + k for k in np.flatnonzero(steep[core] > 0.3 * top)[[0, -1]])
    run = max(2, round(QUIET * fs))
    on = _quiet(steep[:first][::-1], ONSET_SLOPE * top, run)
    off = _quiet(steep[last + 1 :], OFFSET_SLOPE * top, run)
    if on is None or off is None:
        return Waves()
    on, off = first - on, last + 1 + off
    level = beat[max(on - round(0.02 * fs), 0) : on].mean()
    # No T wave ends later than this after the QRS onset, nor within 0.2 s of the next R peak.
    end = min(len(beat) - 1, on + round(0.52 * np.sqrt(rr) * fs), r + round((rr - 0.2) * fs))
    t_amplitude, t_off = _t_wave(beat - level, slope, off, end, fs, noise)
    begin = max(0, on - round(0.28 * fs), r - round((rr - 0.3) * fs))
    p_amplitude, p_on = _p_wave(beat, begin, on, fs, noise)
    return Waves((p_on - r) / fs, p_amplitude, (on - r) / fs, (off - r) / fs, t_amplitude, (t_off - r) / fs)


def _quiet(steep: np.ndarray, level: float, run: int) -> int | None:
    """Start of the first stretch of `run` samples below `level`."""
    below = np.concatenate([[0], np.cumsum(steep < level)])
    found = np.flatnonzero(below[run:] - below[:-run] == run)
    return int(found[0]) if len(found) else None


def _t_wave(beat: np.ndarray, slope: np.ndarray, off: int, end: int, fs: float, noise: float) -> tuple[float, float]:
    """`(amplitude mV, end)` of the T wave, `end` in samples; NaN where none stands out."""
    begin = off + round(0.06 * fs)
    if end - begin < round(0.08 * fs):
        return np.nan, np.nan
    peak = begin + int(np.abs(beat[begin:end]).argmax())
    amplitude = float(beat[peak])
    stop = min(end, peak + round(0.16 * fs))
    if abs(amplitude) < max(0.03, 3 * noise) or stop - peak < 3:
        return np.nan, np.nan
    fall = -slope[peak:stop] * np.sign(amplitude)
    at = peak + int(fall.argmax())
    if fall.max() <= 0:
        return amplitude, np.nan
    return amplitude, at + beat[at] * np.sign(amplitude) / fall.max() * fs


def _p_wave(beat: np.ndarray, begin: int, on: int, fs: float, noise: float) -> tuple[float, float]:
    """`(amplitude mV, onset)` of the P wave, `onset` in samples; NaN where none stands out."""
    stop = on - round(0.02 * fs)
    if stop - begin < round(0.08 * fs):
        return np.nan, np.nan
    part = beat[begin:stop]
    # The level around P; below the middle, since the end of T often reaches into the region (above it where P is negative).
    low_base, high_base = np.percentile(part, (35, 65))
    base, sign = low_base, 1.0
    if high_base - part.min() > 1.5 * (part.max() - low_base):
        base, sign = high_base, -1.0
    part = sign * (part - base)
    peak = int(part.argmax())
    low = max(0, peak - round(0.08 * fs))
    if part[peak] < max(0.02, 3 * noise) or peak - low < round(0.02 * fs):
        return np.nan, np.nan
    rise = np.diff(part[low : peak + 1])
    at = low + int(rise.argmax())
    return float(sign * part[peak]), begin + at + 0.5 - (part[at] + 0.5 * rise.max()) / rise.max()
