"""DICOM waveforms (PS3.3, A.34 and C.10.9), read by pydicom."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from shared.data.sources.base import RecordError
from shared.data.sources.formats.channels import Channel
from shared.errors import UserError
from shared.leads import is_lead


def read_dicom(path: Path, dataset: str | None) -> list[Channel]:
    """The channels of the rhythm, which is found by its label: a multiplex group may also be of median beats."""
    try:
        import pydicom
    except ImportError:
        raise UserError(f'{path} is DICOM: pip install -e ".[formats]" brings what reads it.') from None
    if dataset is not None:
        raise RecordError("no such data set", f"{path} is DICOM, which has no data set {dataset}")
    try:
        found = pydicom.dcmread(path)
        groups = list(found.get("WaveformSequence", []))
        labels = [str(group.get("MultiplexGroupLabel", "")).upper() for group in groups]
        chosen = [i for i, label in enumerate(labels) if "RHYTHM" in label]
        chosen = chosen or [i for i, label in enumerate(labels) if "MEDIAN" not in label]
        if not chosen:
            raise RecordError("no waveform", f"{path}: no waveform of a rhythm; there is {', '.join(labels) or 'none'}")
        group, values = groups[chosen[0]], found.waveform_array(chosen[0])
        fs = float(group.SamplingFrequency)
        definitions = group.ChannelDefinitionSequence
        return [Channel(values[:, i], _name(one), fs, _unit(one)) for i, one in enumerate(definitions)]
    except RecordError:
        raise
    except Exception as error:  # pydicom raises many kinds for a damaged file
        raise RecordError("unreadable signal", f"{path}: {type(error).__name__}: {error}") from None


def _name(definition: Any) -> str:
    """`II` of the label, or of the meaning `Lead II` or `Lead I (Einthoven)`."""
    label = str(definition.get("ChannelLabel", "")).strip()
    if is_lead(label):
        return label
    source = definition.get("ChannelSourceSequence")
    meaning = str(source[0].get("CodeMeaning", "")).strip() if source else ""
    lead = re.sub(r"^lead\s+|\s*\(.*\)$", "", meaning, flags=re.IGNORECASE)
    return lead if is_lead(lead) else label or meaning


def _unit(definition: Any) -> str | None:
    units = definition.get("ChannelSensitivityUnitsSequence")
    return str(units[0].CodeValue) if units else None
