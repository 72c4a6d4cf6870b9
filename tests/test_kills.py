"""`kill -9` at random moments of every loop, with checkpoints written behind the training: nothing differs in the end.

KILLS=200 python -m pytest -s tests/test_kills.py        # a dozen where KILLS is not said; KILLS_SEED=n draws others
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shared import files
from shared.checkpoints import checkpoints_of, newest_checkpoint
from tests.test_stops import LOOPS, Runs, content

KILLS = int(os.environ.get("KILLS", "12"))
SEED = int(os.environ.get("KILLS_SEED", "0"))
EACH_STEP = "run.checkpoint_minutes=1e-9"


def in_a_process(train: Callable[..., Path], settings: tuple[str, ...], prepare: Callable[[], object] = bool) -> int:
    """Begin to train in a process of its own; its number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads; nothing here waits for one
        child = os.fork()
    if child == 0:
        code = 1
        try:
            prepare()
            train(*settings)
            code = 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    return child


def dies_at_write(number: int) -> Callable[[], None]:
    """Have the process killed in this call, counted over all checkpoints, of those that put one in its place."""

    def prepare() -> None:
        calls = 0

        def counted(original: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                nonlocal calls
                if threading.current_thread().name.startswith("checkpoint"):
                    calls += 1
                    if calls == number:
                        os.kill(os.getpid(), signal.SIGKILL)
                return original(*arguments, **options)

            return call

        for place, name in ((files.os, "replace"), (files.os, "fsync"), (files, "digest"), (files.shutil, "rmtree")):
            setattr(place, name, counted(getattr(place, name)))

    return prepare


def whole_state(out: Path) -> dict[str, Any]:
    """`content`, and all that the training would go on with: moments, census, the epoch that is chosen."""
    newest = newest_checkpoint(out)
    assert newest is not None
    inner = {"control state": whole_state(out / "control")} if (out / "control").is_dir() else {}
    return {**content(out), "state": bits(torch.load(newest / "state.pt", weights_only=True)), **inner}


def bits(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.dtype, tuple(value.shape), value.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    if isinstance(value, dict):
        return {key: bits(item) for key, item in value.items()}
    return [bits(item) for item in value] if isinstance(value, (list, tuple)) else value


def test_one_bit_is_a_difference() -> None:
    assert bits({"a": [torch.tensor([1.0, float("nan")])]}) == bits({"a": [torch.tensor([1.0, float("nan")])]})
    assert bits(torch.tensor(1.0)) != bits(torch.tensor(1.0).nextafter(torch.tensor(2.0)))


@pytest.mark.slow
def test_random_kills_change_nothing(synthetic_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One to three kills a run: at a random moment, or in a random call of the thread that writes a checkpoint."""
    runs, rng = Runs(tmp_path / "whole", synthetic_store), np.random.default_rng(SEED)
    out, loops, counts = tmp_path / "cut", list(LOOPS), Counter[str]()
    expected, seconds, case = {}, {}, 0
    while counts.total() < KILLS:
        loop = loops[case % len(loops)]
        case += 1
        settings = (*runs.settings(loop, out), EACH_STEP)
        shutil.rmtree(out, ignore_errors=True)
        if loop not in expected:
            runs.whole(loop)
            begun = time.monotonic()
            assert os.waitpid(in_a_process(LOOPS[loop][0], settings), 0)[1] == 0
            seconds[loop], expected[loop] = time.monotonic() - begun, whole_state(out)
            assert content(out) == content(runs.whole(loop))
        shutil.rmtree(out, ignore_errors=True)
        story = []
        for _ in range(rng.integers(1, 4)):
            if rng.random() < 0.5:
                moment = rng.uniform(0, seconds[loop])
                child = in_a_process(LOOPS[loop][0], settings)
                time.sleep(moment)
                os.kill(child, signal.SIGKILL)
                how = f"after {moment:.3f} s"
            else:
                call = int(rng.integers(1, 40))
                child = in_a_process(LOOPS[loop][0], settings, dies_at_write(call))
                how = f"in call {call} of the writer"
            killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
            counts[loop] += killed
            story.append(f"{how}{'' if killed else ' (it had ended)'}, {len(checkpoints_of(out))} checkpoints there")
            assert killed or whole_state(out) == expected[loop], f"{loop} ended with other numbers: {story}"
        assert os.waitpid(in_a_process(LOOPS[loop][0], settings), 0)[1] == 0, f"{loop} did not go on: {story}"
        found = whole_state(out)
        assert found.keys() == expected[loop].keys()
        for part, value in expected[loop].items():
            assert found[part] == value, f"{part} of {loop} differs: {story}"
    with capsys.disabled():
        print(f"\n{counts.total()} kills in {case} runs, nothing differs: {dict(counts)}")
