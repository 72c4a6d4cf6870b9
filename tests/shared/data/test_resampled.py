"""A store served at another rate is the store that would have been prepared at it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shared.data.loader import eval_batches
from shared.data.resampled import at_rate
from shared.data.spec import InputSpec
from shared.data.store import ECGStore, StoreError
from shared.data.writer import StoreWriter
from shared.evaluation.protocols.quality import WindowStore
from shared.evaluation.protocols.robustness import DisturbedStore, add_white_noise
from shared.leads import LEADS
from shared.signals import resample_ends
from tests.shared.evaluation.contexts import make_store


@pytest.fixture(scope="module")
def store(synthetic_store: Path) -> ECGStore:
    return ECGStore(synthetic_store)


@pytest.mark.parametrize("fs", [100.0, 257.0, 360.0, 500.0])
def test_records_are_resampled_whole_and_in_steps_of_the_store(store: ECGStore, fs: float) -> None:
    served, some = at_rate(store, fs), np.array([3, 0, 7])
    expected = resample_ends(store.read(some).astype(np.float64), 250, fs)
    assert served.num_samples == expected.shape[-1] == round(5 * fs) and served.fs == fs
    found = served.read(some)
    assert found.dtype == np.int16
    assert np.abs(found - expected).max() < 0.51
    rows = [LEADS.index("V2"), LEADS.index("I")]
    starts = np.array([0, 11, served.num_samples - 200])
    cut = served.read_windows(some, starts, 200, rows)
    for one, whole, start in zip(cut, found, starts, strict=True):
        np.testing.assert_array_equal(one, whole[rows, start : start + 200])
    with pytest.raises(IndexError, match="beyond the stored"):
        served.read_windows(some, starts + 1, 200)


def test_its_own_rate_is_itself_and_the_way_back_is_short(store: ECGStore) -> None:
    assert at_rate(store, 250) is store
    there = at_rate(store, 500)
    assert there.fingerprint != store.fingerprint
    back = at_rate(there, 250)
    np.testing.assert_array_equal(back.read([4]), store.read([4]))
    assert back.fingerprint == store.fingerprint


def test_a_batch_is_resampled_once_for_all_its_windows(store: ECGStore, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr("shared.data.resampled.resample_ends", lambda *args: calls.append(1) or resample_ends(*args))
    spec = InputSpec(fs=100, seconds=2, leads=("I", "V2"))
    (first, second) = eval_batches(at_rate(store, 100), np.arange(5), spec, 3, num_crops=4)
    assert first.shape == (3, 4, 2, 200) and second.shape == (2, 4, 2, 200)
    assert len(calls) == 5


def test_what_disturbs_a_store_disturbs_it_at_its_rate(store: ECGStore) -> None:
    """They take a store over as it is; one that read the stored samples would give others, or too few."""
    served, some = at_rate(store, 500), np.arange(3)
    window = WindowStore(served, 100).read_windows(some, some * 0, 2000)
    np.testing.assert_array_equal(window, served.read(some)[..., 100:2100])
    quiet = DisturbedStore(served, "noise", add_white_noise, 80.0)
    np.testing.assert_allclose(quiet.read(some), served.read(some) * 1e-3, atol=2e-3)


def test_integers_do_not_wrap_around(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "s", num=3)
    shard = np.load(tmp_path / "s" / "signals-00000.npy")
    shard[0, :, 60:] = 2**15 - 1
    shard[0, :, :60] = -(2**15)
    np.save(tmp_path / "s" / "signals-00000.npy", shard)
    ecg = at_rate(ECGStore(tmp_path / "s"), 250).read([0])[0]
    assert ecg[:, :140].max() < 0 < ecg[:, 160:].min()


def test_features_are_not_served(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "s", 2, 500, 10, 1) as writer:
        writer.add(np.zeros((3, 2, 500), dtype=np.int16), np.zeros((3, 1, 500), dtype=np.float16))
        records = pd.DataFrame({"record": list("abc"), "fold": 1})
        meta = {"fs": 250, "leads": ["I", "II"], "num_samples": 500, "features": ["sdnn"], "made_by": {}}
        writer.finish(records, meta, {})
    spec = InputSpec(fs=500, seconds=1, leads="I", features=("sdnn",))
    with pytest.raises(StoreError, match="is at 250 Hz and its features are not resampled: prepare one with fs=500"):
        next(eval_batches(at_rate(ECGStore(tmp_path / "s"), 500), np.arange(3), spec, 2))
