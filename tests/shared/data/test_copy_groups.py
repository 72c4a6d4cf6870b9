"""Copies come to stand in one fold with all records of their people, where the folds are not the publisher's; all are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.signal import resample_poly

from shared.data import copy_groups
from shared.data.copies import find_copies, find_copies_within
from shared.data.prepare import prepare
from shared.data.sources import table
from shared.data.store import ECGStore
from shared.data.synthetic import draw_patients, render
from shared.leads import LEADS
from tests.shared.data.preparing import audit_of

FS, NUM = 500.0, 24


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 people; then copies of 0, 1, 2 and 3 under other people's names, one of whom, p20, has a record of their own."""
    root = tmp_path_factory.mktemp("copies")
    ecg = render(draw_patients(NUM, seed=5), FS).ecg.astype(np.float32)
    names = [f"r{i:02d}" for i in range(NUM)]
    for name, signal in zip(names, ecg, strict=True):
        np.save(root / f"{name}.npy", signal)
    copies = {
        "same": ecg[0],
        "later": ecg[1][:, 900:],
        "slower": resample_poly(ecg[2], 1, 2, axis=-1, padtype="edge"),
        "louder": 1.7 * ecg[3],
        "silent": np.zeros_like(ecg[0]),
        "silence": np.zeros_like(ecg[0]),
    }
    lines = [f"{name}.npy,{FS:g},p{name[1:]},{1 + i % 10}" for i, name in enumerate(names)]
    for i, (name, signal) in enumerate(copies.items()):
        np.save(root / f"{name}.npy", signal.astype(np.float32))
        lines.append(f"{name}.npy,{FS / 2 if name == 'slower' else FS:g},p{20 + i},{1 + (i + 5) % 10}")
    (root / "table.csv").write_text("path,fs,patient,fold\n" + "\n".join(lines) + "\n")
    return root


def prepared(root: Path, out: Path, **values: object) -> ECGStore:
    config = table.Config(
        root=root,
        out=out,
        table=root / "table.csv",
        fs_column="fs",
        unit="mV",
        file_leads=LEADS,
        patient_column="patient",
        seconds=8,
        backend="sequential",
        exclude=(),
        **values,
    )
    return prepare(config)


def by_record(store: ECGStore) -> pd.DataFrame:
    return store.records.groupby(store.records.record.map(lambda name: Path(name).stem)).first()


def test_copies_and_their_peoples_records_share_a_fold(database: Path, tmp_path: Path) -> None:
    before = by_record(prepared(database, tmp_path / "before", copies="name"))
    store = prepared(database, tmp_path / "store")
    after = by_record(store)
    pairs = {"same": "r00", "later": "r01", "slower": "r02", "louder": "r03"}
    assert any(before.fold[copy] != before.fold[of] for copy, of in pairs.items())
    for copy, of in pairs.items():
        assert after.fold[copy] == after.fold[of]
        assert Path(after.copy_of[copy]).stem == Path(after.copy_of[of]).stem in (copy, of)
    assert (store.records.groupby("patient").fold.nunique() == 1).all()
    moved = after.index[after.fold != before.fold]
    assert set(moved) <= {*pairs, *pairs.values(), "r20", "r21", "r22", "r23"}
    alone = after.drop([*pairs, *pairs.values()])
    assert (alone.copy_of == "").all()  # silent ones too, though their samples are the same
    found = audit_of(store)["copies"]
    assert len(found["groups"]) == 4
    assert found["moved_segments"] == (store.records.fold != ECGStore(tmp_path / "before").records.fold).sum() > 0


def test_published_folds_stay_unless_asked(database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    published = prepared(database, tmp_path / "published", fold_column="fold")
    lines = pd.read_csv(database / "table.csv")
    assert published.records.fold.tolist() == lines.fold.tolist()
    assert "4 stood in several folds: left as published; copies=one_fold" in capsys.readouterr().out
    settled = by_record(prepared(database, tmp_path / "settled", fold_column="fold", copies="one_fold"))
    assert settled.fold["same"] == settled.fold["r00"] == 1
    assert "segments went along" in capsys.readouterr().out


def test_of_identical_records_one_is_compared(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each with each of a thousand copies would be half a million pairs to confirm."""
    root, compared = tmp_path / "root", list[int]()
    root.mkdir()
    for name in ("r00", "r01"):
        signal = np.load(database / f"{name}.npy")
        for i in range(8):
            np.save(root / f"{name}-{i}.npy", signal)
    names = sorted(path.name for path in root.glob("*.npy"))
    lines = [f"{name},{FS:g},p{i},{1 + i % 10}" for i, name in enumerate(names)]
    (root / "table.csv").write_text("path,fs,patient,fold\n" + "\n".join(lines) + "\n")

    def find(store: Any, indices: np.ndarray) -> Any:
        compared.extend(indices)
        return find_copies_within(store, indices)

    monkeypatch.setattr(copy_groups, "find_copies_within", find)
    groups = audit_of(prepared(root, tmp_path / "store"))["copies"]["groups"]
    assert [len(group) for group in groups] == [8, 8] and len(compared) == 2
    assert "r00-4.npy = … 3 more" in capsys.readouterr().out


def test_what_is_not_looked_for_is_said(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy_groups, "MANY", 5)
    few = audit_of(prepared(database, tmp_path / "many"))["copies"]
    assert [sorted(Path(name).stem for name in group) for group in few["groups"]] == [["r00", "same"]]
    assert "near_copies=true" in few["unseen"]
    asked = audit_of(prepared(database, tmp_path / "asked", near_copies=True))["copies"]
    assert len(asked["groups"]) == 4
    assert asked["unseen"].startswith("copies of 2 segments without a heartbeat")
    foreign = tmp_path / "foreign"
    signals = [np.load(database / f"r0{i}.npy")[:1] for i in range(3)]
    foreign.mkdir()
    for i, signal in enumerate(signals):
        np.save(foreign / f"{i}.npy", signal)
    (foreign / "table.csv").write_text("path\n0.npy\n1.npy\n2.npy\n")
    config = table.Config(
        root=foreign,
        out=tmp_path / "ppg",
        table=foreign / "table.csv",
        file_fs=FS,
        unit="a.u.",
        scale=1e-3,
        file_leads=("PPG",),
        leads=("PPG",),
        backend="sequential",
    )
    assert "no lead of the twelve" in audit_of(prepare(config))["copies"]["unseen"]


def test_within_one_store_each_pair_is_found_once(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = prepared(database, tmp_path / "store")
    every = np.arange(len(store))
    both = find_copies(store, every, store, every)
    for at_a_time in (8192, 7):  # in one go, and in parts
        monkeypatch.setattr("shared.data.copies.AT_A_TIME", at_a_time)
        within = find_copies_within(store, every)
        assert (within.a < within.b).all()
        assert len(within.a) == 4
        halves = {(a, b) for a, b in zip(both.a, both.b, strict=True) if a < b}
        assert set(zip(within.a, within.b, strict=True)) == halves
