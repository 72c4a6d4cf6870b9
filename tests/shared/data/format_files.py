"""Files of several formats written by a test."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np

from shared.leads import INDEPENDENT_LEADS

UV_PER_BIT = 4.88


def write_muse(path: Path, eight: np.ndarray, fs: str = "500", exponent: str = "0", **replaced: str) -> Path:
    """`eight [8, T]` int16 as the second waveform, after a median beat of ones; texts may be replaced."""

    def lead(name: str, values: np.ndarray) -> str:
        data = base64.b64encode(values.astype("<i2").tobytes()).decode()
        lines = "\n".join(data[i : i + 76] for i in range(0, len(data), 76))
        return (
            f"<LeadData><LeadSampleCountTotal>{len(values)}</LeadSampleCountTotal>"
            f"<LeadAmplitudeUnitsPerBit>4.88</LeadAmplitudeUnitsPerBit><LeadAmplitudeUnits>MICROVOLTS</LeadAmplitudeUnits>"
            f"<LeadID>{name}</LeadID><WaveFormData>\n{lines}\n</WaveFormData></LeadData>"
        )

    def waveform(kind: str, signals: np.ndarray) -> str:
        leads = "".join(lead(name, row) for name, row in zip(INDEPENDENT_LEADS, signals, strict=True))
        rate = f"<SampleBase>{fs}</SampleBase><SampleExponent>{exponent}</SampleExponent>"
        return f"<Waveform><WaveformType>{kind}</WaveformType>{rate}{leads}</Waveform>"

    text = (
        '<?xml version="1.0" encoding="ISO-8859-1"?>\n<!DOCTYPE RestingECG SYSTEM "restecg.dtd">\n<RestingECG>'
        "<PatientDemographics><PatientLastName>Müller</PatientLastName></PatientDemographics>"
        f"{waveform('Median', np.ones((8, 600)))}{waveform('Rhythm', eight)}</RestingECG>"
    )
    for old, new in replaced.items():
        assert old in text, old
        text = text.replace(old, new)
    path.write_bytes(text.encode("iso-8859-1"))
    return path


def write_dicom(path: Path, ecg: np.ndarray, names: list[str], fs: float, label: str = "RHYTHM") -> Path:
    """`ecg [L, T]` in µV as int16 at 2.5 µV a step, after a multiplex group of median beats."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    def code(value: str, meaning: str) -> Any:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "MDC", meaning
        return item

    def group(signals: np.ndarray, called: str) -> Any:
        item = Dataset()
        item.MultiplexGroupLabel, item.SamplingFrequency = called, fs
        item.NumberOfWaveformChannels, item.NumberOfWaveformSamples = signals.shape
        item.WaveformOriginality, item.WaveformBitsAllocated, item.WaveformSampleInterpretation = "ORIGINAL", 16, "SS"
        item.ChannelDefinitionSequence = []
        for name in names:
            channel = Dataset()
            channel.ChannelSourceSequence = [code("2:1", f"Lead {name}" if name != "I" else "Lead I (Einthoven)")]
            channel.ChannelSensitivity, channel.ChannelSensitivityCorrectionFactor, channel.ChannelBaseline = 2.5, 1, 0
            channel.ChannelSensitivityUnitsSequence = [code("uV", "microvolt")]
            channel.WaveformBitsStored = 16
            item.ChannelDefinitionSequence.append(channel)
        item.WaveformData = np.ascontiguousarray(np.rint(signals.T / 2.5)).astype("<i2").tobytes()
        return item

    file = Dataset()
    file.SOPClassUID, file.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.9.1.1", "1.2.3.4"
    file.WaveformSequence = [group(np.ones((len(names), 600)), "MEDIAN BEAT"), group(ecg, label)]
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID, file.file_meta.MediaStorageSOPInstanceUID = file.SOPClassUID, "1.2.3.4"
    file.save_as(path, enforce_file_format=True)
    return path


def write_edf(path: Path, channels: list[tuple[str, str, float, np.ndarray]]) -> Path:
    """Channels of label, unit, rate and values."""
    import edfio

    signals = [
        edfio.EdfSignal(values, sampling_frequency=fs, label=label, physical_dimension=unit)
        for label, unit, fs, values in channels
    ]
    edfio.Edf(signals).write(path)
    return path
