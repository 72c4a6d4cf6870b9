"""File formats of ECG: what a file says of each of its channels, by the end of its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from shared.data.sources.base import RecordError
from shared.data.sources.formats import arrays, dicom, edf, muse, wfdb_record
from shared.data.sources.formats.channels import Channel

READERS: dict[str, Callable[[Path, str | None], list[Channel]]] = {
    ".npy": arrays.read_numpy,
    ".npz": arrays.read_numpy,
    ".h5": arrays.read_hdf5,
    ".hdf5": arrays.read_hdf5,
    ".edf": edf.read_edf,
    ".bdf": edf.read_edf,
    ".xml": muse.read_muse,
    ".dcm": dicom.read_dicom,
    ".hea": wfdb_record.read_record,
    ".dat": wfdb_record.read_record,
    "": wfdb_record.read_record,
}
"""End of a file's name in lower case → its reader; a WFDB record is named without an end."""


def read_channels(path: Path, dataset: str | None = None) -> list[Channel]:
    """The channels of one file.

    Args:
        path: of the file; of a WFDB record with or without `.hea`.
        dataset: name of the array in HDF5 or `.npz`; None where there is one only.

    Raises:
        RecordError: the file is missing, of no known format, damaged, or holds no ECG.
        UserError: what reads it is not installed.
    """
    end = path.suffix.lower()
    if end not in READERS:
        if path.with_name(f"{path.name}.hea").is_file():  # a record whose name has a dot
            return wfdb_record.read_record(path.with_name(f"{path.name}.hea"), None)
        known = ", ".join(name for name in READERS if name)
        raise RecordError("unknown format", f"{path} ends with {end!r}; read are {known} and WFDB records")
    if end and not path.is_file():
        raise RecordError("missing file", f"{path} does not exist")
    return READERS[end](path, dataset)
