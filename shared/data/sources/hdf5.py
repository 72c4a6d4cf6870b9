"""HDF5 of the CODE studies and of others: opening a file, and tracings that lie between rows of zeros."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shared.data.sources.base import RecordError, Recording
from shared.errors import UserError


class NotInstalled(UserError):
    """The library that reads a format is not there, which is wrong with none of its files."""


@contextmanager
def open_hdf5(path: Path, *needed: str) -> Iterator[Any]:
    """A file, with the data sets it must have.

    Raises:
        NotInstalled: h5py is not there.
        UserError: the file cannot be read, is damaged, or lacks a data set.
    """
    try:
        import h5py
    except ImportError:
        raise NotInstalled(f'{path} is HDF5: pip install -e ".[hdf5]" brings what reads it.') from None
    try:
        file = h5py.File(path)
    except OSError as error:
        raise UserError(f"{path} is not a readable HDF5 file: {error}") from None
    with file:
        try:
            missing = [name for name in needed if name not in file]
            if missing:
                raise UserError(
                    f"{path} has no data set {', '.join(missing)}; it holds {', '.join(file) or 'nothing'}."
                )
            yield file
        except (UserError, RecordError):
            raise
        except Exception as error:  # h5py raises many kinds where the inside of a file is damaged
            raise UserError(f"{path} is damaged: {type(error).__name__}: {error}") from None


def read_tracings(
    root: Path, rows: pd.DataFrame, fs: float, leads: Sequence[str], unit_mv: float
) -> list[Recording | RecordError]:
    """Rows of `tracings [N, T, L]` without the zeros around each, in the order of `rows`; each file is opened once.

    Args:
        root: folder below which the files lie.
        rows: with `record`, `path` of the file, and `row` in it.
        fs: Hz.
        leads: as they are stored.
        unit_mv: millivolt of a stored 1.
    """
    results = dict[Any, Recording | RecordError]()
    for part, lines in rows.groupby("path", sort=False):
        try:
            with open_hdf5(root / str(part), "tracings") as file:
                for at, line in lines.iterrows():
                    found = _read_one(file["tracings"], line, unit_mv)
                    results[at] = found if isinstance(found, RecordError) else Recording(found, fs, list(leads))
        except UserError as error:
            results |= {at: RecordError("unreadable", str(error)) for at in lines.index if at not in results}
    return [results[at] for at in rows.index]


def _read_one(tracings: Any, line: pd.Series, unit_mv: float) -> np.ndarray | RecordError:
    try:
        signal = np.asarray(tracings[int(line.row)], dtype=np.float32).T * np.float32(unit_mv)
    except (OSError, ValueError, IndexError) as error:
        return RecordError("unreadable signal", f"{line.record}: row {line.row} of {line.path}: {error}")
    there = np.flatnonzero((signal != 0).any(axis=0))
    if not len(there):
        return RecordError("empty", f"{line.record}: row {line.row} of {line.path} holds zeros only")
    return np.ascontiguousarray(signal[:, there[0] : there[-1] + 1])
