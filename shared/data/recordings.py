"""ECG out of files of anybody's making: WFDB records, NumPy arrays, tables of text, EDF, GE MUSE's XML, DICOM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from shared.data.sources.base import RecordError, Recording, read_wfdb
from shared.data.sources.formats import read_channels
from shared.data.sources.formats.channels import to_recording
from shared.errors import UserError
from shared.leads import LEADS, is_lead


@dataclass(frozen=True)
class Settings:
    """What files other than WFDB do not say of themselves: rate in Hz (None: not known), names of the rows, unit."""

    fs: float | None = None
    leads: tuple[str, ...] | None = None
    unit: str = "mV"


@dataclass(frozen=True)
class Signals:
    """What a file holds: `x` is `[n, L, T]` or `[L, T]` of one record, in `unit`, at `fs` Hz, with the names of its rows."""

    x: np.ndarray
    fs: float
    leads: tuple[str, ...]
    unit: str


def find_files(path: Path) -> list[Path]:
    """The files of a folder, and of folders below it, that may hold ECG; or the one that a path names, in WFDB's way too.

    Raises:
        UserError: nothing there.
    """
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.suffix in READERS and not file.name.startswith("."))
        if not found:
            raise UserError(f"{path} holds no file {', '.join(f'*{kind}' for kind in READERS)}, and is no store.")
        return found
    for file in (path, path.with_name(f"{path.name}.hea"), path.with_suffix(".hea")):
        if file.is_file() and file.suffix in READERS:
            return [file]
    wrong = "is no file that is read here" if path.exists() else "does not exist"
    raise UserError(
        f"{path} {wrong}; expected a folder, a store, or a file {', '.join(f'*{kind}' for kind in READERS)}."
    )


def read_signals(path: Path, settings: Settings) -> Signals:
    """The ECG of one file.

    Args:
        path: one that `find_files` found.
        settings: for files that do not say it themselves.

    Raises:
        UserError: unreadable, no ECG in it, or its rate is not known.
    """
    return READERS[path.suffix](path, settings)


def needs_rate(path: Path) -> bool:
    """Whether a file does not say its own rate."""
    return path.suffix in (".npy", ".csv")


def _read_wfdb(path: Path, settings: Settings) -> Signals:
    try:
        return _of_leads(read_wfdb(path.with_suffix(""))[0])
    except RecordError as error:
        raise UserError(f"{error.reason}: {error}") from None


def _read_self_describing(path: Path, settings: Settings) -> Signals:
    """EDF, XML, DICOM: they say rate, unit and names themselves."""
    try:
        return _of_leads(to_recording(read_channels(path), path, LEADS))
    except RecordError as error:
        raise UserError(f"{error.reason}: {error}") from None


def _of_leads(recording: Recording) -> Signals:
    rows, names = _known(recording.leads)
    if not rows:
        raise UserError(f"its signals are {', '.join(recording.leads)}, none of them a lead of the twelve")
    return Signals(recording.signal[rows], recording.fs, names, "mV")


def _read_array(path: Path, settings: Settings) -> Signals:
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)  # read record by record
        arrays = {"x": found} if isinstance(found, np.ndarray) else dict(found)
    except Exception as error:  # numpy raises many kinds for a damaged file
        raise UserError(f"it cannot be read: {error}") from None
    signals = [name for name, array in arrays.items() if array.ndim >= 2]
    if len(signals) != 1:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
        raise UserError(f"it holds {shapes or 'nothing'}; expected one array [n, L, T] or [L, T], and fs if it has it")
    own = arrays.get("fs")
    fs = settings.fs if own is None or settings.fs is not None else own.reshape(-1)[0]
    return Signals(arrays[signals[0]], _rate(fs), settings.leads or LEADS, settings.unit)


def _read_table(path: Path, settings: Settings) -> Signals:
    """A table of text: a column is a lead, named by the first line or in the order of `leads`; without names a row may be."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            first = file.readline()
        separator = max(",;\t", key=first.count)
        cells = [cell.strip().strip('"') for cell in first.split(separator)]
        columns = cells[1:] if cells[0] == "" else cells
        counted = len(columns) > 1 and columns == [str(i) for i in range(len(columns))]  # as pandas writes them
        named = not counted and not all(_is_number(cell) for cell in cells)
        table = pd.read_csv(path, sep=separator, header=0 if named or counted else None, skipinitialspace=True)
    except (OSError, ValueError) as error:
        raise UserError(f"it is no table of numbers: {error}") from None
    if counted and cells[0] == "":
        table = table.iloc[:, 1:]
    if not named:
        ecg, names = table.to_numpy(), settings.leads or LEADS
        return Signals(ecg if len(ecg) == len(names) else ecg.T, _rate(settings.fs), names, settings.unit)
    found, names = _known([str(column) for column in table])
    if not found:
        raise UserError(f"its columns are {', '.join(cells)[:80]}; expected names of leads, as {', '.join(LEADS[:4])}")
    return Signals(table.iloc[:, found].to_numpy().T, _rate(settings.fs), names, settings.unit)


def _known(names: Sequence[str]) -> tuple[list[int], tuple[str, ...]]:
    """Positions and names of those that are leads."""
    rows = [i for i, name in enumerate(names) if is_lead(name)]
    return rows, tuple(names[i] for i in rows)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _rate(fs: float | None) -> float:
    if fs is None:
        raise UserError("fs is not set: give its sampling rate, e.g. fs=500")
    return float(fs)


READERS: dict[str, Callable[[Path, Settings], Signals]] = {
    ".hea": _read_wfdb,
    ".npy": _read_array,
    ".npz": _read_array,
    ".csv": _read_table,
    ".edf": _read_self_describing,
    ".bdf": _read_self_describing,
    ".xml": _read_self_describing,
    ".dcm": _read_self_describing,
}
"""End of a file's name → how it is read."""
