"""Feature extraction: truth, sampling rates, bad input, and the scaler."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import pywt

from scripts.benchmarks import features as benchmark
from shared.data.synthetic import SyntheticBatch, render
from shared.errors import UserError
from shared.leads import LEADS
from shared.measurements.beats import find_beats, to_lattice
from shared.measurements.catalog import FEATURES, VALUES
from shared.measurements.features import FeatureSet, extract_features
from tests.golden import real_data
from tests.shared.measurements.conftest import FS

HRV = ("heart_rate", "sdnn", "rmssd")


def row(found: FeatureSet, name: str) -> np.ndarray:
    return found.channels[found.names.index(name)]


def ok(found: FeatureSet, name: str) -> np.ndarray:
    return found.valid[found.names.index(name)]


def assert_sound(found: FeatureSet, num_samples: int) -> None:
    """The promises that hold whatever came in."""
    assert found.channels.shape == found.valid.shape == (len(found.names), num_samples)
    assert found.channels.dtype == np.float32 and found.valid.dtype == bool
    assert np.isfinite(found.channels).all()
    assert (found.channels[~found.valid] == 0).all()
    assert set(found.values) == set(found.valid_values) == set(VALUES)
    for name, value in found.values.items():
        assert np.isfinite(value) == found.valid_values[name], name
        assert type(value) is float
    # No silent zero: only the R-peak indicator, the ST level, the wavelets and a steady rhythm may be 0 and valid.
    for name in ("heart_rate", "rolling_heart_rate", "qrs_amplitude"):
        assert (row(found, name)[ok(found, name)] > 0).all(), name


def with_rate(patients: pd.DataFrame, rate: float) -> SyntheticBatch:
    one = patients.iloc[[0]].copy()
    one["heart_rate"], one["qt_ms"] = rate, 400 * np.sqrt(60 / rate)
    if rate > 120:
        one["p_ms"], one["pr_ms"] = 60.0, 80.0
    return render(one, FS)


# ---------------------------------------------------------------- truth


@pytest.mark.parametrize("fs", [500.0, 250.0, 100.0])
@pytest.mark.parametrize(
    ("value", "share"), [("heart_rate_bpm", 0.95), ("sdnn_ms", 0.95), ("rmssd_ms", 0.95), ("st_deviation_mv", 0.85)]
)
def test_values_agree_with_synthetic_truth(batches, measured, fs: float, value: str, share: float) -> None:
    column, target = benchmark.TRUTH[value]
    error = np.array([found.values[value] for found in measured[fs]]) - batches[fs].truth[column].to_numpy()
    assert np.nanmedian(np.abs(error)) < target / 2
    assert np.mean(np.abs(error) <= target) >= share


def test_r_peaks_mark_the_true_beats(batches, measured) -> None:
    hits = missed = false = 0
    for found, truth in zip(measured[FS], batches[FS].r_peaks, strict=True):
        counts = benchmark.score_peaks(found.r_peaks, truth)
        hits, missed, false = hits + counts[0], missed + counts[1], false + counts[2]
        marked = np.flatnonzero(row(found, "r_peaks"))
        np.testing.assert_array_equal(marked, np.rint(found.r_peaks * FS))
        assert set(np.unique(row(found, "r_peaks"))) <= {0.0, 1.0}
    assert hits / (hits + missed) > 0.99 and hits / (hits + false) > 0.99


def test_rolling_rate_is_that_of_the_interval_and_the_record_rate_is_constant(measured) -> None:
    found = measured[FS][0]
    rolling, peaks = row(found, "rolling_heart_rate"), found.r_peaks
    for begin, end in pairwise(peaks):
        inside = rolling[int(np.ceil(begin * FS)) + 1 : int(end * FS)]
        np.testing.assert_allclose(inside, 60 / (end - begin), rtol=1e-5)
    assert np.ptp(rolling) > 1 and np.ptp(row(found, "heart_rate")) == 0


def test_beat_channels_are_held_from_middle_to_middle(measured) -> None:
    found = measured[FS][0]
    middle = (found.r_peaks[:-1] + found.r_peaks[1:]) / 2 * FS
    for name in ("st_deviation", "qrs_amplitude"):
        steps = np.flatnonzero(np.diff(row(found, name)) != 0) + 1
        assert len(steps) and all(np.min(np.abs(middle - step)) <= 1 for step in steps)


def test_axis_is_that_of_the_limb_leads(ecg: np.ndarray) -> None:
    """A dipole along 60°: I sees half of it, aVF sqrt(3)/2 · sin 60°."""
    pulse = ecg[1]
    for degrees in (-60.0, 0.0, 60.0, 150.0):
        angle = np.deg2rad(degrees)
        limb = {"I": np.cos(angle), "II": np.cos(angle - np.pi / 3)}
        two = np.stack([limb["I"] * pulse, limb["II"] * pulse])
        measured_in = extract_features(np.concatenate([two, ecg[6:]]), FS, ["I", "II", *LEADS[6:]])
        assert measured_in.values["axis_deg"] == pytest.approx(degrees, abs=1.0)


def test_ludb_beats_and_intervals() -> None:
    records = benchmark.read_ludb(real_data("ludb"))
    sensitivity, precision, _ = benchmark.score_detector(records, benchmark.own_detector)
    assert sensitivity >= 0.99 and precision >= 0.99
    errors = benchmark.score_intervals(records, benchmark.own_intervals)
    for name, target in benchmark.INTERVALS.items():
        assert np.nanmedian(np.abs(errors[name])) <= target
        assert np.isnan(errors[name]).mean() <= 0.1


def test_score_of_peaks_on_chance_and_truth() -> None:
    truth = np.arange(1.0, 9.0)
    assert benchmark.score_peaks(truth + 0.05, truth) == (8, 0, 0)
    assert benchmark.score_peaks(truth + 0.1, truth) == (0, 8, 7)  # the last one lies beyond the annotated span
    assert benchmark.score_peaks(np.array([0.5, 1.0, 1.02, 9.5]), truth) == (1, 7, 1)


# ---------------------------------------------------------------- sampling rate


@pytest.mark.parametrize("fs", [250.0, 100.0])
def test_another_rate_gives_the_same_measurements(measured, fs: float) -> None:
    limits = {"heart_rate_bpm": 0.2, "st_deviation_mv": 0.03, "axis_deg": 10.0, "qrs_amplitude_mv": 0.1}
    limits |= {name: 1000 / fs for name in VALUES if name.endswith("_ms")}
    for name, limit in limits.items():
        pairs = zip(measured[fs], measured[500.0], strict=True)
        difference = np.array([a.values[name] - b.values[name] for a, b in pairs])
        assert np.nanmean(np.abs(difference) <= limit) >= 0.8, name
        assert np.nanmedian(np.abs(difference)) <= limit / 2, name


def test_wavelet_bands_do_not_depend_on_the_rate(measured) -> None:
    for a, b in zip(measured[500.0][:5], measured[250.0][:5], strict=True):
        for name in ("swt_a4", "swt_d4", "swt_d3"):
            inner = slice(50, -50)
            assert np.corrcoef(row(a, name)[::2][inner], row(b, name)[inner])[0, 1] > 0.99, name


def test_a_wrong_rate_changes_every_measurement(ecg: np.ndarray) -> None:
    """Fails if fs is ignored: at twice the rate the same samples are half as long."""
    right, wrong = extract_features(ecg, 250.0, LEADS).values, extract_features(ecg, 500.0, LEADS).values
    assert wrong["heart_rate_bpm"] == pytest.approx(2 * right["heart_rate_bpm"], rel=0.01)
    for name in ("sdnn_ms", "rmssd_ms"):
        assert wrong[name] == pytest.approx(right[name] / 2, rel=0.05)
    a, b = (extract_features(ecg, fs, LEADS, names=["swt_d3"]).channels for fs in (250.0, 500.0))
    assert np.abs(a - b).max() > 0.05


@pytest.mark.parametrize("fs", [128.0, 257.0, 360.0, 1000.0])
def test_odd_rates_keep_time(patients: pd.DataFrame, fs: float) -> None:
    batch = render(patients.iloc[:3], fs)
    for ecg, truth in zip(batch.ecg, batch.r_peaks, strict=True):
        lattice = to_lattice(ecg[1], fs)
        back = np.interp(
            np.arange(100, 400) / fs, lattice.start + np.arange(len(lattice.signal)) / lattice.fs, lattice.signal
        )
        assert np.abs(back - ecg[1, 100:400]).max() < 0.1
        assert benchmark.score_peaks(find_beats(lattice).times, truth)[1:] == (0, 0)


# ---------------------------------------------------------------- wavelets


@pytest.mark.parametrize("num_samples", [2500, 2496, 2250])
def test_wavelets_are_those_of_pywavelets(ecg: np.ndarray, num_samples: int) -> None:
    signal = ecg[:, :num_samples]
    found = extract_features(signal, FS, LEADS, names=["swt_a4", "swt_d4", "swt_d3", "swt_d2"])
    padded = np.pad(signal[1].astype(float), 256 + np.array([0, -num_samples % 16]), mode="symmetric")
    want = np.stack(pywt.swt(padded, "db4", level=4, trim_approx=True, norm=True)[:4])[:, 256 : 256 + num_samples]
    np.testing.assert_allclose(found.channels, want, atol=1e-5)
    assert found.valid.all()


# ---------------------------------------------------------------- bad input


def test_noise_has_no_beats(ecg: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    for noise in (rng.normal(0, 0.1, ecg.shape), np.cumsum(rng.normal(0, 0.02, ecg.shape), axis=1)):
        found = extract_features(noise, FS, LEADS)
        assert_sound(found, ecg.shape[1])
        assert not any(found.valid_values.values()) and len(found.r_peaks) == 0
        assert not any(ok(found, name).any() for name in FEATURES if not name.startswith("swt"))
        assert any("no beat found" in note for note in found.notes)


def test_one_beat_has_no_rate(batches) -> None:
    first = batches[FS].r_peaks[0]
    begin = int((first[1] - 0.5) * FS)
    ecg = batches[FS].ecg[0][:, begin : begin + 275]
    found = extract_features(ecg, FS, LEADS)
    assert_sound(found, 275)
    assert len(found.r_peaks) == 1 and "one beat only: no rate" in found.notes
    for name in (*HRV, "rolling_heart_rate"):
        assert not ok(found, name).any()
    assert ok(found, "r_peaks").all() and ok(found, "qrs_amplitude").all()


def test_two_seconds_have_a_rate_but_no_variability(ecg: np.ndarray) -> None:
    found = extract_features(ecg[:, :500], FS, LEADS)
    assert_sound(found, 500)
    assert found.valid_values["heart_rate_bpm"]
    assert not found.valid_values["sdnn_ms"] and not ok(found, "rmssd").any()


@pytest.mark.parametrize("rate", [40.0, 200.0])
def test_very_slow_and_very_fast(patients: pd.DataFrame, rate: float) -> None:
    batch = with_rate(patients, rate)
    found = extract_features(batch.ecg[0], FS, LEADS)
    assert_sound(found, 2500)
    assert found.values["heart_rate_bpm"] == pytest.approx(batch.truth.heart_rate[0], abs=0.5)
    if rate == 200:
        assert not found.valid_values["pr_ms"]  # P and T are one wave


@pytest.mark.parametrize("fs", [500.0, 250.0])
@pytest.mark.parametrize("ahead", [0.06, 0.08])
def test_pacing_spikes_are_said_and_not_measured(patients: pd.DataFrame, fs: float, ahead: float) -> None:
    wide = patients[patients.conduction == "lbbb"].iloc[[0]]
    batch = render(wide, fs)
    calm = extract_features(batch.ecg[0], fs, LEADS)
    paced = batch.ecg[0].copy()
    for peak in batch.r_peaks[0]:
        if peak > 0.2:
            at = int((peak - ahead) * fs)
            paced[1, at : at + max(1, round(0.002 * fs))] += 3.0
    found = extract_features(paced, fs, LEADS)
    assert_sound(found, paced.shape[1])
    assert any("pacing" in note for note in found.notes) and not any("pacing" in note for note in calm.notes)
    assert found.values["heart_rate_bpm"] == pytest.approx(batch.truth.heart_rate[0], abs=0.5)
    assert found.values["qrs_amplitude_mv"] == pytest.approx(calm.values["qrs_amplitude_mv"], rel=0.15)


def test_inverted_lead(ecg: np.ndarray) -> None:
    right = extract_features(ecg, FS, LEADS)
    ecg[1] *= -1
    found = extract_features(ecg, FS, LEADS)
    assert_sound(found, 2500)
    assert any("inverted" in note for note in found.notes)
    np.testing.assert_allclose(found.r_peaks, right.r_peaks, atol=1e-6)
    assert found.values["p_amplitude_mv"] < 0 and found.values["t_amplitude_mv"] < 0
    assert found.values["qrs_ms"] == pytest.approx(right.values["qrs_ms"])


def test_another_lead_is_used_and_said(ecg: np.ndarray) -> None:
    want = extract_features(ecg, FS, LEADS).values["heart_rate_bpm"]
    without = tuple(lead for lead in LEADS if lead != "II")
    flat, broken = ecg.copy(), ecg.copy()
    flat[1], broken[1, 700] = 0.2, np.nan
    cases = [(np.delete(ecg, 1, 0), without, "absent"), (flat, LEADS, "flat"), (broken, LEADS, "NaN")]
    for signal, leads, reason in cases:
        found = extract_features(signal, FS, leads)
        assert_sound(found, 2500)
        assert found.lead == "aVF" and "measured in aVF" in found.notes
        assert any(reason in note for note in found.notes)
        assert found.values["heart_rate_bpm"] == pytest.approx(want, abs=0.1)


def test_clipped_beats_have_no_amplitude(ecg: np.ndarray) -> None:
    ecg[1] = np.minimum(ecg[1], np.quantile(ecg[1], 0.97))
    found = extract_features(ecg, FS, LEADS)
    assert_sound(found, 2500)
    assert any("clipped" in note for note in found.notes)
    assert not found.valid_values["qrs_amplitude_mv"] and not ok(found, "st_deviation").any()
    assert ok(found, "heart_rate").all()


@pytest.mark.parametrize("signal", [np.zeros((12, 2500)), np.full((12, 2500), np.nan), np.full((12, 2500), np.inf)])
def test_nothing_usable(signal: np.ndarray) -> None:
    found = extract_features(signal, FS, LEADS)
    assert_sound(found, 2500)
    assert found.lead == "" and not found.valid.any() and "no lead is usable" in found.notes


@pytest.mark.parametrize("num_samples", [1, 2, 20, 150])
def test_a_record_too_short_for_a_beat(ecg: np.ndarray, num_samples: int) -> None:
    found = extract_features(ecg[:, :num_samples], FS, LEADS)
    assert_sound(found, num_samples)
    assert not found.valid.any() and any("shorter" in note for note in found.notes)


def test_an_ectopic_beat_is_left_out_of_the_variability(batches) -> None:
    batch = batches[FS]
    index = int(np.argmin(batch.truth.sdnn_ms))
    calm = extract_features(batch.ecg[index], FS, LEADS)
    ecg = batch.ecg[index].copy()
    # A wide early beat of the other direction, halfway after the fourth R peak.
    peak = batch.r_peaks[index][3]
    at = peak + 0.5 * (batch.r_peaks[index][4] - peak)
    seconds = np.arange(2500) / FS - at
    ecg[1] -= 1.5 * np.exp(-0.5 * (seconds / 0.045) ** 2)
    found = extract_features(ecg, FS, LEADS)
    assert_sound(found, 2500)
    assert len(found.r_peaks) == len(calm.r_peaks) + 1
    assert found.values["sdnn_ms"] == pytest.approx(calm.values["sdnn_ms"], abs=10)
    assert not ok(found, "st_deviation")[round(at * FS)]


def test_wrong_requests_name_the_right_one(ecg: np.ndarray) -> None:
    with pytest.raises(UserError, match="unknown feature 'heart_rte'; did you mean 'heart_rate'"):
        extract_features(ecg, FS, LEADS, names=["heart_rte"])
    with pytest.raises(UserError, match="each once"):
        extract_features(ecg, FS, LEADS, names=["sdnn", "sdnn"])
    with pytest.raises(UserError, match="did you mean 'aVF'"):
        extract_features(ecg[:1], FS, ["aVFF"])
    with pytest.raises(UserError, match=r"\[12, 2500\].*expected numbers \[2, samples\]"):
        extract_features(ecg, FS, ["I", "II"])
    with pytest.raises(UserError, match="expected numbers"):
        extract_features(ecg[0], FS, ["I"])
    for fs in (0.0, -250.0, np.nan, 1e6):
        with pytest.raises(UserError, match="sampling rate"):
            extract_features(ecg, fs, LEADS)


def test_names_choose_rows_and_order(ecg: np.ndarray) -> None:
    everything = extract_features(ecg, FS, LEADS)
    names = ("sdnn", "r_peaks", "swt_d2")
    some = extract_features(ecg, FS, "all", names=names)
    assert some.names == names and everything.names == tuple(FEATURES) and len(FEATURES) == 11
    np.testing.assert_array_equal(some.channels, np.stack([row(everything, name) for name in names]))
    assert some.values == pytest.approx(everything.values, nan_ok=True)
