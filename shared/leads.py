"""Lead names, their one order, selection by name; and the names of channels that are none of the twelve.

This is the vocabulary of everything above it. Signals are `[L, T]` in millivolt; leads are always found by name, never by
position, because databases disagree on order (`aVL` before `aVF` or after) and on spelling (`AVR`, `aVR`, `avr`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

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


def channel_name(name: str) -> str:
    """A lead in standard spelling; the name of any other channel (`MLII`, `PPG`) as it stands.

    Raises:
        LeadError: it is none of the twelve but looks like one (`aVX`, `V7`), which is more often a slip than a name.
    """
    name = str(name).strip()
    return name if name and not is_lead(name) and not RESEMBLES.fullmatch(name) else canonical_lead(name)


RESEMBLES = re.compile(r"a?v\w{0,2}|i+\w?|[il1]{1,3}", re.IGNORECASE)


def parse_leads(leads: str | Iterable[str], others: bool = False) -> tuple[str, ...]:
    """Read a lead selection: names and groups (`all`, `limb`, `precordial`, `independent`), as a list or `"limb,V2"`.

    Args:
        leads: the selection.
        others: whether channels other than the twelve leads may be named too.

    Returns:
        The names in standard spelling, in the order given.

    Raises:
        LeadError: an unknown or repeated name, or no name at all.
    """
    named = channel_name if others else canonical_lead
    parts = leads.split(",") if isinstance(leads, str) else list(leads)
    names = tuple(name for part in parts for name in GROUPS.get(str(part).strip().lower()) or (named(part),))
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
        own = part if part in available else canonical_lead(part) if not group else ""
        names += [name for name in group if name in available] if group else [own]
    lead_indices(names, available)
    return parse_leads(names, others=True)
