"""The effective batch decides the numbers, not how many ranks it is spread over: every loop on one rank and on two."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

from shared.checkpoints import WEIGHTS, newest_checkpoint, read_weights
from tests.ranks import run_two_ranks
from tests.test_stops import LOOPS, Runs

TRAIN = textwrap.dedent("""
    import sys
    import torch
    from tests.test_stops import LOOPS

    torch.set_num_threads(1)
    LOOPS[sys.argv[1]][0](*sys.argv[2:])
""")
STOPPED = textwrap.dedent("""
    import sys
    import torch
    import shared.epochs
    from shared.epochs import Stop
    from shared.run import Run
    from tests.test_stops import LOOPS

    torch.set_num_threads(1)
    shared.epochs.AGREE_EVERY = 3  # within the first epoch
    check = Run.check_signal

    def at_step_three(run):
        if run.step == 3:
            run._signal = 15
        return check(run)

    Run.check_signal = at_step_three
    try:
        LOOPS[sys.argv[1]][0](*sys.argv[2:])
    except Stop:
        sys.exit(0)
    sys.exit("it was not stopped")
""")
MORE = {
    "ecg_jepa": ("mask.groups=2", "optim.micro_batch=20"),
    "finetune": ("augment.num_operations=2", "drop_path=0"),
    "triplet": ("per_class=4",),
}
"""Settings that make a loop draw more."""
OF_EACH_RANK = {"pred_std", "target_std"}
"""Logged as the mean over the parts of a batch, each with its own spread."""


@pytest.fixture(scope="module")
def runs(synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("ranks"), synthetic_store)


def losses(out: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in {"time", *OF_EACH_RANK}} for line in lines]


def weights_of(out: Path) -> dict[str, torch.Tensor]:
    newest = newest_checkpoint(out)
    assert newest is not None
    return read_weights(newest / WEIGHTS)[0]


def compare(one: Path, two: Path) -> None:
    for left, right in zip(losses(one), losses(two), strict=True):
        assert left == pytest.approx(right, rel=1e-5, abs=1e-5, nan_ok=True)
    first, second = weights_of(one), weights_of(two)
    assert first.keys() == second.keys()
    for name, weight in first.items():
        torch.testing.assert_close(weight, second[name], rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


def settings_of(loop: str, runs: Runs, out: Path, **changed: Any) -> tuple[str, ...]:
    settings = [*runs.settings(loop, out), *MORE.get(loop, ())]
    return (*settings, *(f"{key.replace('__', '.')}={value}" for key, value in changed.items()))


@pytest.mark.slow
@pytest.mark.parametrize("loop", LOOPS)
def test_two_ranks_train_as_one_does(loop: str, runs: Runs, tmp_path: Path) -> None:
    LOOPS[loop][0](*settings_of(loop, runs, tmp_path / "one"))
    run_two_ranks(TRAIN, loop, *settings_of(loop, runs, tmp_path / "two"))
    compare(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["st_mem", "ecg_jepa", "vqvae", "triplet"])
def test_one_rank_continues_what_two_began(loop: str, runs: Runs, tmp_path: Path) -> None:
    """Stopped within an epoch, so that its sums and its codes' counts come from two ranks too."""
    LOOPS[loop][0](*settings_of(loop, runs, tmp_path / "one"))
    settings = settings_of(loop, runs, tmp_path / "moved")
    run_two_ranks(STOPPED, loop, *settings)
    LOOPS[loop][0](*settings)
    compare(tmp_path / "one", tmp_path / "moved")


@pytest.mark.slow
def test_two_ranks_continue_what_two_began(runs: Runs, tmp_path: Path) -> None:
    """Within an epoch, with the codebook's statistics of both."""
    for name in ("whole", "cut"):
        settings = settings_of("vqvae", runs, tmp_path / name)
        if name == "cut":
            run_two_ranks(STOPPED, "vqvae", *settings)
        run_two_ranks(TRAIN, "vqvae", *settings)
    compare(tmp_path / "whole", tmp_path / "cut")
    assert (tmp_path / "whole" / "codebook.json").read_text() == (tmp_path / "cut" / "codebook.json").read_text()
