"""ECG as somebody has it in memory, checked, resampled and cut into the windows that an encoder takes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from shared.data.spec import InputSpec
from shared.data.transforms import even_starts
from shared.errors import UserError, did_you_mean
from shared.lead_rows import LIMB_FROM_I_II, arrange_leads
from shared.leads import LEADS, LeadError, parse_leads
from shared.measurements.features import extract_features
from shared.signals import FLAT_MV, FS_RANGE, MILLIVOLT, POSSIBLE_MV, resample_ends, typical_amplitude

UNITS = ("mV", "uV", "V")


def windows_of(
    spec: InputSpec, x: Any, fs: Any, leads: str | Sequence[str] | None, unit: str, num_crops: int
) -> tuple[Tensor, tuple[str, ...] | None]:
    """What an encoder of this input takes of an array.

    Args:
        spec: the encoder's.
        x, fs, leads, unit, num_crops: as of `shared.encoders.embed`.

    Returns:
        Windows `[n, crops, L, W]` float32 in mV, measurements below the leads; and the leads, None where they are all.

    Raises:
        UserError: as of `shared.encoders.embed`.
    """
    try:
        rate = float(fs)
    except (TypeError, ValueError):
        raise UserError(f"fs is {fs!r}; expected the sampling rate in Hz, e.g. 500.") from None
    if not FS_RANGE[0] <= rate <= FS_RANGE[1]:
        raise UserError(f"fs is {rate:g} Hz; expected {FS_RANGE[0]:g} to {FS_RANGE[1]:g} Hz.")
    records, names = _records(x, leads)
    _check_numbers(records)
    scale = MILLIVOLT.get(str(unit).strip().lower())
    if scale is None:
        raise UserError(f"unknown unit {unit!r}{did_you_mean(unit, UNITS)} Expected mV, uV or V.")
    _check_amplitude(records, rate, names, unit, scale)
    wanted = _leads_for(spec, names)
    cut = []
    for i, record in enumerate(records):
        ecg = resample_ends(record * scale, rate, spec.fs)
        if ecg.shape[-1] < spec.num_samples:
            which = "the records have" if len({r.shape for r in records}) == 1 else f"record {i} has"
            seconds = f"{which} {ecg.shape[-1] / spec.fs:.2f} s, the encoder takes {spec.seconds:g} s"
            raise UserError(f"{seconds}: give longer ones.")
        measured = _measure(spec, ecg, names)
        ecg = arrange_leads(ecg, names, wanted)[0] if wanted else ecg[:0]
        rows = np.concatenate([ecg, measured]).astype(np.float32)
        starts = even_starts(rows.shape[-1], spec.num_samples, num_crops)
        cut.append(np.stack([rows[:, start : start + spec.num_samples] for start in starts]))
    return torch.from_numpy(np.stack(cut)), None if wanted == spec.leads else wanted


def _records(x: Any, leads: str | Sequence[str] | None) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Each record `[L, T]` float64 in its own unit, and the names of the rows, after checking shapes and numbers."""
    if isinstance(x, pd.DataFrame):
        return _of_table(x, leads)
    names = parse_leads(LEADS if leads is None else leads)
    if isinstance(x, list | tuple) and x and all(np.ndim(one) == 2 for one in x):
        for i, record in enumerate(x):
            check_shape(np.shape(record), names, f"record {i} of x")
        return [_numbers(record) for record in x], names
    array = _numbers(x)
    check_shape(array.shape, names)
    return list(array if array.ndim == 3 else array[None]), names


def check_shape(shape: Sequence[int], names: Sequence[str], what: str = "x") -> None:
    """Refuse what is not `[n, L, T]` or `[L, T]` with a row for each name.

    Raises:
        UserError: says what to do.
    """
    given = f"{what} has shape {list(shape)}"
    if len(shape) not in (2, 3) or 0 in shape:
        raise UserError(f"{given}; expected [records, leads, samples], or [leads, samples].")
    if shape[-2] != len(names):
        advice = "name each of its rows in `leads`"
        if shape[-1] == len(names):
            advice = "it is transposed: give x.swapaxes(-1, -2)"
        elif len(names) == 1:
            advice = "records of one lead are [records, 1, samples]; else name each of its rows in `leads`"
        raise UserError(f"{given} for {len(names)} leads ({', '.join(names)}): {advice}.")


def _of_table(x: pd.DataFrame, leads: str | Sequence[str] | None) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """The one record of a DataFrame, its columns found by name."""
    columns = {str(column).strip().lower(): column for column in x}
    try:
        names = parse_leads([str(column) for column in x] if leads is None else leads)
    except LeadError as error:
        raise UserError(f"{error} A column of x is a lead; name those to take in `leads`.") from None
    missing = [name for name in names if name.lower() not in columns]
    if missing:
        raise UserError(f"x has no column {', '.join(missing)}; its columns are {', '.join(map(str, x))}.")
    return _records(x[[columns[name.lower()] for name in names]].to_numpy().T, names)


def _numbers(x: Any) -> np.ndarray:
    """Anything of numbers as float64."""
    try:
        return np.asarray(x.detach().cpu().double() if isinstance(x, Tensor) else x, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"x is no array of numbers ({error}); expected [records, leads, samples], [leads, samples], or a list of these."
        ) from None


def _check_numbers(records: Sequence[np.ndarray]) -> None:
    broken = [i for i, record in enumerate(records) if not np.isfinite(record).all()]
    if broken:
        several = f"{len(broken)} of {len(records)} records hold NaN or infinity, the first is {broken[0]}."
        raise UserError(several if len(records) > 1 else "x holds NaN or infinity.")


def _check_amplitude(records: list[np.ndarray], fs: float, names: Sequence[str], unit: str, scale: float) -> None:
    """Refuse what cannot be the unit given, or is no ECG; say which leads and records are odd."""
    low, high = POSSIBLE_MV
    moves = np.stack([typical_amplitude(record, fs) for record in records])  # [n, L]
    typical = float(np.median(moves))  # of leads and records, so that a few bad ones do not decide
    if not low <= typical * scale <= high:
        fitting = [name for name in UNITS if low <= typical * MILLIVOLT[name.lower()] <= high]
        advice = f"as {' or '.join(fitting)} they would be" if fitting else "no unit makes them so"
        raise UserError(
            f"a lead of x moves by {typical * scale:.3g} mV where unit={unit!r}; ECG moves by {low:g} to {high:g} mV: {advice}."
        )
    flat = np.array([np.ptp(record, axis=1) * scale < FLAT_MV for record in records])
    dead = np.asarray(flat.all(axis=1))
    if dead.any():
        several = f"{dead.sum()} of {len(dead)} records hold no ECG: all leads are flat; the first is {dead.argmax()}."
        raise UserError(several if len(dead) > 1 else "x holds no ECG: all leads are flat.")
    own = np.asarray(np.median(moves, axis=1) * scale)
    flat_ones = np.asarray(flat.any(axis=1))
    flat_leads = ", ".join(names[int(lead)] for lead in np.flatnonzero(flat[flat_ones.argmax()]))
    odd = np.asarray((own < low) | (own > high))
    for found, what in (
        (flat_ones, f"flat in {flat_leads}: a lead that was not recorded is better left out of x and leads"),
        (odd, f"moving by {own[odd.argmax()]:.3g} mV, which is no ECG"),
    ):
        if found.any():
            several = f"{found.sum()} of {len(found)} records are odd; the first, {found.argmax()}, is "
            warnings.warn(f"{several if len(found) > 1 else ''}{what}.", stacklevel=4)


def _leads_for(spec: InputSpec, names: Sequence[str]) -> tuple[str, ...]:
    """Those of the encoder's leads that are there or can be derived, in its order."""
    derivable = set(LIMB_FROM_I_II) if {"I", "II"} <= set(names) else set()
    wanted = tuple(name for name in spec.leads if name in names or name in derivable)
    if spec.leads and not wanted:
        raise LeadError(f"x has the leads {', '.join(names)}; the encoder knows {', '.join(spec.leads)}.")
    return wanted


def _measure(spec: InputSpec, ecg: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Rows of measurements `[F, T]` that the encoder takes below the leads, NaN where missing; often none."""
    if not spec.features:
        return ecg[:0]
    found = extract_features(ecg, spec.fs, names, spec.features)
    return np.where(found.valid, found.channels, np.nan)
