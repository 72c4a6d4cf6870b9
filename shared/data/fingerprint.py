"""What a record keeps when it is shifted, cut, resampled, rescaled or filtered: its beats' surroundings, beat by beat.

Every heartbeat found gives one vector: up to four leads, 1–20 Hz, over the 2.4 s around the beat, of unit length. It holds two or
three beats, so that rhythm and shape both speak, and no rate, gain or start of the record is left in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
from scipy.ndimage import maximum_filter1d, uniform_filter1d
from scipy.signal import butter, resample_poly, sosfiltfilt

from shared.leads import lead_indices
from shared.signals import FLAT_MV

PRINT_FS = 100.0
"""Hz; the rate at which records of any rate are compared."""
BAND = (1.0, 20.0)
"""Hz; what is left of an ECG after any usual filter, at any rate from 50 Hz on."""
AROUND = 1.2
"""s before and after a beat that its vector covers."""
STEP = 3
"""A vector takes every third sample: 33 Hz, above twice the band."""
REFRACTORY = 0.25
"""s; of two nearer humps the larger is the beat."""
LEAD_PREFERENCE: tuple[str, ...] = ("II", "V2", "V5", "I", "V1", "V4", "V6", "V3", "aVF", "aVL", "aVR", "III")
"""Leads are compared in this order, the first few that both sides have: far apart in space, and mostly recorded."""
NUM_LEADS = 4
CHUNK = 256
"""Records that are read at a time."""


class Signals(Protocol):
    """What fingerprints are made of: an `ECGStore`, or one that is still being written."""

    @property
    def leads(self) -> tuple[str, ...]: ...
    @property
    def fs(self) -> float: ...
    @property
    def scale(self) -> float: ...
    @property
    def num_samples(self) -> int: ...
    def read_windows(self, indices: np.ndarray, starts: np.ndarray, length: int, rows: Sequence[int]) -> np.ndarray: ...


@dataclass(frozen=True)
class Prints:
    """Fingerprints of `n` records.

    Attributes:
        signals: `[n, L, T]` float16 at `PRINT_FS` in the band, each lead of unit spread; 0 where a lead is flat.
        owner: `[m]` which record a beat belongs to.
        at: `[m]` its time, in samples at `PRINT_FS`.
        vectors: `[m, D]` float32, its surroundings.
    """

    signals: np.ndarray
    owner: np.ndarray
    at: np.ndarray
    vectors: np.ndarray

    @property
    def mute(self) -> int:
        """Records without a beat that has `AROUND` on both sides: flat, noise, or too short. They match nothing."""
        return len(self.signals) - len(np.unique(self.owner))


def common_leads(a: Sequence[str], b: Sequence[str]) -> tuple[str, ...]:
    """The leads to compare records of `a` and `b` in; none where they have none in common."""
    return tuple(lead for lead in LEAD_PREFERENCE if lead in a and lead in b)[:NUM_LEADS]


def store_prints(store: Signals, indices: np.ndarray, leads: Sequence[str]) -> Prints:
    """Fingerprints of these records of a store, in order; reads `CHUNK` at a time."""
    rows = lead_indices(leads, store.leads)
    parts = []
    for first in range(0, len(indices), CHUNK):
        some = np.asarray(indices[first : first + CHUNK])
        signals = store.read_windows(some, np.zeros(len(some), dtype=np.int64), store.num_samples, rows)
        parts.append(make_prints(signals * np.float32(store.scale), store.fs))
    length = max((part.signals.shape[2] for part in parts), default=0)
    dims = max((part.vectors.shape[1] for part in parts), default=0)
    starts = np.arange(len(parts)) * CHUNK
    return Prints(
        np.concatenate([part.signals for part in parts] or [np.empty((0, len(rows), length), np.float16)]),
        np.concatenate([part.owner + start for part, start in zip(parts, starts, strict=True)] or [np.empty(0, int)]),
        np.concatenate([part.at for part in parts] or [np.empty(0)]),
        np.concatenate([part.vectors for part in parts] or [np.empty((0, dims), np.float32)]),
    )


def make_prints(ecg: np.ndarray, fs: float) -> Prints:
    """Fingerprints of records in memory.

    Args:
        ecg: `[n, L, T]`, mV.
        fs: Hz.
    """
    ratio = Fraction(PRINT_FS / fs).limit_denominator(5000)
    flat = np.ptp(ecg, axis=2, keepdims=True) < FLAT_MV
    ecg = np.where(flat, 0, ecg - ecg.mean(axis=2, keepdims=True))
    signals = resample_poly(ecg, ratio.numerator, ratio.denominator, axis=2, padtype="edge") if ratio != 1 else ecg
    if signals.shape[2] < 2 * AROUND * PRINT_FS + STEP:
        nothing = np.empty((0, ecg.shape[1] * _offsets().size), np.float32)
        return Prints(np.zeros(signals.shape, np.float16), np.empty(0, int), np.empty(0), nothing)
    signals = sosfiltfilt(butter(2, BAND, "bandpass", fs=PRINT_FS, output="sos"), signals, axis=2)
    spread = signals.std(axis=2, keepdims=True)
    signals = np.where(flat, 0, signals / np.maximum(spread, 1e-9)).astype(np.float32)
    owner, at = _beats(signals)
    return Prints(signals.astype(np.float16), owner, at, _vectors(signals, owner, at))


def _beats(signals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Record and time (samples, with a fraction) of every hump of the slope energy of `signals [n, L, T]` over all leads."""
    energy = uniform_filter1d((np.gradient(signals, axis=2) ** 2).sum(axis=1), round(0.12 * PRINT_FS), axis=1)
    energy = uniform_filter1d(energy, round(0.06 * PRINT_FS), axis=1)  # twice: one round top a beat
    tops = maximum_filter1d(energy, 2 * round(REFRACTORY * PRINT_FS) + 1, axis=1)
    level = 0.25 * maximum_filter1d(energy, round(2.4 * PRINT_FS), axis=1)
    edge = round(AROUND * PRINT_FS) + 2
    found = (energy == tops) & (energy > level) & (energy > 0)
    found[:, :edge] = found[:, energy.shape[1] - edge :] = False
    owner, at = np.nonzero(found)
    before, mid, after = (energy[owner, at + k] for k in (-1, 0, 1))
    bend = np.minimum(before - 2 * mid + after, -1e-12)
    return owner, at + np.clip(0.5 * (before - after) / bend, -0.5, 0.5)


def _offsets() -> np.ndarray:
    """Samples around a beat that its vector takes."""
    return np.arange(-round(AROUND * PRINT_FS), round(AROUND * PRINT_FS) + 1, STEP)


def _vectors(signals: np.ndarray, owner: np.ndarray, at: np.ndarray) -> np.ndarray:
    """`[m, L * offsets]`, each lead's part of equal length, the whole of length 1."""
    place = at[:, None] + _offsets()
    low = np.floor(place).astype(int)
    share = (place - low).astype(np.float32)[:, None]
    rows = owner[:, None, None], np.arange(signals.shape[1])[None, :, None]
    around = signals[(*rows, low[:, None])] * (1 - share) + signals[(*rows, low[:, None] + 1)] * share
    around /= np.maximum(np.linalg.norm(around, axis=2, keepdims=True), 1e-9)
    size = np.linalg.norm(around, axis=(1, 2), keepdims=True)
    return np.asarray(
        (around / np.maximum(size, 1e-9)).reshape(len(around), np.prod(around.shape[1:])), dtype=np.float32
    )
