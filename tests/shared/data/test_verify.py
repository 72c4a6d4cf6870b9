"""A store is checked against its fingerprint, which is made anew exactly as it was written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from shared.data.prepare import prepare
from shared.data.sources import synthetic
from shared.data.store import PORTIONS, ECGStore, StoreError
from shared.data.verify import main, verify
from shared.errors import UserError


def make(path: Path, **values: object) -> ECGStore:
    settings = {"num_records": 7, "fs": 100, "seconds": 5, "chunk": 3, "shard": 4, "backend": "sequential", **values}
    return prepare(synthetic.Config(out=path, **settings))  # type: ignore[arg-type]


def change(path: Path, at: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("features", [(), ("r_peaks", "heart_rate")])
def test_whole_until_a_byte_changes(tmp_path: Path, features: tuple[str, ...], capsys: pytest.CaptureFixture) -> None:
    store = make(tmp_path / "s", features=features)
    assert verify(store.path) == []
    main([str(store.path)])
    assert f"is whole: 7 segments, fingerprint {store.fingerprint}" in capsys.readouterr().out
    kind = "features" if features else "signals"
    change(tmp_path / "s" / f"{kind}-00001.npy", -1)
    problems = verify(store.path)
    if features:
        assert problems == [
            f"the fingerprint {store.fingerprint} is not that of the files: its settings or its features changed."
        ]
    else:
        assert problems[0] == f"1 of 7 signals are not what was written: {store.records.record.iloc[-1]}."
        assert "its signals changed" in problems[1]
    with pytest.raises(SystemExit) as stopped:
        main([str(store.path)])
    assert stopped.value.code == 1 and "is damaged" in capsys.readouterr().out


def test_settings_are_part_of_it(tmp_path: Path) -> None:
    store = make(tmp_path / "s")
    file = store.path / "store.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "fs": 250.0}))
    assert "its settings changed" in verify(store.path)[0]


def test_a_store_that_does_not_say_its_portions_has_its_signals_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    store = make(tmp_path / "s", features=("heart_rate",))
    file = store.path / "store.json"
    meta = json.loads(file.read_text())
    assert sum(meta.pop(PORTIONS)) == 7
    file.write_text(json.dumps(meta))
    main([str(store.path)])
    assert "features and settings cannot be checked" in capsys.readouterr().out
    signals = np.load(store.path / "signals-00000.npy")
    signals[2, 0, 0] += 1
    np.save(store.path / "signals-00000.npy", signals)
    assert verify(store.path) == [f"1 of 7 signals are not what was written: {store.records.record[2]}."]


def test_no_store_and_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not a store"):
        main([str(tmp_path)])
    with pytest.raises(UserError, match="one store is expected, 2 given. usage:"):
        main(["a", "b"])
