"""A store on which one lead is best on validation and another on test, and sweeps that run inside the test's own process."""

from __future__ import annotations

import contextlib
import importlib
import os
import stat
import traceback
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import shared.evaluation.study.job
import shared.jobs
from shared.data.writer import StoreWriter
from shared.leads import LEADS

ENCODER = "tests.shared.evaluation.contexts:Powers"
"""Embeds each lead by three numbers; leads that it does not see are zeros."""


def make_planted(path: Path, num: int = 200) -> Path:
    """Noise whose size tells class A from B: of lead I in all folds but 10, of lead II in all but 9, of V1 in all folds."""
    rng = np.random.default_rng(0)
    fold, is_a = np.arange(num) % 10 + 1, rng.random(num) < 0.5
    signals = rng.normal(0, 100, (num, len(LEADS), 120))
    for lead, without in (("I", 10), ("II", 9), ("V1", None)):
        large = np.where(fold == without, rng.random(num) < 0.5, is_a)
        signals[large, LEADS.index(lead)] *= 1.4
    records = pd.DataFrame(
        {
            "source": "test",
            "record": [f"r{i}" for i in range(num)],
            "segment": 0,
            "patient": [f"p{i}" for i in range(num)],
            "fold": fold,
            "kind": [["A" if a else "B"] for a in is_a],
            "digest": [f"d{i}" for i in range(num)],
        }
    )
    meta = {"fs": 100.0, "leads": list(LEADS), "num_samples": 120, "labels": {"kind": ["A", "B"]}}
    with StoreWriter(path, len(LEADS), 120, 1000) as writer:
        writer.add(signals.round().astype(np.int16))
        writer.finish(records, {**meta, "made_by": {}}, {})
    return path


def sweep_of(tmp: Path, *more: str) -> list[str]:
    """The command line of a sweep over leads of an outside encoder on the planted store."""
    config = tmp / "leads.yaml"
    config.write_text(
        f"program: st_mem_modified.evaluate\nstore: {make_planted(tmp / 'store')}\ntask: kind\nprotocols: [knn]\n"
        f"knn: {{k: 5}}\nresamples: 20\nmin_positives: 1\ndevice: cpu\nencoder: {{module: '{ENCODER}'}}\n"
    )
    return [str(config), f"out={tmp / 'sweep'}", *more]


class OneThread:
    """In place of the pool of threads: one after the other in the main thread, where a training may set signal handlers."""

    def __init__(self, num: int) -> None:
        assert num == 1

    def __enter__(self) -> OneThread:
        return self

    def __exit__(self, *_: object) -> None: ...

    map = staticmethod(map)


def run_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Points are run without the seconds that a process takes to start."""
    monkeypatch.setattr(shared.jobs, "ThreadPoolExecutor", OneThread)
    monkeypatch.setattr(shared.evaluation.study.job, "execute", in_process)


def in_process(command: Sequence[str], log: Path, gpu: str | None) -> bool:
    """In place of `execute`: the same program with the same arguments."""
    module, arguments = command[2], list(command[3:])
    with log.open("a") as file, contextlib.redirect_stdout(file):
        try:
            importlib.import_module(module).main(arguments)
        except Exception:
            file.write(traceback.format_exc())
            return False
    return True


def stand_in_sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An sbatch that notes its arguments; where it does."""
    fake = tmp_path / "bin" / "sbatch"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" "--" >> {tmp_path}/calls\necho 77\n')
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    return tmp_path / "calls"
