"""File formats: the same ECG comes back from each, and what is wrong with a file is said."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from shared.data.recordings import Settings, find_files, read_signals
from shared.data.sources.base import RecordError, Recording
from shared.data.sources.formats import read_channels
from shared.data.sources.formats.channels import to_recording
from shared.errors import UserError
from shared.leads import INDEPENDENT_LEADS, LEADS
from tests.shared.data.format_files import UV_PER_BIT, write_dicom, write_edf, write_muse
from tests.shared.data.wfdb_records import draw_ecg, write_record

ECG = draw_ecg().astype(np.float32)
EIGHT = np.rint(ECG[[LEADS.index(name) for name in INDEPENDENT_LEADS]] * 1000 / UV_PER_BIT).astype(np.int16)


def read(path: Path, dataset: str | None = None, **given: Any) -> Recording:
    wanted = given.pop("wanted", LEADS)
    return to_recording(read_channels(path, dataset), path, wanted, **given)


def refused(path: Path, dataset: str | None = None, **given: Any) -> str:
    with pytest.raises(RecordError) as caught:
        read(path, dataset, **given)
    return f"{caught.value.reason}: {caught.value.detail}"


def test_muse(tmp_path: Path) -> None:
    found = read(write_muse(tmp_path / "a.xml", EIGHT))
    assert (found.fs, tuple(found.leads), found.unit) == (500.0, INDEPENDENT_LEADS, "mV")
    np.testing.assert_allclose(found.signal, EIGHT * UV_PER_BIT * 1e-3, rtol=1e-6)


@pytest.mark.parametrize(
    ("replaced", "factor", "fs"),
    [
        ({">4.88<": ">4,88<"}, 1.0, 500.0),
        ({"MICROVOLTS": "MILLIVOLTS"}, 1000.0, 500.0),
        ({"Müller": "Müller & Söhne, QRS < 120"}, 1.0, 500.0),
        ({"<SampleExponent>0": "<SampleExponent>1", "<SampleBase>500": "<SampleBase>25"}, 1.0, 250.0),
    ],
)
def test_muse_as_carts_write_it(tmp_path: Path, replaced: dict[str, str], factor: float, fs: float) -> None:
    found = read(write_muse(tmp_path / "a.XML", EIGHT, **replaced))
    assert found.fs == fs
    np.testing.assert_allclose(found.signal, factor * EIGHT * UV_PER_BIT * 1e-3, rtol=1e-6)


@pytest.mark.parametrize(
    ("replaced", "said"),
    [
        ({">Rhythm<": ">Other<"}, "no waveform: .*no Waveform of type Rhythm; there is Median, Other"),
        ({">4.88<": ">about 5<"}, "unreadable signal: .*'about 5' stands where a number"),
        ({"Total>2500<": "Total>2501<"}, "unreadable signal: .*lead I holds 2500 samples of 2501"),
        ({"<WaveFormData>\n": "<WaveFormData>\n%"}, "unreadable signal: "),
        ({"MICROVOLTS": "LSB"}, "unknown unit: .*I is in 'LSB'"),
        ({"</RestingECG>": ""}, "unreadable signal: .*is not XML"),
    ],
)
def test_broken_muse_is_said(tmp_path: Path, replaced: dict[str, str], said: str) -> None:
    assert re.search(said, refused(write_muse(tmp_path / "a.xml", EIGHT, **replaced)))


def test_xml_that_would_grow_without_end_is_refused(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;">]><RestingECG>&b;</RestingECG>'
    (tmp_path / "a.xml").write_text(bomb)
    assert "EntitiesForbidden" in refused(tmp_path / "a.xml")


@pytest.mark.parametrize("label", ["RHYTHM", "Rhythm strip", ""])
def test_dicom(tmp_path: Path, label: str) -> None:
    found = read(write_dicom(tmp_path / "a.dcm", ECG * 1000, list(LEADS), 500, label))
    assert (found.fs, tuple(found.leads)) == (500.0, LEADS)
    np.testing.assert_allclose(found.signal, ECG, atol=1.26e-3)


def test_dicom_without_a_rhythm_is_said(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", ECG * 1000, list(LEADS), 500, "MEDIAN")
    assert "no waveform of a rhythm; there is MEDIAN BEAT, MEDIAN" in refused(path)
    path.write_bytes(b"DICOM?")
    assert refused(path).startswith("unreadable signal: ")


def test_edf(tmp_path: Path) -> None:
    channels = [(f"ECG {name}", "uV", 500.0, row * 1000.0) for name, row in zip(LEADS, ECG, strict=True)]
    channels += [("SpO2", "%", 1.0, np.arange(5.0)), ("Chest", "mV", 100.0, np.sin(np.arange(500.0)))]
    found = read(write_edf(tmp_path / "a.edf", channels))
    assert (found.fs, tuple(found.leads)) == (500.0, LEADS)
    np.testing.assert_allclose(found.signal, ECG, atol=1e-4)
    other = read(tmp_path / "a.edf", wanted=["Chest"])
    assert other.fs == 100.0 and "Chest" in other.leads


def test_edf_of_other_units_and_rates(tmp_path: Path) -> None:
    pulse = np.sin(np.arange(500.0))
    path = write_edf(tmp_path / "a.edf", [("PPG", "NU", 100.0, pulse), ("ECG", "mV", 200.0, np.repeat(pulse, 2))])
    assert "unknown unit: " in refused(path, wanted=["PPG"]) and "PPG is in 'NU'" in refused(path, wanted=["PPG"])
    found = read(path, wanted=["PPG"], unit="a.u.")
    assert (found.unit, list(found.leads), found.fs) == ("a.u.", ["PPG"], 100.0)
    np.testing.assert_allclose(found.signal[0], pulse, atol=1e-4)
    assert read(path, wanted=["ECG"]).leads == ["ECG"]
    assert refused(path, wanted=["PPG", "ECG"], unit="a.u.").startswith("several rates: ")
    assert "none of them is wanted" in refused(path, wanted=LEADS)
    path.write_bytes(path.read_bytes()[:300])
    assert refused(path).startswith("unreadable signal: ")


def test_arrays_say_nothing_of_themselves(tmp_path: Path) -> None:
    given: dict[str, Any] = {"fs": 250.0, "names": LEADS, "unit": "mV"}
    for array in (ECG, ECG.T):
        np.save(tmp_path / "a.npy", array)
        np.testing.assert_array_equal(read(tmp_path / "a.npy", **given).signal, ECG)
    np.testing.assert_allclose(read(tmp_path / "a.npy", **{**given, "unit": "uV"}).signal, ECG * 1e-3)
    assert "give file_fs" in refused(tmp_path / "a.npy", **{**given, "fs": None})
    assert "give file_leads" in refused(tmp_path / "a.npy", **{**given, "names": None})
    assert "give `unit`" in refused(tmp_path / "a.npy", **{**given, "unit": None})
    assert "is in 'mmHg'" in refused(tmp_path / "a.npy", **{**given, "unit": "mmHg"})
    assert "expected [8, T]" in refused(tmp_path / "a.npy", **{**given, "names": INDEPENDENT_LEADS})
    np.save(tmp_path / "a.npy", np.array(["x"]))
    assert "expected numbers" in refused(tmp_path / "a.npy", **given)
    np.savez(tmp_path / "a.npz", ecg=ECG, fs=np.array(500))
    assert "name one by dataset" in refused(tmp_path / "a.npz", **given)
    np.testing.assert_array_equal(read(tmp_path / "a.npz", "ecg", **given).signal, ECG)


def test_hdf5(tmp_path: Path) -> None:
    given: dict[str, Any] = {"fs": 250.0, "names": LEADS, "unit": "V"}
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["waves/ecg"], file["waves/ppg"] = ECG / 1000, np.zeros(10)
    np.testing.assert_allclose(read(tmp_path / "a.h5", "waves/ecg", **given).signal, ECG, rtol=1e-6)
    assert "has no data set ecg; it holds waves/ecg [12, 2500], waves/ppg [10]" in refused(
        tmp_path / "a.h5", "ecg", **given
    )
    with pytest.raises(RecordError) as found:
        read(tmp_path / "a.h5", **given)
    assert found.value.reason == "no such data set" and "damaged" not in found.value.detail
    (tmp_path / "b.hdf5").write_bytes(b"zip")
    assert "not a readable HDF5" in refused(tmp_path / "b.hdf5", **given)


def test_wfdb_and_the_rate_it_says(tmp_path: Path) -> None:
    path = write_record(tmp_path, "a", ECG, fs=250)
    for name in (path, path.with_suffix(".hea"), path.with_suffix(".dat")):
        found = read(name, fs=250.0)
        assert found.fs == 250.0
        np.testing.assert_allclose(found.signal, ECG, atol=1e-6)
    assert "says 250 Hz and the settings 500 Hz" in refused(path, fs=500.0)
    assert "has no data set x" in refused(path, "x")


def test_names_may_be_given(tmp_path: Path) -> None:
    path = write_record(tmp_path, "a", ECG[:2], leads=["ch1", "ch2"])
    found = read(path, names=["II", "PPG"])
    assert list(found.leads) == ["II", "PPG"]
    assert "holds ch1, ch2; file_leads names 3" in refused(path, names=["I", "II", "III"])


def test_what_is_no_such_file_is_said(tmp_path: Path) -> None:
    assert refused(tmp_path / "a.npy").startswith("missing file: ")
    assert refused(tmp_path / "a").startswith("missing file: ")
    (tmp_path / "a.pdf").touch()
    assert "unknown format: " in refused(tmp_path / "a.pdf") and "'.pdf'; read are .npy" in refused(tmp_path / "a.pdf")


def test_what_embeds_files_reads_them_too(tmp_path: Path) -> None:
    write_muse(tmp_path / "a.xml", EIGHT)
    write_dicom(tmp_path / "b.dcm", ECG * 1000, list(LEADS), 500)
    write_edf(tmp_path / "c.edf", [("ECG II", "uV", 500.0, ECG[1] * 1000.0), ("SpO2", "%", 500.0, ECG[2])])
    files = find_files(tmp_path)
    assert [path.name for path in files] == ["a.xml", "b.dcm", "c.edf"]
    muse, dicom, edf = (read_signals(path, Settings()) for path in files)
    assert (muse.leads, dicom.leads, edf.leads) == (INDEPENDENT_LEADS, LEADS, ("II",))
    assert {(found.fs, found.unit) for found in (muse, dicom, edf)} == {(500.0, "mV")}
    np.testing.assert_allclose(dicom.x, ECG, atol=1.26e-3)
    np.testing.assert_allclose(edf.x, ECG[1:2], atol=1e-4)
    write_muse(tmp_path / "a.xml", EIGHT, **{">Rhythm<": ">Other<"})
    with pytest.raises(UserError, match="no Waveform of type Rhythm"):
        read_signals(tmp_path / "a.xml", Settings())
