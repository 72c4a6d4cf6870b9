"""The synthetic ECG is exact where it claims truth, and its classes are physically there."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.signal import find_peaks

from shared.data.synthetic import COMBINATIONS, SUPERCLASSES, SyntheticBatch, draw_patients, render, simulate
from shared.data.synthetic.render import DOWER, PARAMETERS, T_WAVE, TO_TWELVE, _beat_times, _template_beats
from shared.lead_rows import limb_residual
from shared.leads import INDEPENDENT_LEADS, LEADS

FS = 250.0


@pytest.fixture(scope="module")
def batch() -> SyntheticBatch:
    return simulate(800, seed=3, fs=FS)


@pytest.fixture(scope="module")
def clean(batch: SyntheticBatch) -> SyntheticBatch:
    return render(batch.records, fs=FS, noise=False)


def lead(name: str) -> int:
    return LEADS.index(name)


def only(batch: SyntheticBatch, *labels: str) -> np.ndarray:
    """Rows that carry exactly these labels."""
    return batch.records["superclass"].map(lambda found: found == list(labels)).to_numpy()


def levels(batch: SyntheticBatch, i: int, after_j: float) -> np.ndarray:
    """Median over beats of ECG at J + `after_j` (s) minus ECG 20 ms before the QRS, measured: `[12]` mV.

    The onset is no column of the truth, so it is looked up in the template.
    """
    onset = float(_template_beats(batch.records.iloc[[i]]).onset[0])
    qrs = batch.records["qrs_ms"].iloc[i] / 1000
    peaks = batch.r_peaks[i]
    peaks = peaks[(peaks > 0.3) & (peaks < batch.ecg.shape[-1] / batch.fs - 0.7)]
    late = np.round((peaks + onset + qrs + after_j) * batch.fs).astype(int)
    early = np.round((peaks + onset - 0.020) * batch.fs).astype(int)
    return np.median(batch.ecg[i][:, late] - batch.ecg[i][:, early], axis=1)


def test_shapes_and_units(batch: SyntheticBatch) -> None:
    assert batch.ecg.shape == (800, 12, 2500) and batch.ecg.dtype == np.float32
    assert np.isfinite(batch.ecg).all()
    assert len(batch.r_peaks) == len(batch.truth) == len(batch.records) == 800
    assert list(batch.truth["record"]) == list(batch.records["record"])
    assert batch.truth.drop(columns="record").notna().all(axis=None)
    normal = only(batch, "NORM")
    assert 0.5 < np.median(batch.ecg[normal, lead("II")].max(axis=-1)) < 2.0
    assert np.abs(batch.ecg).max() < 12.0


def test_table_is_complete() -> None:
    table = draw_patients(300, seed=0)
    assert set(PARAMETERS) <= set(table.columns)
    assert table["record"].is_unique and table.notna().all(axis=None)
    assert set(np.concatenate(table["superclass"].to_list())) == set(SUPERCLASSES)
    assert table["age"].between(18, 95).all() and set(table["sex"]) == {0, 1}
    assert (table["time_to_event"] > 0).all() and 0.1 < table["event"].mean() < 0.7
    assert (table["pr_ms"] > table["p_ms"]).all()
    assert set(table.loc[table["mi_severity"] > 0, "territory"]) == {"anterior", "inferior", "lateral"}
    assert set(table.loc[table["mi_severity"] == 0, "territory"]) == {""}


def test_label_shares() -> None:
    labels = draw_patients(4000, seed=1)["superclass"]
    assert np.isclose(sum(COMBINATIONS.values()), 1.0)
    assert labels.map(lambda found: found == sorted(found)).all()
    assert labels.map(lambda found: found == ["NORM"]).mean() == pytest.approx(0.45, abs=0.03)
    assert not labels.map(lambda found: "NORM" in found and len(found) > 1).any()
    assert labels.map(len).eq(1).mean() == pytest.approx(0.75, abs=0.03)


def test_same_seed_same_bits_and_chunks_agree(batch: SyntheticBatch) -> None:
    pd.testing.assert_frame_equal(draw_patients(800, seed=3), batch.records)
    order = [17, 3, 640]
    part = render(batch.records.iloc[order], fs=FS)
    assert np.array_equal(part.ecg, batch.ecg[order])
    for k, i in enumerate(order):
        assert np.array_equal(part.r_peaks[k], batch.r_peaks[i])
    pd.testing.assert_frame_equal(part.truth, batch.truth.iloc[order].reset_index(drop=True))
    assert not np.array_equal(simulate(3, seed=4).ecg, batch.ecg[:3])


def test_limb_identities(batch: SyntheticBatch) -> None:
    assert max(limb_residual(ecg, LEADS) for ecg in batch.ecg[:100]) < 1e-5


def test_projection_is_dower() -> None:
    expected = np.array([DOWER[name] for name in INDEPENDENT_LEADS])
    twelve = TO_TWELVE @ expected
    assert np.allclose(twelve[[lead(name) for name in INDEPENDENT_LEADS]], expected)
    assert np.allclose(twelve[lead("aVF")], expected[1] - expected[0] / 2)


def test_template_equals_naive_sum(clean: SyntheticBatch) -> None:
    """The windowed sum over beats equals every wave evaluated everywhere."""
    row = clean.records.iloc[0]
    beats = _template_beats(clean.records.iloc[[0]])
    times, stretch, breath = _beat_times(np.random.default_rng(int(row["seed"])), row.to_dict(), 10.0)
    t = np.arange(2500) / FS
    naive = np.zeros((8, 2500))
    for time, longer, swell in zip(times, stretch, breath, strict=True):
        for k in range(beats.center.shape[1]):
            center = beats.center[0, k]
            if k == T_WAVE:
                center += (longer - 1) * (center - beats.onset[0])
            tau = t - time - center
            sigma = np.where(tau < 0, beats.left[0, k], beats.right[0, k])
            bell = np.exp(-0.5 * (tau / sigma) ** 2)
            naive += beats.leads[0, :, k][:, None] * bell * (1 + 0.04 * swell)
    assert np.allclose(clean.ecg[0], TO_TWELVE @ naive, atol=1e-3)


def test_truth_follows_r_peaks(batch: SyntheticBatch) -> None:
    for i in range(20):
        rr = np.diff(batch.r_peaks[i])
        truth = batch.truth.iloc[i]
        assert truth["heart_rate"] == pytest.approx(60 / rr.mean())
        assert truth["sdnn_ms"] == pytest.approx(1000 * rr.std(ddof=1))
        assert truth["rmssd_ms"] == pytest.approx(1000 * np.sqrt(np.mean(np.diff(rr) ** 2)))
        assert batch.r_peaks[i].min() >= 0 and batch.r_peaks[i].max() < 10
    assert (batch.truth["heart_rate"] - batch.records["heart_rate"]).abs().median() < 2
    assert (batch.truth["qt_ms"] - batch.records["qt_ms"]).abs().median() < 3


def test_r_peaks_are_where_a_detector_finds_them(batch: SyntheticBatch, clean: SyntheticBatch) -> None:
    """Peaks of the QRS energy of the noisy signal: the same count, and for normal beats the same moment."""
    rows = np.flatnonzero(only(batch, "NORM"))[:60]
    offsets = []
    for i in rows:
        energy = np.sum(np.diff(batch.ecg[i], axis=-1) ** 2, axis=0)
        energy = np.convolve(energy, np.ones(25), mode="same")
        found, _ = find_peaks(energy, height=0.3 * np.percentile(energy, 99), distance=int(0.3 * FS))
        inner = batch.r_peaks[i][(batch.r_peaks[i] > 0.1) & (batch.r_peaks[i] < 9.9)]
        assert abs(len(found) - len(inner)) <= 2
        rate = 60 / np.mean(np.diff(found)) * FS
        assert rate == pytest.approx(batch.truth["heart_rate"].iloc[i], abs=2)
        power = np.sum(clean.ecg[i] ** 2, axis=0)
        for peak in inner:
            begin = round((peak - 0.06) * FS)
            offsets.append((begin + np.argmax(power[begin : begin + 30])) / FS - peak)
    assert np.median(np.abs(offsets)) < 0.005
    assert np.mean(np.abs(offsets) < 0.012) > 0.9


@pytest.mark.parametrize(("low", "step"), [(250.0, 2), (100.0, 5)])
def test_sampling_rate_is_only_sampling(batch: SyntheticBatch, low: float, step: int) -> None:
    rows = batch.records.iloc[:5]
    fine, coarse = render(rows, fs=500.0, noise=False), render(rows, fs=low, noise=False)
    assert np.allclose(fine.ecg[:, :, ::step], coarse.ecg, atol=2e-3)
    pd.testing.assert_frame_equal(fine.truth, coarse.truth)
    fine, coarse = render(rows, fs=500.0), render(rows, fs=low)
    for a, b in zip(fine.ecg[:, 1, ::step], coarse.ecg[:, 1], strict=True):
        assert np.corrcoef(a, b)[0, 1] > 0.995


def test_any_rate_and_length(batch: SyntheticBatch) -> None:
    odd = render(batch.records.iloc[:2], fs=257.0, duration=7.3)
    assert odd.ecg.shape == (2, 12, round(257 * 7.3)) and np.isfinite(odd.ecg).all()
    reference = render(batch.records.iloc[:2], fs=514.0, duration=7.3)
    assert np.corrcoef(odd.ecg[0, 1], reference.ecg[0, 1, ::2][: odd.ecg.shape[-1]])[0, 1] > 0.99


def test_r_wave_grows_across_the_chest(clean: SyntheticBatch) -> None:
    normal = clean.ecg[only(clean, "NORM")]
    r_wave, s_wave = normal.max(axis=-1), -normal.min(axis=-1)
    v1, v4, v5 = lead("V1"), lead("V4"), lead("V5")
    assert np.median(r_wave[:, v1]) < np.median(r_wave[:, lead("V3")]) < np.median(r_wave[:, v4])
    assert np.mean(s_wave[:, v1] > r_wave[:, v1]) > 0.85
    assert np.mean(r_wave[:, v5] > s_wave[:, v5]) > 0.9


def test_st_truth_is_what_the_signal_shows(clean: SyntheticBatch) -> None:
    measured = np.array([levels(clean, i, 0.060)[lead("II")] for i in range(150)])
    assert np.median(np.abs(measured - clean.truth["st_mv"][:150])) < 0.01
    assert np.corrcoef(measured, clean.truth["st_mv"][:150])[0, 1] > 0.95


def test_inferior_infarction(clean: SyntheticBatch) -> None:
    table = clean.records
    acute = (table["territory"] == "inferior") & (table["mi_stage"] == "acute") & (table["cd_severity"] == 0)
    st = np.array([levels(clean, i, 0.060) for i in np.flatnonzero(acute).tolist()])
    assert len(st) > 5
    for name in ("II", "III", "aVF"):
        assert st[:, lead(name)].mean() > 0.08
    assert st[:, lead("aVL")].mean() < 0  # reciprocal
    assert clean.truth["st_mv"][acute].mean() > clean.truth["st_mv"][only(clean, "NORM")].mean() + 0.08


def test_anterior_infarction_loses_r_in_v2(clean: SyntheticBatch) -> None:
    table = clean.records
    anterior = ((table["territory"] == "anterior") & (table["cd_severity"] == 0)).to_numpy()
    v2 = clean.ecg[:, lead("V2")].max(axis=-1)
    early = np.array([levels(clean, i, 0.060)[lead("V2")] for i in np.flatnonzero(anterior).tolist()])
    normal = np.array([levels(clean, i, 0.060)[lead("V2")] for i in np.flatnonzero(only(clean, "NORM")).tolist()[:60]])
    assert np.median(v2[anterior]) < np.median(v2[only(clean, "NORM")])
    assert early.mean() > normal.mean() + 0.05


def test_conduction_widens_the_qrs(batch: SyntheticBatch) -> None:
    table = batch.records
    normal = only(batch, "NORM")
    assert batch.truth["qrs_ms"][only(batch, "CD")].mean() > batch.truth["qrs_ms"][normal].mean() + 15
    bundle = table["conduction"].isin(["lbbb", "rbbb"])
    assert batch.truth["qrs_ms"][bundle].min() > 100 and batch.truth["qrs_ms"][normal].max() <= 112
    assert batch.truth["pr_ms"][table["conduction"] == "avb"].mean() > 210
    v1 = batch.ecg[:, lead("V1")] - np.median(batch.ecg[:, lead("V1")], axis=-1, keepdims=True)
    right, left = (table["conduction"] == "rbbb").to_numpy(), (table["conduction"] == "lbbb").to_numpy()
    assert np.median(v1[right].max(axis=-1)) > np.median(v1[normal].max(axis=-1))  # R'
    assert np.median(v1[left].min(axis=-1)) < np.median(v1[normal].min(axis=-1))  # deep QS


def test_sttc_lowers_st_and_t(clean: SyntheticBatch) -> None:
    def t_wave(rows: np.ndarray) -> np.ndarray:
        peak = clean.records["qt_ms"].to_numpy() * 0.83 - clean.records["qrs_ms"].to_numpy()
        return np.array([levels(clean, i, peak[i] / 1000)[lead("V5")] for i in rows.tolist()])

    ill, normal = np.flatnonzero(only(clean, "STTC")), np.flatnonzero(only(clean, "NORM"))[:80]
    assert np.mean(t_wave(ill) < 0) > 0.3 and np.mean(t_wave(normal) < 0) < 0.05
    assert np.median(t_wave(ill)) < 0.5 * np.median(t_wave(normal))
    assert clean.truth["st_mv"][ill].mean() < clean.truth["st_mv"][normal].mean() - 0.03


def test_hypertrophy_raises_voltage(clean: SyntheticBatch) -> None:
    """Sokolow–Lyon: S in V1 plus R in V5."""
    index = clean.ecg[:, lead("V5")].max(axis=-1) - clean.ecg[:, lead("V1")].min(axis=-1)
    ill = (clean.records["hyp_severity"] > 0).to_numpy()
    assert np.median(index[ill]) > 1.3 * np.median(index[only(clean, "NORM")])


def test_folds_hold_whole_patients() -> None:
    table = draw_patients(1001, seed=2, records_per_patient=3)
    by_patient = table.groupby("patient")
    assert len(by_patient) == 334 and by_patient.size().max() == 3
    for column in ("strat_fold", "age", "sex", "territory", "time_to_event", "r_x"):
        assert by_patient[column].nunique().max() == 1
    assert by_patient["heart_rate"].nunique().max() == 3 and table["seed"].is_unique
    sizes = by_patient["strat_fold"].first().value_counts()
    assert set(sizes.index) == set(range(1, 11)) and sizes.max() - sizes.min() <= 1


def test_records_of_a_patient_resemble_each_other() -> None:
    batch = simulate(120, seed=6, records_per_patient=2)
    beats = []
    for ecg, peaks in zip(batch.ecg, batch.r_peaks, strict=True):
        inner = np.round(peaks[(peaks > 0.4) & (peaks < 9.5)] * FS).astype(int)
        beat = np.median([ecg[:, k - 30 : k + 90] for k in inner], axis=0)
        beats.append((beat - np.median(beat, axis=1, keepdims=True)).ravel())
    first, second = np.array(beats[::2]), np.array(beats[1::2])
    distance = np.linalg.norm(first[:, None] - second[None], axis=-1)
    assert np.mean(distance.argmin(axis=1) == np.arange(60)) > 0.8


def test_age_and_sex_leave_a_trace() -> None:
    table = draw_patients(3000, seed=7)
    assert np.corrcoef(table["age"], table["frontal_deg"])[0, 1] < -0.2
    assert table.groupby("sex")["qtc_ms"].mean().diff().iloc[-1] > 5
    older, younger = table["age"] > 65, table["age"] < 45
    assert table["event"][older].mean() > table["event"][younger].mean() + 0.2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_records": 0, "seed": 0}, "num_records is 0"),
        ({"num_records": 5, "seed": -1}, "seed is -1"),
        ({"num_records": 5, "seed": 0, "records_per_patient": 0}, "records_per_patient is 0"),
        ({"num_records": 5, "fs": 0.0}, "fs is 0"),
        ({"num_records": 5, "fs": float("nan")}, "fs is nan"),
        ({"num_records": 5, "duration": 2.0}, "at least 5 s"),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simulate(**arguments)


def test_bad_tables() -> None:
    table = draw_patients(3, seed=0)
    with pytest.raises(ValueError, match="lacks the column.* pr_ms"):
        render(table.drop(columns="pr_ms"))
    with pytest.raises(ValueError, match="no row"):
        render(table.iloc[:0])
