"""Where the beats of one ECG lead lie, and which of them and of their intervals are normal.

All work is done on one lattice of 500 Hz, so that every threshold is a time in seconds or a voltage in millivolt and a
record gives the same answer at whatever rate it was sampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from scipy.ndimage import maximum_filter1d, median_filter, uniform_filter1d
from scipy.signal import butter, find_peaks, resample, sosfiltfilt

WORK_FS = 500.0
"""Hz; the lattice of all measurements."""
MIN_SECONDS = 0.8
"""s; shorter than this, a record cannot hold one whole beat."""
REFRACTORY = 0.2
"""s; no heart beats faster than 300 a minute, so two nearer peaks are one QRS."""
NORMAL_CORRELATION = 0.8
"""A QRS that resembles the median QRS less than this is of another shape (ectopic, aberrant)."""
MIN_SIZE = 0.4
"""A deflection smaller than this share of the record's usual QRS is no QRS."""
SPIKE_MV, SPIKE_LAG = 0.3, (0.03, 0.30)
"""A pacing spike stands out by this much, this long (s) before the R peak it paces (the atrium's comes earliest)."""
TALL_SPIKE_MV = 1.0
"""The beat finder may take a spike this tall for the R peak; no R peak of PTB-XL 1–500 stands out by more than 0.8."""
RR_RANGE = (0.2, 3.0)
"""s; what lies outside is a false or a missed beat."""
RR_JUMP = 0.3
"""An RR that differs from the median of the five around it by more than this share is no normal interval."""


@dataclass(frozen=True)
class Beats:
    """The beats of one lead.

    Attributes:
        times: `[n]` R peaks, seconds from the first sample: the largest deflection of the QRS, up or down.
        normal: `[n]` bool, the QRS has the record's prevailing shape.
    """

    times: np.ndarray
    normal: np.ndarray


@dataclass(frozen=True)
class Lattice:
    """One or more leads on the 500 Hz lattice: `signal [..., T']` mV, its exact rate, and the time of its first sample."""

    signal: np.ndarray
    fs: float
    start: float

    def index(self, seconds: np.ndarray | float) -> np.ndarray:
        """Position (not rounded) of a time on the lattice."""
        return (np.asarray(seconds) - self.start) * self.fs


def to_lattice(ecg: np.ndarray, fs: float, target: float = WORK_FS) -> Lattice:
    """Resample `[..., T]` at `fs` to about `target` Hz by Fourier interpolation over oddly extended ends."""
    if fs == target:
        return Lattice(ecg, fs, 0.0)
    # The transform takes the record for periodic; extended by half a second, the jump it sees lies outside the record.
    pad = min(round(0.5 * fs), ecg.shape[-1] - 1)
    head = 2 * ecg[..., :1] - ecg[..., pad:0:-1]
    tail = 2 * ecg[..., -1:] - ecg[..., -2 : -2 - pad : -1]
    extended = np.concatenate([head, ecg, tail], axis=-1)
    num = round(extended.shape[-1] * target / fs)
    rate = fs * num / extended.shape[-1]
    first, last = int(np.ceil(pad / fs * rate - 1e-9)), int((pad + ecg.shape[-1] - 1) / fs * rate + 1e-9)
    return Lattice(resample(extended, num, axis=-1)[..., first : last + 1], rate, first / rate - pad / fs)


@lru_cache(maxsize=16)
def _band(low: float, high: float, fs: float) -> np.ndarray:
    return butter(2, (low, high), "bandpass", fs=fs, output="sos")


def find_beats(lead: Lattice) -> Beats:
    """Find every QRS in one lead.

    The slope energy in the QRS band, averaged over 80 ms, has one hump a beat. Humps count from a share of the humps
    around them; a hump soon after a much larger one is a T wave; a pause in the rhythm is searched again at half the
    level. Peaks that do not resemble one another are noise, not beats.

    Args:
        lead: `[T']`, finite.

    Returns:
        The beats, possibly none.

    Source:
        After Pan & Tompkins, IEEE Trans Biomed Eng 1985;32:230. Deviations: zero phase, and levels from the whole
        record, which is at hand.
    """
    fs = lead.fs
    none = Beats(np.empty(0), np.empty(0, dtype=bool))
    if len(lead.signal) < MIN_SECONDS * fs:
        return none
    band = sosfiltfilt(_band(6.0, 25.0, round(fs, 6)), lead.signal)
    slope = np.gradient(band)
    energy = np.sqrt(np.maximum(uniform_filter1d(slope * slope, round(0.08 * fs)), 0.0))
    peaks, _ = find_peaks(energy, distance=max(1, round(REFRACTORY * fs)))
    if not len(peaks):
        return none
    tops = maximum_filter1d(energy, round(2.0 * fs))
    # The level follows the record (a PVC must not hide its neighbours) but not below a share of the record's own.
    level = np.clip(uniform_filter1d(tops, round(3.0 * fs)), 0.4 * np.median(tops), 1.2 * np.median(tops))
    if np.median(tops) < 1e-12:
        return none
    chosen = _drop_t_waves(peaks[energy[peaks] > 0.35 * level[peaks]], energy, fs)
    chosen = _search_pauses(chosen, peaks, energy, level, fs)
    return _align(lead, chosen)


def _drop_t_waves(peaks: np.ndarray, energy: np.ndarray, fs: float) -> np.ndarray:
    """Leave out humps within 0.36 s after one twice as large (a T wave) or before it (a P wave)."""
    keep = np.ones(len(peaks), dtype=bool)
    for i in range(len(peaks)):
        for j in (i - 1, i + 1):
            if (
                0 <= j < len(peaks)
                and abs(peaks[i] - peaks[j]) < 0.36 * fs
                and energy[peaks[i]] < 0.5 * energy[peaks[j]]
            ):
                keep[i] = False
    return peaks[keep]


def _search_pauses(
    chosen: np.ndarray, peaks: np.ndarray, energy: np.ndarray, level: np.ndarray, fs: float
) -> np.ndarray:
    """Look again, at half the level, where a beat is missing for the rhythm around it."""
    if len(chosen) < 3:
        return chosen
    usual = np.median(np.diff(chosen))
    added = []
    for before, after in pairwise(chosen):
        if after - before > 1.6 * usual:
            inside = peaks[(peaks > before + 0.36 * fs) & (peaks < after - 0.36 * fs)]
            inside = inside[energy[inside] > 0.17 * level[inside]]
            if len(inside):
                added.append(inside[np.argmax(energy[inside])])
    return np.sort(np.concatenate([chosen, np.array(added, dtype=chosen.dtype)]))


def _align(lead: Lattice, chosen: np.ndarray) -> Beats:
    """Place the R peaks to a fraction of a sample and tell beats of the prevailing shape from others.

    The record's median QRS is laid over each beat: the whole complex fixes the time, so noise on the peak, or two peaks
    of like height, cannot shift one beat against the next. Beats of another shape take their own largest deflection.
    """
    none = Beats(np.empty(0), np.empty(0, dtype=bool))
    if not len(chosen):
        return none
    fs = lead.fs
    smooth = sosfiltfilt(_band(3.0, 40.0, round(fs, 6)), lead.signal)
    half, lag = round(0.08 * fs), round(0.05 * fs)
    padded = np.pad(smooth, half + lag)  # zeros: the band has no level
    centre = chosen.copy()
    for _ in range(2):
        around = padded[centre[:, None] + np.arange(2 * (half + lag) + 1)]  # [n, window]
        template = np.median(around[:, lag:-lag], axis=0)
        match = _correlate(around, template)  # [n, lags]
        best = match.argmax(axis=1)
        centre = np.clip(centre + best - lag, 0, len(smooth) - 1)
    correlation = match.max(axis=1)
    if len(chosen) >= 3 and np.mean(correlation >= NORMAL_CORRELATION) < 0.5:
        return none  # nothing repeats
    normal = correlation >= NORMAL_CORRELATION
    times = centre + _parabola(match, best) + int(np.abs(template).argmax()) - half
    size = np.empty(len(chosen))
    for i, hump in enumerate(chosen):
        low, high = max(hump - half, 0), min(hump + half + 1, len(smooth))
        deflection = np.abs(smooth[low:high])
        size[i] = deflection.max()
        if not normal[i]:
            times[i] = low + deflection.argmax()
    whole = (chosen >= half) & (chosen < len(smooth) - half)
    # What is small beside the record's QRS is a P wave or noise; what is cut by the record's end is no whole QRS.
    real = (size >= MIN_SIZE * np.median(size)) & (normal | whole)
    times, normal = lead.start + np.clip(times[real], 0, len(smooth) - 1) / fs, normal[real]
    order = np.argsort(times)
    times, normal = times[order], normal[order]
    apart = np.diff(times, prepend=-np.inf) > 0.5 * REFRACTORY
    return Beats(times[apart], normal[apart])


def _correlate(around: np.ndarray, template: np.ndarray) -> np.ndarray:
    """Correlation `[n, lags]` of a template with each of its positions in the windows `around [n, W]`."""
    views = np.lib.stride_tricks.sliding_window_view(around, len(template), axis=1)  # [n, lags, w]
    size = np.linalg.norm(views, axis=2) * np.linalg.norm(template)
    return (views @ template) / np.maximum(size, 1e-12)


def _parabola(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Offset (−0.5…0.5) of the true maximum from the largest sample `at [n]` of each row of `values [n, m]`."""
    inside = (at > 0) & (at < values.shape[1] - 1)
    rows, mid = np.arange(len(at)), np.clip(at, 1, values.shape[1] - 2)
    a, b, c = (values[rows, mid + k] for k in (-1, 0, 1))
    bend = a - 2 * b + c
    offset = 0.5 * (a - c) / np.where(np.abs(bend) < 1e-12, 1.0, bend)
    return np.where(inside, np.clip(offset, -0.5, 0.5), 0.0)


def normal_intervals(rr: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Which RR intervals `[n − 1]` (s) lie between two normal beats `[n]`, are plausible and fit their neighbours."""
    if not len(rr):
        return np.zeros(0, dtype=bool)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(rr, 2, mode="symmetric"), 5)
    usual = np.median(around, axis=1)
    plausible = (rr > RR_RANGE[0]) & (rr < RR_RANGE[1])
    return normal[1:] & normal[:-1] & plausible & (np.abs(rr - usual) <= RR_JUMP * usual)


def remove_pacing_spikes(signal: np.ndarray, fs: float, beats: Beats) -> np.ndarray | None:
    """Take a pacemaker's spikes out of a lead.

    A spike is a sample far off the median of the 12 ms around it. At low rates a steep R peak is that too, so only what
    precedes the R peaks counts, or is taller than any R peak stands out, and only if half the beats have it.

    Args:
        signal: `[T]`, mV.
        fs: its rate, Hz.
        beats: found in it.

    Returns:
        The lead without spikes, or None where there are none.
    """
    width = 2 * max(1, round(0.006 * fs)) + 1
    calm = median_filter(signal, width)
    height = np.abs(signal - calm)
    at = np.flatnonzero(height > SPIKE_MV)
    if not len(at) or not len(beats.times):
        return None
    lag = beats.times[:, None] - at / fs
    spike = (lag > SPIKE_LAG[0]) & (lag < SPIKE_LAG[1])
    spike |= (np.abs(lag) <= SPIKE_LAG[0]) & (height[at] > TALL_SPIKE_MV)
    if spike.any(axis=1).sum() < max(2, 0.5 * len(beats.times)):
        return None
    around = np.zeros(len(signal), dtype=bool)
    around[at[spike.any(axis=0)]] = True
    return np.where(maximum_filter1d(around, 3), calm, signal)
