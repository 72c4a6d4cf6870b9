"""Features beside the signals: measured while preparing, stored with what is missing, read as rows below the leads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from shared.data import segments as module
from shared.data.loader import EpochBatches, eval_batches, read_validation, train_batches
from shared.data.prepare import prepare
from shared.data.sources import synthetic, wfdb_folder
from shared.data.spec import InputSpec
from shared.data.store import MICROVOLT, ECGStore, StoreError
from shared.data.synthetic import simulate
from shared.data.transforms import Preprocess
from shared.data.writer import StoreWriter
from shared.evaluation.protocols.robustness import DisturbedStore, add_white_noise
from shared.leads import LEADS
from shared.measurements.catalog import FEATURES, VALUES
from shared.measurements.features import extract_features
from tests.shared.data.test_sources import write_record

SPEC = InputSpec(
    fs=250, num_samples=500, leads="V1,I", features=("sdnn", "r_peaks"), highpass=0.67, standardize="record"
)


def config(out: Path, **values: Any) -> synthetic.Config:
    defaults = {"num_records": 12, "fs": 250, "seconds": 5, "backend": "sequential", "features": "all"}
    return synthetic.Config(**{"out": out, **defaults, **values})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ECGStore:
    return prepare(config(tmp_path_factory.mktemp("data") / "store", shard=5, chunk=4))


# ---------------------------------------------------------------- preparing


def test_stored_channels_are_the_measurements_of_the_stored_signal(store: ECGStore) -> None:
    assert store.features == tuple(FEATURES)
    rows = list(range(len(LEADS) + len(FEATURES)))
    windows = store.read_windows(np.arange(12), np.zeros(12, int), 1250, rows)
    assert windows.dtype == np.float32
    np.testing.assert_array_equal(windows[:, :12], store.read(range(12)) * np.float32(MICROVOLT))
    for i in range(12):
        found = extract_features(store[i] * MICROVOLT, 250.0, LEADS)
        expected = np.where(found.valid, found.channels, np.nan)
        np.testing.assert_allclose(windows[i, 12:], expected, rtol=2**-11, atol=1e-7)  # half a step of float16
        row = store.records.iloc[i]
        for name in VALUES:
            np.testing.assert_equal(row[f"feature_{name}"], found.values[name])
        assert row.feature_lead == found.lead == "II"
        assert list(row.feature_notes) == list(found.notes)


def test_float16_holds_every_unit() -> None:
    """Half a step of float16, at the largest value that occurs, is below what the measurement itself can tell."""
    largest = {"bpm": (300, 0.25), "ms": (1000, 0.5), "mV": (10, 0.005), "1": (1, 0.0)}
    for feature in FEATURES.values():
        value, tolerance = largest[feature.unit]
        assert abs(float(np.float16(0.9997 * value)) - 0.9997 * value) <= max(tolerance, 1e-3)


def test_a_selection_keeps_its_order(tmp_path: Path) -> None:
    few = prepare(config(tmp_path / "few", num_records=2, features=["sdnn", "heart_rate"]))
    assert few.features == ("sdnn", "heart_rate")
    assert few.meta["made_by"]["features"] == ["sdnn", "heart_rate"]
    windows = few.read_windows(np.array([0]), np.array([0]), 1250, [13])
    assert windows.shape == (1, 1, 1250)
    np.testing.assert_allclose(windows[0, 0], few.records.feature_heart_rate_bpm[0], rtol=1e-3)


def test_without_features_nothing_is_different(tmp_path: Path) -> None:
    plain = prepare(config(tmp_path / "plain", features=[], num_records=3))
    assert not list(plain.path.glob("features*")) and plain.features == ()
    assert "features" not in plain.meta and "features" not in plain.meta["made_by"]
    assert not [name for name in plain.records.columns if name.startswith("feature")]
    measured = prepare(config(tmp_path / "measured", num_records=3)).records
    np.testing.assert_array_equal(measured.pr_ms, plain.records.pr_ms)  # what the record was made from
    assert not np.array_equal(measured.feature_pr_ms, measured.pr_ms)  # what was measured in it
    with pytest.raises(StoreError, match=r"made with other settings \(features\)"):
        prepare(config(tmp_path / "plain", num_records=3))


def test_workers_change_nothing_and_features_change_the_fingerprint(tmp_path: Path, store: ECGStore) -> None:
    again = prepare(config(tmp_path / "again", chunk=3, shard=5, backend="threading", workers=2))
    other = prepare(config(tmp_path / "other", chunk=3, shard=5, features="r_peaks"))
    assert len({again.fingerprint, other.fingerprint}) == 2
    np.testing.assert_array_equal(again.read_windows(np.arange(12), np.zeros(12, int), 9, [22]),
                                  store.read_windows(np.arange(12), np.zeros(12, int), 9, [22]))  # fmt: skip


def bad_records(folder: Path) -> None:
    """One good record, and what cannot be measured: flat leads, a flat lead II, noise, too short."""
    good = simulate(1, seed=3, duration=5.0).ecg[0]
    write_record(folder, "a_good", good)
    flat_two = good.copy()
    flat_two[1] = 0.0
    write_record(folder, "b_flat_II", flat_two)
    write_record(folder, "c_all_flat", np.zeros_like(good))
    write_record(folder, "d_no_beat", np.random.default_rng(0).normal(0, 0.02, good.shape))
    write_record(folder, "e_short", good[:, :500])


def test_records_that_cannot_be_measured_are_missing_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad_records(tmp_path / "in")
    options: dict[str, Any] = {"exclude": [], "features": "all", "seconds": 5, "backend": "sequential"}
    made = prepare(wfdb_folder.Config(root=tmp_path / "in", out=tmp_path / "out", **options))
    rows = [12 + i for i in range(11)]
    features = made.read_windows(np.arange(4), np.zeros(4, int), 1250, rows)
    table = made.records.set_index("record")
    assert list(table.index) == ["a_good", "b_flat_II", "c_all_flat", "d_no_beat"]
    assert np.isfinite(features[0]).any(axis=1).all()
    assert table.feature_lead["b_flat_II"] == "aVF" and "lead II is flat" in table.feature_notes["b_flat_II"]
    assert np.isnan(features[2]).all() and table.feature_lead["c_all_flat"] == ""
    assert np.isnan(features[3, :7]).all() and np.isfinite(features[3, 7:]).all()  # noise has wavelets but no beat
    assert set(table.feature_missing["c_all_flat"]) == set(FEATURES)
    assert table.loc["c_all_flat", [f"feature_{name}" for name in VALUES]].isna().all()
    audit = json.loads((made.path / "audit.json").read_text())
    assert audit["left_out"] == {"too short": 1}
    assert audit["features"]["missing"] | {"r_peaks": 2, "swt_a4": 1} == audit["features"]["missing"]
    assert audit["features"]["missing_values"]["heart_rate_bpm"] == 2
    assert audit["features"]["leads"]["none"] == 1
    printed = capsys.readouterr().out
    assert "segments without: r_peaks 2" in printed


def test_a_failing_library_makes_one_record_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fail_once(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise ZeroDivisionError("inside a library")
        return extract_features(*arguments)

    monkeypatch.setattr(module, "extract_features", fail_once)
    made = prepare(config(tmp_path / "out", num_records=3))
    assert [bool(lead) for lead in made.records.feature_lead] == [True, False, True]
    assert list(made.records.feature_notes[1]) == ["failed: ZeroDivisionError: inside a library"]
    assert np.isnan(made.read_windows(np.array([1]), np.array([0]), 1250, list(range(12, 23)))).all()


def test_settings_that_cannot_be_measured_are_refused(tmp_path: Path) -> None:
    for values, said in (
        ({"features": ["hart_rate"]}, "did you mean 'heart_rate'"),
        ({"fs": 40}, "features need fs of 50"),
    ):
        with pytest.raises(ValidationError, match=said):
            config(tmp_path / "x", **values)


# ---------------------------------------------------------------- reading


def test_rows_of_a_spec_are_leads_and_then_features(store: ECGStore) -> None:
    assert store.rows_for(SPEC) == [6, 0, 12 + 5, 12 + 0]
    with pytest.raises(
        StoreError, match=r"takes the features rmssd, but .* has only sdnn: prepare one with features=\[rmssd\]"
    ):
        ECGStore.rows_for(_only(store, "sdnn"), InputSpec(num_samples=500, features="rmssd"))
    with pytest.raises(StoreError, match=r"was prepared without features: prepare one with features=\[sdnn, r_peaks\]"):
        ECGStore.rows_for(_only(store), SPEC)


def _only(store: ECGStore, *features: str) -> ECGStore:
    other = ECGStore(store.path)
    other.features = features
    return other


@pytest.mark.parametrize("rows", [[23], [-1], [12, 0]])
def test_rows_that_are_not_there_are_refused(store: ECGStore, rows: list[int]) -> None:
    with pytest.raises(IndexError, match="asked of 12 leads, then 11 features"):
        store.read_windows(np.array([0]), np.array([0]), 10, rows)


def test_leads_and_features_are_cut_together_by_every_loader(store: ECGStore) -> None:
    whole = store.read_windows(np.arange(12), np.zeros(12, int), 1250, store.rows_for(SPEC))
    batches = EpochBatches(store, np.arange(12), SPEC, 4, seed=0, epoch=0)
    for signals, indices in train_batches(batches):
        assert signals.dtype == torch.float32 and signals.shape == (4, 4, 500)
        for window, index in zip(signals.numpy(), indices, strict=True):
            starts = [s for s in range(751) if np.array_equal(window, whole[index, :, s : s + 500], equal_nan=True)]
            assert len(starts) == 1
    (crops,) = eval_batches(store, np.arange(3), SPEC, 3, num_crops=2)
    np.testing.assert_array_equal(crops[:, 1].numpy(), whole[:3, :, 750:])
    np.testing.assert_array_equal(read_validation(store, SPEC, None).shape, (0, 4, 500))
    plain = SPEC.model_copy(update={"features": ()})
    (signals,) = eval_batches(store, np.arange(3), plain, 3)
    assert signals.dtype == torch.int16


def test_preprocessing_leaves_features_alone(store: ECGStore) -> None:
    (crops,) = eval_batches(store, np.arange(4), SPEC, 4)
    raw = crops[:, 0].clone()
    raw[0, 2, 7] = torch.nan
    kept = raw.clone()
    made = Preprocess(SPEC)(raw)
    torch.testing.assert_close(made[:, 2:], kept[:, 2:], equal_nan=True, rtol=0, atol=0)
    alone = Preprocess(SPEC.model_copy(update={"features": ()}))(kept[:, :2])
    torch.testing.assert_close(made[:, :2], alone)
    torch.testing.assert_close(raw, kept, equal_nan=True, rtol=0, atol=0)  # a copy was changed
    none = SPEC.model_copy(update={"leads": ()})
    torch.testing.assert_close(Preprocess(none)(kept[:, 2:]), kept[:, 2:], equal_nan=True)


def test_disturbed_signals_keep_clean_features(store: ECGStore) -> None:
    rows, all_of = store.rows_for(SPEC), (np.arange(3), np.full(3, 5), 500)
    noisy = DisturbedStore(store, "noise", add_white_noise, 10.0)
    clean, disturbed = store.read_windows(*all_of, rows), noisy.read_windows(*all_of, rows)
    np.testing.assert_array_equal(disturbed[:, 2:], clean[:, 2:])
    assert (disturbed[:, :2] != clean[:, :2]).mean() > 0.9
    np.testing.assert_array_equal(disturbed[:, :2], noisy.read_windows(*all_of, rows[:2]))


def test_damaged_features_are_refused(store: ECGStore, tmp_path: Path) -> None:
    made = prepare(config(tmp_path / "out", num_records=3))
    file = made.path / "features-00000.npy"
    np.save(file, np.load(file)[:2])
    with pytest.raises(StoreError, match="damaged"):
        ECGStore(made.path)
    np.save(file, np.load(file).astype(np.float32))
    with pytest.raises(StoreError, match="holds float32"):
        ECGStore(made.path)
    file.unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        ECGStore(made.path)


@pytest.mark.parametrize("features", [None, np.zeros((2, 3, 10), np.float32), np.zeros((2, 2, 10), np.float16)])
def test_our_own_mistakes_are_caught(tmp_path: Path, features: Any) -> None:
    with pytest.raises(AssertionError), StoreWriter(tmp_path / "store", 12, 10, 2, num_features=3) as writer:
        writer.add(np.zeros((2, 12, 10), np.int16), features)
