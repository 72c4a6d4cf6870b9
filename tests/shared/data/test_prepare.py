"""Preparing keeps what is good, says what is not, and leaves a whole store or none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import wfdb

from shared.data.loader import eval_batches
from shared.data.spec import InputSpec
from shared.data.store import StoreError
from shared.data.transforms import Preprocess
from shared.leads import INDEPENDENT_LEADS, LEADS
from tests.golden import Golden
from tests.shared.data.preparing import audit_of, run
from tests.shared.data.test_sources import draw_ecg, write_record

# ---------------------------------------------------------------- one good record


def test_signal_comes_back_to_the_microvolt(tmp_path: Path) -> None:
    ecg = draw_ecg()
    write_record(tmp_path / "in", "a", ecg)
    store = run(tmp_path)
    np.testing.assert_array_equal(store[0], np.rint(ecg * 1000))
    assert (store.fs, store.num_samples, store.leads) == (250.0, 2500, LEADS)
    row = store.records.iloc[0]
    assert (row.source, row.record, row.segment, row.patient) == ("wfdb_folder", "a", 0, "a")
    assert row.limb_residual_mv < 1e-4
    assert not row.flat_lead
    assert not row.clipped


def test_order_and_case_of_the_header_do_not_matter(tmp_path: Path) -> None:
    ecg, order = draw_ecg(), np.random.default_rng(1).permutation(12)
    write_record(tmp_path / "in", "plain", ecg)
    write_record(tmp_path / "in", "shuffled", ecg[order], leads=[LEADS[i].upper() for i in order])
    store = run(tmp_path)
    np.testing.assert_array_equal(store[0], store[1])


def test_missing_limb_leads_are_derived_and_said(tmp_path: Path) -> None:
    ecg = draw_ecg()
    write_record(
        tmp_path / "in", "eight", ecg[[LEADS.index(name) for name in INDEPENDENT_LEADS]], leads=INDEPENDENT_LEADS
    )
    store = run(tmp_path)
    assert np.abs(store[0] - ecg * 1000).max() <= 1
    assert store.records.derived_leads[0].tolist() == ["III", "aVR", "aVL", "aVF"]
    assert np.isnan(store.records.limb_residual_mv[0])
    assert audit_of(store)["derived_lead_segments"] == 1
    assert audit_of(store)["limb_residual_mv"]["checked"] == 0


def test_lead_residual_is_reported(tmp_path: Path) -> None:
    ecg = draw_ecg()
    ecg[2, 100] += 0.3
    write_record(tmp_path / "in", "a", ecg)
    store = run(tmp_path)
    assert store.records.limb_residual_mv[0] == pytest.approx(0.3, abs=1e-3)
    audit = audit_of(store)
    assert audit["limb_residual_mv"]["above_0.1_mv"] == 1
    assert audit["flags"]["limb"] == [store.records.record[0]]
    with pytest.raises(StoreError, match="segment 0: limb"):
        run(tmp_path, out=tmp_path / "rest", exclude=("limb",))


def test_one_lead_files_serve_where_one_lead_is_asked(tmp_path: Path) -> None:
    ecg = draw_ecg()
    write_record(tmp_path / "in", "a", ecg[1:2], leads=["II"])
    store = run(tmp_path, leads=["ii"])
    np.testing.assert_array_equal(store[0], np.rint(ecg[1:2] * 1000))
    assert store.leads == ("II",)
    with pytest.raises(StoreError, match="lead I is missing: the header has II"):
        run(tmp_path, out=tmp_path / "twelve")


# ---------------------------------------------------------------- sampling rates


@pytest.mark.parametrize("resample", ["polyphase", "fft"])
@pytest.mark.parametrize("fs", [100, 257, 360, 500, 1000])
def test_other_rates_are_resampled(tmp_path: Path, fs: int, resample: str) -> None:
    """A whole number of periods, so that with `fft` the only error is rounding; polyphase has ends."""

    def wave(rate: int) -> np.ndarray:
        time = np.arange(10 * rate) / rate
        return np.stack([np.sin(2 * np.pi * (3 + lead) * time + lead) for lead in range(12)])

    write_record(tmp_path / "in", "a", wave(fs), fs=fs)
    store = run(tmp_path, resample=resample)
    assert store.num_samples == 2500
    inside = slice(None) if resample == "fft" else slice(25, -25)
    np.testing.assert_allclose((store[0] / 1000)[:, inside], wave(250)[:, inside], atol=3e-3)


@pytest.mark.parametrize("fs", [257, 500, 1000])
def test_the_ends_of_a_drifting_record_stay_its_own(tmp_path: Path, fs: int) -> None:
    """From one end to the other it drifts by 4 mV, with a step: in a periodic signal a jump."""
    time = np.arange(10 * fs) / fs
    ecg = np.stack([0.4 * time + 0.1 * (time > 5) + 0.1 * np.sin(2 * np.pi * (1 + lead) * time) for lead in range(12)])
    write_record(tmp_path / "in", "a", ecg, fs=fs)
    found, periodic = run(tmp_path), run(tmp_path, resample="fft", out=tmp_path / "fft")
    ends = [0, -1]
    assert np.abs(found[0][:, 0] / 1000 - ecg[:, 0]).max() < 0.002
    assert np.abs(found[0][:, -1] / 1000 - ecg[:, -1]).max() < 0.05
    assert np.abs(periodic[0][:, ends] / 1000 - ecg[:, ends]).max() > 0.05


# ---------------------------------------------------------------- records that are too short


@pytest.mark.parametrize("short", ["pad", "tile"])
def test_short_records_may_be_filled(tmp_path: Path, short: str) -> None:
    write_record(tmp_path / "in", "long", draw_ecg())
    write_record(tmp_path / "in", "seven", ecg := draw_ecg(1, 1750))
    write_record(tmp_path / "in", "too_short", draw_ecg(2, 240))
    store = run(tmp_path, short=short)
    assert store.records.record.tolist() == ["long", "seven"]
    assert store.records.signal_seconds.tolist() == [10.0, 7.0]
    stored = np.rint(ecg * 1000).astype(int)
    np.testing.assert_array_equal(store[1][:, :1750], stored)
    np.testing.assert_array_equal(store[1][:, 1750:], 0 if short == "pad" else stored[:, :750])
    assert audit_of(store)["left_out"] == {"too short": 1}


def test_published_preprocessing_from_500_hz_through_the_store(tmp_path: Path) -> None:
    """The golden record through WFDB, resampling, store, crops, filter and standardisation; the store rounds to 1 µV."""
    golden = Golden("st_mem_preprocess.npz")
    ecg = golden.arrays["x_500hz"]
    (tmp_path / "in").mkdir()
    wfdb.wrsamp(
        "a",
        fs=500,
        units=["mV"] * 12,
        sig_name=list(LEADS),
        p_signal=ecg.T,
        fmt=["32"] * 12,
        adc_gain=[1e6] * 12,
        baseline=[0] * 12,
        write_dir=str(tmp_path / "in"),
    )
    store = run(tmp_path, resample="fft")
    assert np.abs(store[0] / 1000 - golden.arrays["x_250hz"]).max() < 0.5e-3 + 1e-5
    spec = InputSpec(fs=250, num_samples=2250, highpass=0.67, lowpass=40, standardize="record")
    crops = Preprocess(spec)(next(eval_batches(store, np.array([0]), spec, 1, num_crops=3))[0])
    deviation = (crops - golden["eval_crops"]).square().mean().sqrt().item()
    rounding = 1e-3 / 12**0.5  # mV, of a step of 1 µV; the filter can only lower it
    assert (
        deviation < rounding / Preprocess(spec).millivolts(torch.from_numpy(store.read([0])[..., :2250])).std().item()
    )


# ---------------------------------------------------------------- segments


def test_long_records_become_consecutive_segments(tmp_path: Path) -> None:
    ecg = draw_ecg(num_samples=6300)
    write_record(tmp_path / "in", "long", ecg)
    store = run(tmp_path)
    assert store.records.segment.tolist() == [0, 1]
    np.testing.assert_array_equal(np.concatenate(list(store), axis=1), np.rint(ecg[:, :5000] * 1000))


@pytest.mark.parametrize(("num_samples", "kept"), [(2499, False), (2500, True)])
def test_short_records_are_left_out(tmp_path: Path, num_samples: int, kept: bool) -> None:
    write_record(tmp_path / "in", "good", draw_ecg())
    write_record(tmp_path / "in", "short", draw_ecg(1, num_samples))
    store = run(tmp_path)
    assert ("short" in set(store.records.record)) == kept
    assert audit_of(store)["left_out"] == ({} if kept else {"too short": 1})


def test_a_bad_segment_does_not_take_the_record_with_it(tmp_path: Path) -> None:
    ecg = draw_ecg(num_samples=7500)
    ecg[4, 3000] = np.nan
    write_record(tmp_path / "in", "a", ecg)
    store = run(tmp_path)
    assert store.records.segment.tolist() == [0, 2]
    assert audit_of(store)["left_out_records"] == [
        {"record": "a", "reason": "nan", "detail": "a segment 1: nan in aVL"},
    ]
