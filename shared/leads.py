"""Lead names, their one order, selection by name, derivation and the identity check.

This is the vocabulary of everything above it. Signals are `[L, T]` in millivolt; leads are always found by name, never by
position, because databases disagree on order (`aVL` before `aVF` or after) and on spelling (`AVR`, `aVR`, `avr`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from shared.errors import UserError, did_you_mean

LEADS: tuple[str, ...] = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
LIMB_LEADS: tuple[str, ...] = LEADS[:6]
INDEPENDENT_LEADS: tuple[str, ...] = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
GROUPS: dict[str, tuple[str, ...]] = {
    "all": LEADS,
    "limb": LIMB_LEADS,
    "precordial": LEADS[6:],
    "independent": INDEPENDENT_LEADS,
}

# Einthoven's and Goldberger's identities: each limb lead as a·I + b·II.
LIMB_FROM_I_II: dict[str, tuple[float, float]] = {
    "I": (1.0, 0.0),
    "II": (0.0, 1.0),
    "III": (-1.0, 1.0),
    "aVR": (-0.5, -0.5),
    "aVL": (1.0, -0.5),
    "aVF": (-0.5, 1.0),
}

_BY_LOWER = {name.lower(): name for name in LEADS}


class LeadError(UserError):
    """A lead name is unknown, repeated or missing."""


def canonical_lead(name: str) -> str:
    """Return the standard spelling of a lead name, matched case-insensitively.

    Raises:
        LeadError: the name is none of the twelve; the nearest one is proposed.
    """
    found = _BY_LOWER.get(str(name).strip().lower())
    if found is None:
        raise LeadError(f"unknown lead {name!r}{did_you_mean(name, LEADS)} Expected one of {', '.join(LEADS)}.")
    return found


def is_lead(name: str) -> bool:
    """Whether a name is one of the twelve, whatever its case."""
    return str(name).strip().lower() in _BY_LOWER


def parse_leads(leads: str | Iterable[str]) -> tuple[str, ...]:
    """Read a lead selection: names and groups (`all`, `limb`, `precordial`, `independent`), as a list or `"limb,V2"`.

    Returns:
        The names in standard spelling, in the order given.

    Raises:
        LeadError: an unknown or repeated name, or no name at all.
    """
    parts = leads.split(",") if isinstance(leads, str) else list(leads)
    names = tuple(name for part in parts for name in GROUPS.get(str(part).strip().lower()) or (canonical_lead(part),))
    if not names:
        raise LeadError(f"no lead was given. Name some of {', '.join(LEADS)} or a group: {', '.join(GROUPS)}.")
    if len(set(names)) != len(names):
        raise LeadError(f"a lead is named twice in {', '.join(names)}. Name each lead once.")
    return names


def lead_indices(wanted: Sequence[str], available: Sequence[str]) -> list[int]:
    """Positions of the wanted leads in `available` (both in standard spelling).

    Raises:
        LeadError: a wanted lead is not there.
    """
    missing = [name for name in wanted if name not in available]
    if missing:
        raise LeadError(f"lead(s) {', '.join(missing)} are not among {', '.join(available)}.")
    return [list(available).index(name) for name in wanted]


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
    rows: dict[str, np.ndarray] = {}
    for name, row in zip(names, signal, strict=True):
        standard = _BY_LOWER.get(str(name).strip().lower())
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


def subset_leads(leads: str | Iterable[str] | None, available: Sequence[str]) -> tuple[str, ...]:
    """A selection among available leads; a group means those of its leads that are there (`limb` of eight: I and II).

    Args:
        leads: names and groups, as a list or `"limb,V2"`; None takes all.
        available: standard names.

    Raises:
        LeadError: a lead named by itself is not available, or none is left.
    """
    if leads is None:
        return tuple(available)
    parts = leads.split(",") if isinstance(leads, str) else list(leads)
    names: list[str] = []
    for part in parts:
        group = GROUPS.get(str(part).strip().lower())
        names += [name for name in group if name in available] if group else [canonical_lead(part)]
    lead_indices(names, available)
    return parse_leads(names)
