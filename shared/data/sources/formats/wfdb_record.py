"""WFDB records, whose headers say everything."""

from __future__ import annotations

from pathlib import Path

from shared.data.sources.base import RecordError, read_wfdb
from shared.data.sources.formats.channels import Channel


def read_record(path: Path, dataset: str | None) -> list[Channel]:
    """A record, by its header, its signal file, or its name; signals come back in mV, which the header's unit was brought to."""
    if dataset is not None:
        raise RecordError("no such data set", f"{path} is a WFDB record, which has no data set {dataset}")
    recording, _ = read_wfdb(path.with_suffix("") if path.suffix in (".hea", ".dat") else path)
    return [Channel(row, name, recording.fs, "mV") for row, name in zip(recording.signal, recording.leads, strict=True)]
