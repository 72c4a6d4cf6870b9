"""What a record becomes: read, checked, resampled, cut into segments, quantised, measured."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from shared.data.quality import LIMB_MV, amplitudes, flag_leads, is_odd_age
from shared.data.sources import SOURCES
from shared.data.sources.base import PrepareConfig, RecordError, Recording
from shared.data.store import MICROVOLT
from shared.lead_rows import arrange_leads, limb_residual
from shared.leads import LeadError
from shared.measurements.catalog import VALUES
from shared.measurements.features import extract_features
from shared.signals import FLAT_MV, FS_RANGE, clipped_samples, resample_ends, typical_amplitude

LEADS_OF = {"flat_lead": "flat_leads"}
"""Where the column of a flag's leads is not called `…_leads`."""
FLOAT16_MAX = float(np.finfo(np.float16).max)
SHORTEST_S = 1.0
"""A record under this is not filled up to a segment: there would be no whole beat to repeat."""


class Chunk(NamedTuple):
    """What a few records gave.

    Attributes:
        signals: `[n, L, T]` int16.
        features: `[n, F, T]` float16.
        rows: one per segment.
        left_out: `record`, `reason`, `detail` of what is no segment.
        num_read: records.
    """

    signals: np.ndarray
    features: np.ndarray
    rows: list[dict[str, Any]]
    left_out: list[dict[str, str]]
    num_read: int


def process_chunk(config: PrepareConfig, index: pd.DataFrame) -> Chunk:
    """Read and check a few records."""
    num_samples = round(config.seconds * config.fs)
    signals: list[np.ndarray] = []
    features: list[np.ndarray] = []
    rows: list[dict[str, Any]] = []
    left_out: list[dict[str, str]] = []
    lines = ({str(key): value for key, value in line.items()} for line in index.to_dict("records"))
    for meta, result in zip(lines, SOURCES[config.source].read(config, index), strict=True):
        try:
            if isinstance(result, RecordError):
                raise result
            for segment, ecg, flags in _segments(result, config, num_samples):
                row = {"source": config.source, **meta, **result.info, "segment": segment}
                flags["odd_age"] = is_odd_age(row.get("age"))
                problem = next((f for f in ("nan", *config.exclude) if flags.get(f)), None)
                if problem:
                    what = f"{problem} {row.get('age'):g}" if problem == "odd_age" else problem
                    where = flags.get(LEADS_OF.get(problem, f"{problem}_leads"))
                    detail = f"{what} in {', '.join(where)}" if where else what
                    left_out.append(left_out_row(meta, problem, f"{meta['record']} segment {segment}: {detail}"))
                    continue
                quantised = np.clip(np.rint(ecg / config.step), -32768, 32767).astype(np.int16)
                signals.append(quantised)
                digest = hashlib.blake2b(quantised.data, digest_size=16).hexdigest()
                row |= {"digest": digest, **flags}
                if config.features:
                    channels, measured = _measure(config, quantised)
                    features.append(channels)
                    row |= measured
                rows.append(row)
        except RecordError as error:
            left_out.append(left_out_row(meta, error.reason, error.detail))
    stacked = np.stack(signals) if signals else np.empty((0, len(config.leads), num_samples), np.int16)
    channels = np.stack(features) if features else np.empty((len(rows), 0, num_samples), np.float16)
    return Chunk(stacked, channels, rows, left_out, len(index))


def _measure(config: PrepareConfig, signal: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """Features of one segment as it is stored, and its columns of records.parquet.

    Args:
        config: which features, the store's rate and leads.
        signal: `[L, T]` int16, µV.

    Returns:
        `(channels [F, T] float16, NaN where missing, columns)`: every name of `VALUES` (NaN where missing), the lead
        measured in, what a reader should know, and the channels without a single sample; all as `feature_…`, since a
        source may have columns of these names.
    """
    try:
        found = extract_features(signal * MICROVOLT, config.fs, config.leads, config.features)
    except Exception as error:  # no record stops the run, whatever a library makes of it
        channels = np.full((len(config.features), signal.shape[1]), np.nan, np.float16)
        note = f"failed: {type(error).__name__}: {error}"
        return channels, _columns(dict.fromkeys(VALUES, float("nan")), "", [note], config.features)
    # mV, ms and bpm lie far inside float16; an artefact beyond must not become infinite.
    channels = np.where(found.valid, np.clip(found.channels, -FLOAT16_MAX, FLOAT16_MAX), np.nan).astype(np.float16)
    missing = [name for name, valid in zip(found.names, found.valid, strict=True) if not valid.any()]
    return channels, _columns(found.values, found.lead, found.notes, missing)


def _columns(
    values: Mapping[str, float], lead: str, notes: Sequence[str], missing: Sequence[str]
) -> dict[str, float | str | list[str]]:
    columns = {f"feature_{name}": value for name, value in values.items()}
    return {**columns, "feature_lead": lead, "feature_notes": list(notes), "feature_missing": list(missing)}


def left_out_row(meta: Mapping[str, Any], reason: str, detail: str) -> dict[str, str]:
    return {"record": str(meta["record"]), "reason": reason, "detail": detail}


def _segments(
    recording: Recording, config: PrepareConfig, num_samples: int
) -> Iterator[tuple[int, np.ndarray, dict[str, Any]]]:
    """Consecutive windows of one record at the store's rate, with their quality flags."""
    if not FS_RANGE[0] <= recording.fs <= FS_RANGE[1]:
        low, high = FS_RANGE
        raise RecordError("absurd fs", f"sampling rate {recording.fs:g} Hz; expected {low:g} to {high:g} Hz")
    if recording.unit != config.store_unit:
        raise RecordError("unknown unit", f"in {recording.unit!r}; the store is in {config.store_unit!r}")
    try:
        ecg, derived = arrange_leads(recording.signal, recording.leads, config.leads)
    except LeadError as error:
        raise RecordError("missing or unknown leads", str(error)) from None
    # Checked over the leads of the file, before any was derived: derived ones obey the identities by construction.
    residual = limb_residual(ecg, [name if name not in derived else "" for name in config.leads])
    length = round(ecg.shape[1] * config.fs / recording.fs)
    seconds = ecg.shape[1] / recording.fs
    if length < num_samples and (config.short == "leave_out" or seconds < SHORTEST_S):
        raise RecordError("too short", f"{seconds:.2f} s; a segment takes {config.seconds:g} s")
    valid = np.isfinite(ecg)
    ecg = np.where(valid, ecg, 0.0)
    clipped = clipped_samples(ecg, recording.fs)
    step = recording.fs / config.fs
    resampled = _fill(_resample(ecg, recording.fs, config), num_samples, config.short)
    filled = {} if config.short == "leave_out" else {"signal_seconds": min(seconds, config.seconds)}
    for segment in range(max(length, num_samples) // num_samples):
        window = resampled[:, segment * num_samples : (segment + 1) * num_samples]
        raw = slice(int(segment * num_samples * step), int(np.ceil((segment + 1) * num_samples * step)))
        checked = ecg[:, raw] if recording.unit == "mV" else _as_millivolts(ecg[:, raw], recording.fs)
        nan = ~valid[:, raw].all(axis=1)
        flat = np.ptp(checked, axis=1) < FLAT_MV
        cut = clipped[:, raw].any(axis=1) & ~flat
        beyond = np.abs(window).max(axis=1) > 32767 * config.step
        flags = {
            "nan": bool(nan.any()),
            "nan_leads": names_of(config.leads, nan),
            "flat_lead": bool(flat.any()),
            "flat_leads": names_of(config.leads, flat),
            "clipped": bool((cut | beyond).any()),
            "clipped_leads": names_of(config.leads, cut | beyond),
            "limb": residual > LIMB_MV,  # not where it is NaN: no two leads that could disagree
            "limb_residual_mv": residual,
            "derived_leads": list(derived),
            "amplitudes_mv": amplitudes(checked, recording.fs, flat | (recording.unit != "mV")),
            **filled,
        }
        for name, leads in flag_leads(checked, recording.fs).items():
            flags |= {name: bool((leads & ~flat).any()), f"{name}_leads": names_of(config.leads, leads & ~flat)}
        yield segment, window, flags


def _resample(ecg: np.ndarray, fs: float, config: PrepareConfig) -> np.ndarray:
    if config.resample == "fft" and fs != config.fs:
        from scipy.signal import resample  # slow to import

        return np.asarray(resample(ecg, round(ecg.shape[1] * config.fs / fs), axis=1))
    return resample_ends(ecg, fs, config.fs)


def _fill(ecg: np.ndarray, num_samples: int, how: str) -> np.ndarray:
    """A record that is too short with zeros behind (`pad`), or repeated (`tile`)."""
    missing = num_samples - ecg.shape[1]
    if missing <= 0:
        return ecg
    return np.pad(ecg, [(0, 0), (0, missing)], mode="constant" if how == "pad" else "wrap")


def _as_millivolts(signal: np.ndarray, fs: float) -> np.ndarray:
    """Signals of an arbitrary unit as if centred and of 1 mV, for checks whose limits are those of ECG."""
    typical = typical_amplitude(signal, fs)[:, None]
    return np.asarray((signal - np.median(signal, axis=1, keepdims=True)) / np.where(typical > 0, typical, 1.0))


def names_of(leads: Sequence[str], mask: np.ndarray) -> list[str]:
    return [name for name, yes in zip(leads, mask, strict=True) if yes]
