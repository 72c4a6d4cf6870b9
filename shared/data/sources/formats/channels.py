"""What every reader of a file gives, and how channels become a recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from shared.data.sources.base import RecordError, Recording
from shared.signals import MILLIVOLT

ARBITRARY = "a.u."
"""Unit of signals that are no voltage: they are taken as they stand."""


@dataclass(frozen=True)
class Channel:
    """One signal of a file.

    Attributes:
        values: `[T]`, in `unit`; of files that name no channels `[…]` of any shape, with `name` None.
        name: as the file has it.
        fs: Hz, None where the file does not say.
        unit: as the file has it, None where it does not say.
    """

    values: np.ndarray
    name: str | None = None
    fs: float | None = None
    unit: str | None = None


def to_recording(
    channels: Sequence[Channel],
    path: Path,
    wanted: Sequence[str],
    fs: float | None = None,
    names: Sequence[str] | None = None,
    unit: str | None = None,
) -> Recording:
    """The channels of a file as one recording in mV, or unscaled where `unit` is `a.u.`.

    A channel that is not wanted is passed over where its unit is unknown or its rate is another.

    Args:
        channels: of `read_channels`.
        path: for messages.
        wanted: channels that the store takes.
        fs: Hz, of files that do not say it.
        names: of the channels in order; needed where the file names none, else in place of its own.
        unit: of files that do not say it, or `a.u.`.

    Raises:
        RecordError: rate, names or unit are not known or contradict the file.
    """
    channels = _named(channels, path, names)
    lower = {name.lower() for name in wanted}
    kept, rates = [], set()
    for channel in channels:
        needed = str(channel.name).lower() in lower or len(channels) == 1
        scale = _scale(channel, unit)
        if scale is not None:
            kept.append((channel, scale, needed))
            rates |= {_rate(channel, fs, path)} if needed else set()
        elif needed:
            raise RecordError(
                "unknown unit",
                f"{path}: {channel.name} is in {channel.unit or unit!r}; expected mV, uV or V: give `unit` where the file "
                f"says none, or unit={ARBITRARY} for signals that are no voltage",
            )
    if len(rates) > 1:
        raise RecordError(
            "several rates", f"{path}: the channels wanted are at {', '.join(f'{x:g}' for x in rates)} Hz"
        )
    if not rates:
        raise RecordError(
            "missing or unknown leads",
            f"{path} holds {', '.join(str(c.name) for c in channels) or 'no channel'}; none of them is wanted",
        )
    rate = rates.pop()
    same = [(c, scale) for c, scale, needed in kept if needed or (c.fs or fs) == rate]
    length = {len(c.values) for c, _ in same}
    if len(length) != 1:
        raise RecordError("unreadable signal", f"{path}: channels are of {sorted(length)} samples")
    signal = np.stack([np.asarray(c.values, dtype=np.float32) * np.float32(scale) for c, scale in same])
    return Recording(signal, rate, [str(c.name) for c, _ in same], {}, ARBITRARY if unit == ARBITRARY else "mV")


def _named(channels: Sequence[Channel], path: Path, names: Sequence[str] | None) -> list[Channel]:
    """Channels with names; one array without becomes as many channels as there are names."""
    if len(channels) == 1 and channels[0].name is None:
        array = channels[0].values
        if array.dtype.kind not in "iuf":
            raise RecordError("unreadable signal", f"{path}: an array of {array.dtype}; expected numbers")
        if names is None:
            raise RecordError("unknown leads", f"{path}: an array {list(array.shape)} without names; give file_leads")
        array = array[None] if array.ndim == 1 else array
        if array.ndim != 2 or len(names) not in array.shape:
            raise RecordError(
                "unreadable signal",
                f"{path}: an array {list(array.shape)}; expected [{len(names)}, T] or its transpose",
            )
        rows = array if len(array) == len(names) else array.T
        return [replace(channels[0], values=row, name=name) for row, name in zip(rows, names, strict=True)]
    if names is not None and len(names) != len(channels):
        held = ", ".join(str(channel.name) for channel in channels)
        raise RecordError("unknown leads", f"{path} holds {held}; file_leads names {len(names)}")
    return [replace(channel, name=names[i]) for i, channel in enumerate(channels)] if names else list(channels)


def _scale(channel: Channel, unit: str | None) -> float | None:
    if unit == ARBITRARY:
        return 1.0
    return MILLIVOLT.get((channel.unit or unit or "").strip().lower())


def _rate(channel: Channel, fs: float | None, path: Path) -> float:
    rate = fs if channel.fs is None else channel.fs
    if rate is None:
        raise RecordError("unknown rate", f"{path} does not say its sampling rate: give file_fs or fs_column")
    if fs is not None and not np.isclose(rate, fs):
        raise RecordError("unknown rate", f"{path} says {rate:g} Hz and the settings {fs:g} Hz; give none or the same")
    return float(rate)
