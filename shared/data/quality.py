"""What looks wrong in a record that can be read: flags by name, for the table and the audit. Nothing is rescaled.

The limits stand outside what 2 569 real records show (PTB-XL at 500 and 100 Hz, four databases of the challenges, LUDB):
typical amplitudes of 0.11 to 10.3 mV, medians within ±0.91 mV, at most 23 % zeros, constant for at most 0.55 s, an
autocorrelation at 10 ms of 0.19 or more. 20 exams of CODE-15, which are not filtered, have medians of up to 7.0 mV.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from shared.signals import run_starts, typical_amplitude

LEAD_FLAGS = ("amplitude", "offset", "frozen", "zeros", "noise")
"""Each a column of truth values, with the leads beside it in `…_leads`."""
FLAGS = (*LEAD_FLAGS, "limb", "odd_age")
AMPLITUDE_MV = (0.05, 10.0)
"""Typical peak-to-peak amplitude of a lead."""
RECORD_MV = 0.4
"""The largest lead's typical amplitude in a record of `MANY_LEADS` or more."""
MANY_LEADS = 8
TIMES = 5.0
"""A lead this much larger or smaller than it is in the source; or than the record's other leads make one expect."""
ENOUGH_SEGMENTS = 30
"""Fewer do not say what a lead is like in the source."""
OFFSET_MV = 10.0
LIMB_MV = 0.1
"""Limb leads further from Einthoven's and Goldberger's identities disagree: one is wrong, or they were filtered apart."""
FROZEN_S = 1.0
ZEROS = 0.4
"""Share of samples that are exactly zero."""
NOISE = 0.15
"""Autocorrelation at `NOISE_MS`: neighbouring samples of ECG are alike, those of noise are not."""
NOISE_MS = 10.0
AGES = (0.0, 120.0)


def flag_leads(ecg: np.ndarray, fs: float) -> dict[str, np.ndarray]:
    """Flags of one segment as recorded that need nothing but it; `bool [L]` each.

    Args:
        ecg: `[L, T]`, mV.
        fs: Hz.
    """
    centred = ecg - ecg.mean(axis=1, keepdims=True)
    power = np.maximum((centred**2).sum(axis=1), 1e-12)
    lag = max(1, round(NOISE_MS * fs / 1000))
    alike = (centred[:, lag:] * centred[:, :-lag]).sum(axis=1) / power
    run = min(round(FROZEN_S * fs), ecg.shape[1] - 1)
    return {
        "offset": np.abs(np.median(ecg, axis=1)) > OFFSET_MV,
        "frozen": run_starts(np.diff(ecg, axis=1) == 0, run).any(axis=1),
        "zeros": (ecg == 0).mean(axis=1) > ZEROS,
        # Below 100 Hz, a sample is longer than what is looked at.
        "noise": alike < NOISE if fs >= 1000 / NOISE_MS else np.zeros(len(ecg), dtype=bool),
    }


def amplitudes(ecg: np.ndarray, fs: float, flat: np.ndarray) -> list[float]:
    """Typical amplitudes `[L]`, mV, for `flag_amplitudes`; NaN where a lead is flat, which is a flag of its own."""
    return [float(value) for value in np.where(flat, np.nan, typical_amplitude(ecg, fs))]


def flag_amplitudes(amplitudes_mv: np.ndarray) -> np.ndarray:
    """Leads whose amplitude no heart gives, or that is far from this lead's in the same source.

    Args:
        amplitudes_mv: `[n, L]` typical amplitudes of all segments of a source; NaN is never flagged.

    Returns:
        bool `[n, L]`.
    """
    low, high = AMPLITUDE_MV
    odd = (amplitudes_mv < low) | (amplitudes_mv > high)
    largest = np.nan_to_num(amplitudes_mv).max(axis=1, keepdims=True)
    if amplitudes_mv.shape[1] >= MANY_LEADS:
        odd |= (largest > 0) & (largest < RECORD_MV) & ~np.isnan(amplitudes_mv)
    usual = ~np.isnan(amplitudes_mv).any(axis=1)
    if usual.sum() < ENOUGH_SEGMENTS:
        return odd
    logs = np.log(np.maximum(amplitudes_mv, 1e-6))
    apart = logs - np.median(logs[usual], axis=0)
    few = np.isnan(apart).all(axis=1, keepdims=True)
    of_record = np.nanmedian(np.where(few, 0.0, apart), axis=1, keepdims=True)
    whole = (np.abs(of_record) > np.log(TIMES)) & ~np.isnan(amplitudes_mv)
    return odd | whole | (np.abs(apart - of_record) > np.log(TIMES))


def is_odd_age(age: object) -> bool:
    """Whether an age (years) is known and none that a patient has."""
    years = pd.to_numeric(age, errors="coerce")  # type: ignore[call-overload]
    return bool(pd.notna(years) and not AGES[0] <= years <= AGES[1])
