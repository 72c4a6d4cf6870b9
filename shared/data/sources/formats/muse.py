"""GE MUSE's XML (`RestingECG`): eight leads as base64 of int16. The other limb leads are derived from I and II later."""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path
from typing import Any

import numpy as np

from shared.data.sources.base import RecordError
from shared.data.sources.formats.channels import Channel
from shared.errors import UserError

UNITS = {"microvolts": "uV", "millivolts": "mV"}


def read_muse(path: Path, dataset: str | None) -> list[Channel]:
    """The leads of the rhythm waveform, which is found by its type: the other is a median beat, and either may come first."""
    if dataset is not None:
        raise RecordError("no such data set", f"{path} is XML, which has no data set {dataset}")
    root = _parse(path)
    waveforms = list(root.iter("Waveform"))
    rhythm = [w for w in waveforms if _text(w, "WaveformType").lower() == "rhythm"]
    if not rhythm:
        held = ", ".join(_text(w, "WaveformType") or "one without a type" for w in waveforms) or "none"
        raise RecordError("no waveform", f"{path}: no Waveform of type Rhythm; there is {held} in <{root.tag}>")
    try:
        fs = _number(_text(rhythm[0], "SampleBase")) * 10.0 ** _number(_text(rhythm[0], "SampleExponent") or "0")
        channels = [_channel(lead, fs) for lead in rhythm[0].findall("LeadData")]
    except (ValueError, binascii.Error) as error:
        raise RecordError("unreadable signal", f"{path}: {error}") from None
    if not channels:
        raise RecordError("no waveform", f"{path}: its Rhythm waveform holds no LeadData")
    return channels


def _channel(lead: Any, fs: float) -> Channel:
    name = _text(lead, "LeadID")
    samples = np.frombuffer(base64.b64decode("".join(_text(lead, "WaveFormData").split()), validate=True), "<i2")
    count = _text(lead, "LeadSampleCountTotal")
    if count and int(count) != len(samples):
        raise ValueError(f"lead {name} holds {len(samples)} samples of {count}")
    unit = _text(lead, "LeadAmplitudeUnits")
    step = _number(_text(lead, "LeadAmplitudeUnitsPerBit"))
    return Channel(samples * np.float32(step), name, fs, UNITS.get(unit.lower(), unit) or None)


def _number(text: str) -> float:
    """`4.88`, or with the comma that some countries write."""
    try:
        return float(text.replace(",", "."))
    except ValueError:
        raise ValueError(f"{text!r} stands where a number is expected") from None


def _text(element: Any, tag: str) -> str:
    return (element.findtext(tag) or "").strip()


def _parse(path: Path) -> Any:
    """The root of the file; `&` and `<` that stand unescaped in a text, as MUSE writes them, are mended."""
    try:
        from defusedxml import ElementTree
    except ImportError:
        raise UserError(f'{path} is XML: pip install -e ".[formats]" brings what reads it safely.') from None
    raw = path.read_bytes()
    try:
        return ElementTree.fromstring(raw)
    except ElementTree.ParseError as error:
        declared = re.match(rb"""<\?xml[^>]*encoding=["']utf-?8""", raw, re.IGNORECASE)
        text = raw.decode("utf-8" if declared else "iso-8859-1", errors="replace")
        text = re.sub(r"^\s*<\?xml[^>]*\?>", "", text)
        text = re.sub(r"&(?!#?\w+;)", "&amp;", text)
        text = re.sub(r"<(?![A-Za-z/?!])", "&lt;", text)
        try:
            return ElementTree.fromstring(text)
        except Exception:
            raise RecordError("unreadable signal", f"{path} is not XML: {error}") from None
    except Exception as error:  # what defusedxml forbids
        raise RecordError("unreadable signal", f"{path}: {type(error).__name__}: {error}") from None
