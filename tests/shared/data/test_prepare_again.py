"""A store that is there already, what is left of a failure, and the same result on every path."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from shared.config import REPO_ROOT, ConfigError, load_config
from shared.data import prepare as module
from shared.data.prepare import choose_config, main, prepare
from shared.data.sources import ptbxl, synthetic
from shared.data.store import ECGStore, StoreError
from shared.errors import UserError
from shared.files import hold
from tests.golden import real_data
from tests.shared.data.preparing import audit_of

# ---------------------------------------------------------------- reuse, overwrite, disk full


def demo(tmp_path: Path, **values: Any) -> synthetic.Config:
    return synthetic.Config(
        **{"out": tmp_path / "out", "num_records": 6, "fs": 100, "seconds": 5, "backend": "sequential", **values}
    )


def test_same_settings_are_reused_without_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare(demo(tmp_path))
    monkeypatch.setattr(module, "process_chunk", None)  # any work would fail
    assert prepare(demo(tmp_path, workers=3, chunk=1, backend="threading")).fingerprint == first.fingerprint


@pytest.mark.parametrize("change", [{"seed": 1}, {"num_records": 5}, {"leads": ("I",)}, {"fs": 125}])
def test_other_settings_leave_the_store_alone_and_are_named(tmp_path: Path, change: dict[str, Any]) -> None:
    first = prepare(demo(tmp_path))
    with pytest.raises(StoreError, match=rf"made with other settings \({next(iter(change))}\)"):
        prepare(demo(tmp_path, **change))
    assert ECGStore(first.path).fingerprint == first.fingerprint


def test_overwrite_makes_it_anew(tmp_path: Path) -> None:
    prepare(demo(tmp_path))
    assert len(prepare(demo(tmp_path, num_records=3, overwrite=True))) == 3
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_no_store_is_never_touched(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("precious")
    with pytest.raises(StoreError, match="is not a store"):
        prepare(demo(tmp_path, overwrite=overwrite))
    assert (tmp_path / "out" / "thesis.tex").read_text() == "precious"


def test_store_of_another_version_is_refused_and_may_be_overwritten(tmp_path: Path) -> None:
    file = prepare(demo(tmp_path)).path / "store.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format_version": 99}))
    with pytest.raises(StoreError, match="store format 99"):
        prepare(demo(tmp_path))
    assert len(prepare(demo(tmp_path, overwrite=True))) == 6


@pytest.mark.parametrize(("owner", "name"), [(np, "save"), (pd.DataFrame, "to_parquet"), (Path, "write_text")])
def test_disk_full_leaves_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, full)
        with pytest.raises(StoreError, match=r"out could not be written .*No space left on device"):
            prepare(demo(tmp_path, shard=2, chunk=2))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shard", [8192, 2])
def test_interrupt_leaves_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard: int) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "process_chunk", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepare(demo(tmp_path, shard=shard, chunk=1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", [1, 2, 3])
@pytest.mark.parametrize("how", ["killed", "refused by the disk"])
def test_a_failure_while_the_store_is_replaced_leaves_the_former_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int, how: str
) -> None:
    former = prepare(demo(tmp_path)).fingerprint
    done, replace = [], os.replace

    def fail(a: Path, b: Path) -> None:
        done.append(1)
        if len(done) == call:
            if how == "killed":
                raise KeyboardInterrupt
            raise OSError(28, "No space left on device")
        replace(a, b)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(KeyboardInterrupt if how == "killed" else StoreError):
            prepare(demo(tmp_path, num_records=3, overwrite=True))
    assert prepare(demo(tmp_path)).fingerprint == former
    begun = [] if call == 1 else [".out.unfinished"]  # all of it was read, and is kept
    assert sorted(path.name for path in tmp_path.iterdir()) == [*begun, "out"]
    assert len(prepare(demo(tmp_path, num_records=3, overwrite=True))) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_killed_processes_left_is_found_said_and_put_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also under the names that they had with the number of their process."""
    prepare(demo(tmp_path)).path.rename(tmp_path / ".out.old-77")
    (tmp_path / ".out.partial-123").mkdir()
    (tmp_path / ".other.partial").mkdir()  # somebody else's, who may be alive
    monkeypatch.setattr(module, "process_chunk", None)  # the former store is brought back, and nothing is read
    prepare(demo(tmp_path))
    said = capsys.readouterr().out
    assert f"removed {tmp_path / '.out.partial-123'}" in said and f"brought back {tmp_path / 'out'}" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.partial", "out"]


def test_two_that_prepare_one_store_refuse_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.files.LOCK_SECONDS", 0.05)
    with hold(tmp_path / "out"), pytest.raises(UserError, match="out is being written by process"):
        prepare(demo(tmp_path))
    prepare(demo(tmp_path))
    with hold(tmp_path / "out"):
        prepare(demo(tmp_path))  # reading what is there needs no lock
        with pytest.raises(UserError, match="is being written"):
            prepare(demo(tmp_path, overwrite=True))


# ---------------------------------------------------------------- the same on every path


@pytest.mark.parametrize("change", [{"chunk": 1}, {"chunk": 4}, {"backend": "threading", "chunk": 2, "workers": 2}])
def test_chunks_and_workers_change_nothing(tmp_path: Path, change: dict[str, Any]) -> None:
    one = prepare(demo(tmp_path))
    other = prepare(demo(tmp_path, out=tmp_path / "other", **change))
    assert other.fingerprint == one.fingerprint
    pd.testing.assert_frame_equal(other.records, one.records)


def test_limit_takes_the_first(tmp_path: Path) -> None:
    whole = prepare(demo(tmp_path))
    part = prepare(demo(tmp_path, out=tmp_path / "part", limit=2))
    np.testing.assert_array_equal(part.read([0, 1]), whole.read([0, 1]))
    assert len(part) == 2


def test_synthetic_truth_travels_with_the_store(tmp_path: Path) -> None:
    records = prepare(demo(tmp_path)).records
    assert records.true_heart_rate.between(20, 250).all()
    assert all(min(peaks) >= 0 and max(peaks) < 5 for peaks in records.true_r_peaks)


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["configs/data/synthetic.yaml", f"out={tmp_path / 'out'}", "num_records=4", "backend=sequential"])
    assert f"store        {tmp_path / 'out'}" in capsys.readouterr().out
    assert len(ECGStore(tmp_path / "out")) == 4


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["out=x"], "source: None is not one of ptbxl, "),
        (["source=ptb", "out=x"], "source: 'ptb' is not one of"),
        (["source=[ptbxl]", "out=x"], "source: .* is not one of"),
        (["source=ptbxl"], "out: Field required"),
        (["source=ptbxl", "out=x", "num_records=3"], "unknown key 'num_records'"),
        (["source=ptbxl", "out=x", "leads=V9"], "unknown lead 'V9'; did you mean 'V6'"),
        (["source=ptblx", "out=x"], "'ptblx' is not one of .*; did you mean 'ptbxl'"),
        (["source=ptbxl", "out=x", "exclude=flat"], "exclude"),
        (["source=ptbxl", "out=x", "fs=0"], "fs: "),
        (["source=ptbxl", "out=x", "rate=250"], "rate: "),
    ],
)
def test_bad_settings_are_refused_before_anything_is_read(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_config(choose_config, None, overrides)


# ---------------------------------------------------------------- PTB-XL


def ptbxl_config(tmp_path: Path, **values: Any) -> ptbxl.Config:
    return ptbxl.Config(root=real_data("ptb-xl"), out=tmp_path / "out", **values)


def test_ptbxl_single_label_and_limit(tmp_path: Path) -> None:
    store = prepare(ptbxl_config(tmp_path, limit=20, single_label=True, backend="sequential"))
    assert len(store) == 20
    assert (store.records.superclass.str.len() == 1).all()
    assert np.abs(store.read(range(20))).max() > 300  # µV: the unit is right
    assert np.abs(store.read(range(20))).max() < 20_000


def test_ptbxl_missing_files_are_left_out(tmp_path: Path) -> None:
    """The sample holds the 100 Hz files of the first 60 records only."""
    store = prepare(ptbxl_config(tmp_path, rate=100, limit=64, backend="sequential"))
    audit = audit_of(store)
    assert audit["left_out"] == {"missing file": 4}
    assert [item["record"] for item in audit["left_out_records"]] == ["00061", "00062", "00063", "00064"]
    assert store.num_samples == 2500


@pytest.mark.slow
def test_ptbxl_sample_audit(tmp_path: Path) -> None:
    store = prepare(ptbxl_config(tmp_path, workers=2))
    audit = audit_of(store)
    assert (audit["records"], audit["segments"], audit["patients"]) == (500, 500, 466)
    assert audit["labels"]["superclass"] == {"NORM": 297, "MI": 73, "STTC": 96, "CD": 78, "HYP": 40}
    assert audit["without_label"]["superclass"] == 12
    pairs = ((137, 138), (143, 144), (145, 463), (456, 457), (459, 460))
    assert sorted(audit["duplicates"]) == [[f"{a:05d}", f"{b:05d}"] for a, b in pairs]
    assert audit["left_out"] == {}
    assert sum(audit["folds"].values()) == 500
    assert audit["limb_residual_mv"]["checked"] == 500
    assert audit["limb_residual_mv"]["median"] < 0.01
    assert not (REPO_ROOT / "out").exists()
    part = prepare(ptbxl_config(tmp_path / "part", limit=40, backend="sequential"))
    np.testing.assert_array_equal(part.read(range(40)), store.read(range(40)))
