"""Rows of a signal by the names of its leads: picked, put in order, derived, checked against one another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shared.leads import LEADS, LIMB_LEADS, LeadError

# Einthoven's and Goldberger's identities: each limb lead as a·I + b·II.
LIMB_FROM_I_II: dict[str, tuple[float, float]] = {
    "I": (1.0, 0.0),
    "II": (0.0, 1.0),
    "III": (-1.0, 1.0),
    "aVR": (-0.5, -0.5),
    "aVL": (1.0, -0.5),
    "aVF": (-0.5, 1.0),
}


def arrange_leads(
    signal: np.ndarray, names: Sequence[str], wanted: Sequence[str] = LEADS
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Pick leads by name in the wanted order; derive the limb leads that are missing from I and II.

    Args:
        signal: `[len(names), T]`, millivolt.
        names: the header's names, any case; names that are no ECG lead (a pressure, `V3R`) are passed over.
        wanted: standard names, in the order to return.

    Returns:
        `(ecg [len(wanted), T], derived)`, where `derived` names the leads that were computed.

    Raises:
        LeadError: a wanted lead is absent and cannot be derived, or a lead stands twice in the header.
    """
    if len(signal) != len(names):
        raise LeadError(f"the header names {len(names)} signals but the file holds {len(signal)}.")
    asked = {name.lower(): name for name in (*wanted, *LEADS)}
    rows: dict[str, np.ndarray] = {}
    for name, row in zip(names, signal, strict=True):
        standard = asked.get(str(name).strip().lower())
        if standard is None:
            continue
        if standard in rows:
            raise LeadError(f"lead {standard} stands twice in the header: {', '.join(names)}.")
        rows[standard] = row
    derived = []
    for name in wanted:
        if name in rows:
            continue
        if name not in LIMB_FROM_I_II or "I" not in rows or "II" not in rows:
            raise LeadError(
                f"lead {name} is missing: the header has {', '.join(map(str, names)) or 'no signals'}. "
                f"Ask for leads that are there, e.g. leads=[{', '.join(rows) or '...'}]."
            )
        a, b = LIMB_FROM_I_II[name]
        rows[name] = a * rows["I"] + b * rows["II"]
        derived.append(name)
    return np.stack([rows[name] for name in wanted]), tuple(derived)


def limb_residual(ecg: np.ndarray, leads: Sequence[str]) -> float:
    """Largest violation of the limb-lead identities, in the unit of the signal (mV).

    Args:
        ecg: `[L, T]`.
        leads: standard names of its rows.

    Returns:
        The maximum over III, aVR, aVL, aVF of |lead − (a·I + b·II)|, over the samples that are finite in all three; NaN
        where I, II or all four are absent or no such sample is there.
    """
    rows = {name: ecg[i] for i, name in enumerate(leads)}
    checked = [name for name in LIMB_LEADS[2:] if name in rows]
    if "I" not in rows or "II" not in rows or not checked:
        return float("nan")
    expected = [a * rows["I"] + b * rows["II"] for a, b in (LIMB_FROM_I_II[name] for name in checked)]
    gaps = np.abs(np.stack([rows[name] for name in checked]) - np.stack(expected))
    finite = gaps[np.isfinite(gaps)]
    return float(finite.max()) if finite.size else float("nan")
