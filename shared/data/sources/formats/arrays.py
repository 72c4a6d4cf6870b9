"""NumPy and HDF5: one array a file, or the one that is named. They say nothing of rate, unit and names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shared.data.sources.base import RecordError
from shared.data.sources.formats.channels import Channel
from shared.data.sources.hdf5 import NotInstalled, open_hdf5
from shared.errors import UserError


def read_numpy(path: Path, dataset: str | None) -> list[Channel]:
    """The array of an `.npy`, or of an `.npz` by name."""
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return [Channel(found)]
        with found:
            return [Channel(np.asarray(found[_choose(path, dict(found), dataset)]))]
    except RecordError:
        raise
    except Exception as error:  # numpy raises many kinds for a damaged file
        raise RecordError("unreadable signal", f"{path}: {type(error).__name__}: {error}") from None


def read_hdf5(path: Path, dataset: str | None) -> list[Channel]:
    """A data set by name, `group/name` where it lies in a group."""
    try:
        with open_hdf5(path) as file:
            arrays: dict[str, Any] = {}
            file.visititems(lambda name, item: arrays.update({name: item}) if hasattr(item, "shape") else None)
            return [Channel(np.asarray(arrays[_choose(path, arrays, dataset)]))]
    except NotInstalled:
        raise
    except UserError as error:
        raise RecordError("unreadable signal", str(error)) from None


def _choose(path: Path, arrays: Mapping[str, Any], dataset: str | None) -> str:
    held = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items()) or "nothing"
    if dataset is not None:
        name = dataset.strip("/")
        if name not in arrays:
            raise RecordError("no such data set", f"{path} has no data set {dataset}; it holds {held}")
        return name
    if len(arrays) != 1:
        raise RecordError("no such data set", f"{path} holds {held}; name one by dataset or dataset_column")
    return next(iter(arrays))
