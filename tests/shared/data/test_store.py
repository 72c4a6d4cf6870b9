"""A store gives back what was written, is whole or absent, and refuses what it cannot serve."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from shared.data.spec import InputSpec
from shared.data.store import FORMAT_VERSION, ECGStore, StoreError
from shared.data.transforms import Preprocess
from shared.data.writer import StoreWriter
from shared.leads import LEADS

LENGTH = 40
META: dict[str, Any] = {"fs": 100.0, "leads": list(LEADS), "num_samples": LENGTH, "made_by": {}}


def draw(num: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-32768, 32767, (num, 12, LENGTH)).astype(np.int16)


def table(num: int) -> pd.DataFrame:
    return pd.DataFrame({"record": [f"r{i}" for i in range(num)], "fold": [1 + i % 3 for i in range(num)]})


def write(path: Path, signals: np.ndarray, shard: int = 3, piece: int = 2, meta: dict[str, Any] = META) -> ECGStore:
    with StoreWriter(path, 12, LENGTH, shard) as writer:
        for first in range(0, len(signals), piece):
            writer.add(signals[first : first + piece])
        writer.finish(table(len(signals)), meta, {})
    return ECGStore(path)


@pytest.fixture
def signals() -> np.ndarray:
    return draw(11)


@pytest.fixture
def store(tmp_path: Path, signals: np.ndarray) -> ECGStore:
    return write(tmp_path / "store", signals)


# ---------------------------------------------------------------- reading


def test_everything_comes_back(store: ECGStore, signals: np.ndarray) -> None:
    assert len(store) == 11
    assert (store.fs, store.leads, store.num_samples) == (100.0, LEADS, LENGTH)
    assert (store.unit, store.scale) == ("mV", 1e-3)
    assert store.records.record.tolist() == [f"r{i}" for i in range(11)]
    got = store.read(range(11))
    assert got.dtype == np.int16
    np.testing.assert_array_equal(got, signals)
    np.testing.assert_array_equal(np.stack(list(store)), signals)


@pytest.mark.parametrize("shard", [1, 2, 4, 100])
def test_shards_do_not_show(tmp_path: Path, signals: np.ndarray, shard: int) -> None:
    store = write(tmp_path / "other", signals, shard=shard, piece=3)
    np.testing.assert_array_equal(store.read(range(11)), signals)
    assert store.fingerprint == write(tmp_path / "one", signals, shard=5, piece=1).fingerprint


@pytest.mark.parametrize("indices", [[7, 0, 10, 3], [5, 5], [-1, -11], [], np.array([2], dtype=np.uint8)])
def test_reading_keeps_the_order_asked(store: ECGStore, signals: np.ndarray, indices: Any) -> None:
    np.testing.assert_array_equal(store.read(indices), signals[np.asarray(indices, dtype=int)])


@pytest.mark.parametrize("index", [11, -12, 1000])
def test_a_record_outside_is_refused(store: ECGStore, index: int) -> None:
    with pytest.raises(IndexError, match="store of 11 records"):
        store[index]


def test_windows_equal_slices(store: ECGStore, signals: np.ndarray) -> None:
    indices, starts, rows = np.array([4, 0, 9]), np.array([0, 30, 7]), [11, 0, 5]
    got = store.read_windows(indices, starts, 10, rows)
    for g, i, s in zip(got, indices, starts, strict=True):
        np.testing.assert_array_equal(g, signals[i][rows][:, s : s + 10])
    whole = store.read_windows(indices, starts, 10)
    np.testing.assert_array_equal(whole[:, rows], got)


@pytest.mark.parametrize(("start", "length"), [(-1, 10), (31, 10), (0, LENGTH + 1)])
def test_windows_outside_are_refused(store: ECGStore, start: int, length: int) -> None:
    with pytest.raises(IndexError, match=f"beyond the stored {LENGTH} samples"):
        store.read_windows(np.array([0]), np.array([start]), length)


def test_signals_stay_on_disk(store: ECGStore) -> None:
    """What is read is a copy: a change to it cannot reach the file."""
    first = store[0]
    expected = first.copy()
    first[:] = 0
    np.testing.assert_array_equal(store[0], expected)


def test_folds(store: ECGStore) -> None:
    np.testing.assert_array_equal(store.select([1, 3]), [0, 2, 3, 5, 6, 8, 9])
    np.testing.assert_array_equal(store.select(None), np.arange(11))
    with pytest.raises(StoreError, match=r"fold\(s\) \[10\]; its folds are 1, 2, 3"):
        store.select([10])


# ---------------------------------------------------------------- serving a model


def test_rows_follow_the_specs_order(store: ECGStore) -> None:
    assert store.rows_for(InputSpec(fs=100, num_samples=LENGTH, leads=("V6", "I", "aVF"))) == [11, 0, 5]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"fs": 250}, r"takes 250 Hz but the store .*store is at 100 Hz: prepare one with fs=250"),
        (
            {"num_samples": LENGTH + 1},
            rf"takes {LENGTH + 1} samples .* segments of {LENGTH}: prepare one with seconds=0.41",
        ),
    ],
)
def test_store_of_another_rate_or_length_is_refused(store: ECGStore, spec: dict[str, Any], said: str) -> None:
    with pytest.raises(StoreError, match=said):
        store.rows_for(InputSpec(**{"fs": 100, "num_samples": LENGTH, **spec}))


def test_store_without_a_lead_is_refused(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "two", 2, LENGTH, 8) as writer:
        writer.add(draw(1)[:, :2])
        writer.finish(table(1), {**META, "leads": ["I", "II"]}, {})
    with pytest.raises(StoreError, match=r"two cannot serve the model: lead\(s\) V1 are not among I, II"):
        ECGStore(tmp_path / "two").rows_for(InputSpec(fs=100, num_samples=LENGTH, leads=("I", "V1")))


# ---------------------------------------------------------------- damaged stores


def test_no_store_says_how_to_make_one(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(StoreError, match=r"is not a store .*python -m shared\.data\.prepare"):
            ECGStore(place)


def edit_meta(path: Path, **values: Any) -> None:
    file = path / "store.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, 0, None, "1"])
def test_other_format_version_is_refused(store: ECGStore, version: object) -> None:
    edit_meta(store.path, format_version=version)
    with pytest.raises(StoreError, match=rf"format {version}, this program reads {FORMAT_VERSION}"):
        ECGStore(store.path)


def test_json_cut_short_is_refused(store: ECGStore) -> None:
    file = store.path / "store.json"
    file.write_text(file.read_text()[:50])
    with pytest.raises(StoreError, match=r"store\.json is not valid JSON"):
        ECGStore(store.path)


def test_truncated_signals_are_refused(store: ECGStore) -> None:
    file = sorted(store.path.glob("signals-*.npy"))[1]
    os.truncate(file, file.stat().st_size - 100)
    with pytest.raises(StoreError, match=rf"{file.name} cannot be read"):
        ECGStore(store.path)


@pytest.mark.parametrize("name", ["signals-00001.npy", "records.parquet"])
def test_missing_file_is_named(store: ECGStore, name: str) -> None:
    (store.path / name).unlink()
    with pytest.raises(StoreError, match=rf"{name} cannot be read .*Prepare the store again"):
        ECGStore(store.path)


def test_damaged_table_is_refused(store: ECGStore) -> None:
    (store.path / "records.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(StoreError, match=r"records\.parquet cannot be read"):
        ECGStore(store.path)


def test_rows_and_signals_must_agree_in_number(store: ECGStore) -> None:
    store.records.iloc[:-1].to_parquet(store.path / "records.parquet")
    with pytest.raises(StoreError, match="11 signals for 10 rows"):
        ECGStore(store.path)


@pytest.mark.parametrize("array", [np.zeros((3, 12, LENGTH), np.float32), np.zeros((3, 12, LENGTH + 1), np.int16)])
def test_signals_of_another_kind_are_refused(store: ECGStore, array: np.ndarray) -> None:
    np.save(store.path / "signals-00000.npy", array)
    with pytest.raises(StoreError, match=r"signals-00000\.npy holds .* store\.json says int16"):
        ECGStore(store.path)


def test_pickled_objects_are_refused(store: ECGStore) -> None:
    np.save(store.path / "signals-00000.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(StoreError, match=r"signals-00000\.npy"):
        ECGStore(store.path)


# ---------------------------------------------------------------- writing


def test_fingerprint_changes_with_any_signal_or_setting(tmp_path: Path, signals: np.ndarray) -> None:
    changed = signals.copy()
    changed[5, 3, 17] ^= 1
    prints = [
        write(tmp_path / "a", signals).fingerprint,
        write(tmp_path / "b", changed).fingerprint,
        write(tmp_path / "c", signals, meta={**META, "fs": 101.0}).fingerprint,
        write(tmp_path / "d", signals[::-1].copy()).fingerprint,
    ]
    assert len(set(prints)) == 4
    assert write(tmp_path / "e", signals).fingerprint == prints[0]


class Disaster(Exception):
    """Anything that may go wrong half-way."""


def test_failure_leaves_nothing(tmp_path: Path, signals: np.ndarray) -> None:
    with pytest.raises(Disaster), StoreWriter(tmp_path / "store", 12, LENGTH, 2) as writer:
        writer.add(signals)
        assert list(tmp_path.glob(".store.partial/signals-00000.npy"))
        assert not (tmp_path / "store").exists()
        raise Disaster
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("owner", "name"), [(np, "save"), (pd.DataFrame, "to_parquet"), (Path, "write_text")])
@pytest.mark.parametrize("existing", [False, True])
def test_disk_full_keeps_what_was_there(
    tmp_path: Path, signals: np.ndarray, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, existing: bool
) -> None:
    path = tmp_path / "store"
    if existing:
        write(path, signals[:2])

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, full)
        with pytest.raises(StoreError, match=r"store could not be written .*No space left on device"):
            write(path, signals)
    assert [p.name for p in tmp_path.iterdir()] == (["store"] if existing else [])
    if existing:
        np.testing.assert_array_equal(ECGStore(path).read([0, 1]), signals[:2])


def test_rewriting_replaces_the_whole_store(tmp_path: Path, signals: np.ndarray) -> None:
    write(tmp_path / "store", signals, shard=1)
    again = write(tmp_path / "store", signals[:4], shard=100)
    np.testing.assert_array_equal(again.read(range(4)), signals[:4])
    assert [p.name for p in tmp_path.iterdir()] == ["store"]
    assert sorted(p.name for p in again.path.iterdir()) == [
        "audit.json",
        "records.parquet",
        "signals-00000.npy",
        "store.json",
    ]


@pytest.mark.parametrize("wrong", [np.zeros((1, 12, LENGTH), np.int32), np.zeros((1, 11, LENGTH), np.int16)])
def test_our_own_mistakes_are_caught(tmp_path: Path, wrong: np.ndarray) -> None:
    with pytest.raises(AssertionError), StoreWriter(tmp_path / "store", 12, LENGTH, 2) as writer:
        writer.add(wrong)
    assert not (tmp_path / "store").exists()


def test_unit_and_scale_are_facts_of_the_store(tmp_path: Path, signals: np.ndarray) -> None:
    coarse = write(tmp_path / "coarse", signals, meta={**META, "unit": "a.u.", "scale": 0.5})
    assert (coarse.unit, coarse.scale) == ("a.u.", 0.5)
    spec = InputSpec(fs=100, num_samples=LENGTH)
    got = Preprocess(spec, coarse.scale)(torch.from_numpy(coarse.read([3])))
    np.testing.assert_allclose(got[0].numpy(), signals[3] * 0.5)
    meta = json.loads((tmp_path / "coarse" / "store.json").read_text())
    del meta["unit"], meta["scale"]  # as stores were written before
    (tmp_path / "coarse" / "store.json").write_text(json.dumps(meta))
    assert (ECGStore(tmp_path / "coarse").unit, ECGStore(tmp_path / "coarse").scale) == ("mV", 1e-3)


def rewrite_meta(path: Path, **values: Any) -> None:
    meta = {**json.loads((path / "store.json").read_text()), **values}
    (path / "store.json").write_text(json.dumps({k: v for k, v in meta.items() if v is not ...}, default=str))


DAMAGES: dict[str, tuple[Any, str]] = {
    "list": (lambda p: (p / "store.json").write_text("[1]"), r"store.json holds a list, not an object"),
    "latin": (lambda p: (p / "store.json").write_bytes(b'{"a": "\xe9"}'), r"store.json is not valid JSON .*utf-8"),
    "deep": (lambda p: (p / "store.json").write_text("[" * 100_000), r"store.json is not valid JSON"),
    **{
        f"no {key}": (lambda p, key=key: rewrite_meta(p, **{key: ...}), f"has {key} 'None'; expected")
        for key in ("fs", "leads", "num_samples", "fingerprint", "shards", "made_by")
    },
    "fs": (lambda p: rewrite_meta(p, fs="fast"), "has fs 'fast'; expected a number"),
    "shards": (lambda p: rewrite_meta(p, shards=[1]), "expected a list of names"),
    "empty": (lambda p: (p / "signals-00000.npy").write_bytes(b""), r"signals-00000.npy cannot be read"),
    "short": (
        lambda p: (p / "signals-00000.npy").write_bytes((p / "signals-00000.npy").read_bytes()[:-10]),
        r"signals-00000.npy cannot be read",
    ),
    "table": (
        lambda p: (p / "records.parquet").write_bytes(
            bytes(b ^ 255 for b in (p / "records.parquet").read_bytes()[:200]) + b"PAR1"
        ),
        r"records.parquet cannot be read",
    ),
    "column": (lambda p: table(11).drop(columns="fold").to_parquet(p / "records.parquet"), "have no fold"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_files_are_named(store: ECGStore, name: str) -> None:
    damage, message = DAMAGES[name]
    damage(store.path)
    with pytest.raises(StoreError, match=message):
        ECGStore(store.path)
