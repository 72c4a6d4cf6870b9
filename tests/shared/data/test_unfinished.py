"""A stopped `prepare` continues: the same store to the last byte, nothing lost or doubled, whatever it was stopped by."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from shared.config import REPO_ROOT
from shared.data import prepare as module
from shared.data.prepare import prepare
from shared.data.segments import process_chunk
from shared.data.sources import synthetic
from shared.data.store import ECGStore, StoreError
from shared.data.verify import verify


def demo(out: Path, **values: Any) -> synthetic.Config:
    settings = {"num_records": 11, "fs": 100, "seconds": 5, "chunk": 2, "shard": 4, "backend": "sequential"}
    return synthetic.Config(**{"out": out, **settings, **values})


class Stopping:
    """`process_chunk` until a number of calls, then an error of its own making."""

    def __init__(self, calls: int, error: BaseException) -> None:
        self.calls, self.error = calls, error
        self.seen: list[str] = []

    def __call__(self, config: Any, index: pd.DataFrame) -> Any:
        if self.calls == 0:
            raise self.error
        self.calls -= 1
        self.seen += index.record.tolist()
        return process_chunk(config, index)


def bytes_of(store: ECGStore) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.path.iterdir() if path.name != "audit.json"}


def audit_of(store: ECGStore) -> dict[str, Any]:
    audit = json.loads((store.path / "audit.json").read_text())
    return {key: value for key, value in audit.items() if not key.startswith(("seconds", "records_per"))}


@pytest.mark.parametrize("features", [(), ("heart_rate",)])
@pytest.mark.parametrize("calls", [1, 2, 3, 5])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device"), MemoryError()])
def test_stopped_anywhere_the_same_store_comes_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int, error: BaseException, features: tuple[str, ...]
) -> None:
    values = {"features": features, "fs": 250 if features else 100}
    whole = prepare(demo(tmp_path / "whole", **values))
    first = Stopping(calls, error)
    with monkeypatch.context() as patch:
        patch.setattr(module, "process_chunk", first)
        with pytest.raises(StoreError if isinstance(error, OSError) else type(error)):
            prepare(demo(tmp_path / "out", **values))
    assert not (tmp_path / "out").exists()
    second = Stopping(100, error)
    with monkeypatch.context() as patch:
        patch.setattr(module, "process_chunk", second)
        store = prepare(demo(tmp_path / "out", **values))
    assert bytes_of(store) == bytes_of(whole)
    assert audit_of(store) == audit_of(whole)
    finished = calls // 2 * 4  # two chunks make a shard
    assert second.seen == first.seen[finished:] + [name for name in whole.records.record if name not in first.seen]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole"]
    assert verify(store.path) == []


def stop_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int = 4, **values: Any) -> Path:
    with monkeypatch.context() as patch:
        patch.setattr(module, "process_chunk", Stopping(calls, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            prepare(demo(tmp_path / "out", **values))
    return tmp_path / ".out.unfinished"


@pytest.mark.parametrize("change", [{"seed": 3}, {"num_records": 9}, {"seconds": 6}])
def test_what_was_begun_otherwise_is_refused_and_may_be_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    begun = stop_after(tmp_path, monkeypatch)
    with pytest.raises(
        StoreError, match=rf"8 records of a stopped `prepare` with other settings \({next(iter(change))}"
    ):
        prepare(demo(tmp_path / "out", **change))
    assert (begun / "progress.json").is_file()
    store = prepare(demo(tmp_path / "out", overwrite=True, **change))
    assert bytes_of(store) == bytes_of(prepare(demo(tmp_path / "other", **change)))


@pytest.mark.parametrize("damage", ["progress", "shard", "cut", "gone"])
def test_damaged_shards_are_not_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = stop_after(tmp_path, monkeypatch)
    shard = begun / "store" / "signals-00001.npy"
    if damage == "progress":
        (begun / "progress.json").write_text('{"settings": ')
    elif damage == "shard":
        signals = np.load(shard, mmap_mode="r+")
        signals[2, 3, 4] += 1
        signals.flush()
    elif damage == "cut":
        shard.write_bytes(shard.read_bytes()[:-9])
    else:
        shard.unlink()
    assert bytes_of(prepare(demo(tmp_path / "out"))) == bytes_of(prepare(demo(tmp_path / "whole")))
    assert "cannot be continued" in capsys.readouterr().out


def test_another_chunk_may_continue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_after(tmp_path, monkeypatch)
    store = prepare(demo(tmp_path / "out", chunk=3, backend="threading", workers=2))
    whole = prepare(demo(tmp_path / "whole"))
    assert store.fingerprint == whole.fingerprint
    pd.testing.assert_frame_equal(store.records, whole.records)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_is_continued(tmp_path: Path, how: signal.Signals) -> None:
    values = {"num_records": 1000, "chunk": 4, "shard": 8}
    settings = [f"{key}={value}" for key, value in {"fs": 100, "seconds": 5, "backend": "loky", **values}.items()]
    command = [sys.executable, "-m", "shared.data.prepare", "configs/data/synthetic.yaml", f"out={tmp_path / 'out'}"]
    process = subprocess.Popen(
        [*command, "workers=2", *settings],
        cwd=REPO_ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # A shell lets what it starts in the background ignore SIGINT, and so all that this starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    progress, until = tmp_path / ".out.unfinished" / "progress.json", time.monotonic() + 60
    while not progress.is_file() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    os.kill(process.pid, how)
    assert process.wait(60) != 0
    done = json.loads(progress.read_text())["done"]
    assert 0 < done < 1000
    store = prepare(demo(tmp_path / "out", **values))
    assert bytes_of(store) == bytes_of(prepare(demo(tmp_path / "whole", **values)))
