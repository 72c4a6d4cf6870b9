"""A pacemaker's spikes, looked for in all leads at once: they are small in some, and stand in all of them at the same time."""

from __future__ import annotations

import numpy as np

from shared.measurements.beats import Beats

BEFORE, AFTER = 0.15, 0.06
"""s around an R peak in which the sharpest bend is looked for."""
WIDTH = 0.008
"""s to either side of a spike that its own bend may take."""
EARLY = 0.05
"""s; a spike this long before the R peak is none of its QRS."""
EARLY_BEND, ISOLATION = 0.15, 1.4
"""Such a spike bends by this much (mV, second difference, root mean square over the leads) in the median beat, and this much
more than all that is around it. Unpaced records of PTB-XL 1–500 and LUDB 1–50 stay below 0.13 mV at 500 Hz."""
TALL_BEND, TALL_FS = 0.6, 400.0
"""What bends so much (mV) is a spike wherever it stands, from this rate (Hz) on: no QRS of these records passes 0.36."""
STEADY, SHARE = 0.006, 0.6
"""s, and the share of beats whose spike stands this near to its usual place before the R peak."""


def find_spikes(ecg: np.ndarray, fs: float, beats: Beats) -> np.ndarray | None:
    """Samples of the spikes that pace the beats, `[k]`, or None where the record is not seen to be paced.

    The sharpest bend of every beat is a spike if it is sharper than its surroundings, stands before the QRS, and does so
    at the same distance in most beats; or if no QRS bends so sharply.

    Args:
        ecg: `[L, T]` mV; leads that are not finite are passed over.
        fs: Hz; below 200 Hz a spike is no longer sharper than a QRS, and none is found.
        beats: found in one of the leads.
    """
    ecg = ecg[np.isfinite(ecg).all(axis=1)]
    before, after, width = round(BEFORE * fs), round(AFTER * fs), max(2, round(WIDTH * fs))
    peaks = np.rint(beats.times * fs).astype(int)
    peaks = peaks[(peaks >= before) & (peaks + after < ecg.shape[1])]
    if fs < 200 or len(peaks) < 2 or not len(ecg):
        return None
    bend = np.zeros(ecg.shape[1])
    bend[1:-1] = np.sqrt(np.mean(np.diff(ecg, 2, axis=1) ** 2, axis=0))
    around = bend[peaks[:, None] + np.arange(-before, after)]  # [n, window]
    sharpest = around.argmax(axis=1)
    place = np.arange(before + after)
    rest = np.where(np.abs(place - sharpest[:, None]) > width, around, 0.0).max(axis=1)
    top = around.max(axis=1)
    lag = (before - sharpest) / fs
    steady = np.abs(lag - np.median(lag)) <= STEADY
    early = (
        np.median(lag) >= EARLY
        and steady.mean() >= SHARE
        and np.median(top) >= EARLY_BEND
        and np.median(top / np.maximum(rest, 1e-9)) >= ISOLATION
    )
    tall = fs >= TALL_FS and np.median(top) >= TALL_BEND
    if not (early or tall):
        return None
    chosen = steady if early else top >= TALL_BEND
    return np.asarray((peaks - before + sharpest)[chosen])


def bridge_spikes(signal: np.ndarray, fs: float, spikes: np.ndarray) -> np.ndarray:
    """`signal [T]` with a straight line in place of each spike."""
    inside = np.zeros(len(signal), dtype=bool)
    width = max(2, round(WIDTH * fs))
    for at in spikes:
        inside[max(at - width, 0) : at + width + 1] = True
    place = np.arange(len(signal))
    return np.asarray(np.interp(place, place[~inside], signal[~inside]))
