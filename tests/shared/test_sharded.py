"""A pretraining whose parameters are spread over two ranks (FSDP2) is that of one rank, and each goes on with the other's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from shared.checkpoints import WEIGHTS, newest_checkpoint, read_weights
from shared.config import Section
from shared.errors import UserError
from shared.run import Run, RunConfig
from tests.ranks import run_two_ranks
from tests.test_ranks import STOPPED, TRAIN, compare, settings_of
from tests.test_stops import LOOPS, Runs

FSDP = "run.parallel=fsdp"
SETTINGS = {
    "st_mem": ("optim.micro_batch=20", "optim.clip_grad=0.5", "run.checkpoint_every=1", "monitor.keep_best=val_loss"),
    "ecg_jepa": ("optim.micro_batch=20", "optim.clip_grad=0.5", "mask.groups=2"),
}
"""Gradients that are added up, clipped, and a monitor that looks at the whole model; the teacher is spread too."""


@pytest.fixture(scope="module")
def runs(synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("sharded"), synthetic_store)


@pytest.mark.slow
@pytest.mark.parametrize("loop", SETTINGS)
def test_spread_parameters_train_as_whole_ones_do(loop: str, runs: Runs, tmp_path: Path) -> None:
    """One rank; two with spread parameters; two begin so, stop within an epoch, and one goes on; and the other way round."""

    def settings(name: str) -> tuple[str, ...]:
        return (*settings_of(loop, runs, tmp_path / name), *SETTINGS[loop])

    LOOPS[loop][0](*settings("one"))
    run_two_ranks(TRAIN, loop, *settings("spread"), FSDP)
    compare(tmp_path / "one", tmp_path / "spread")
    run_two_ranks(STOPPED, loop, *settings("to_one"), FSDP)
    LOOPS[loop][0](*settings("to_one"), FSDP)  # one process: nothing is spread
    compare(tmp_path / "one", tmp_path / "to_one")
    run_two_ranks(STOPPED, loop, *settings("to_two"))
    run_two_ranks(TRAIN, loop, *settings("to_two"), FSDP)
    compare(tmp_path / "one", tmp_path / "to_two")
    states = []
    for name in ("one", "spread"):
        newest = newest_checkpoint(tmp_path / name)
        assert newest is not None
        assert all(type(value) is torch.Tensor for value in read_weights(newest / WEIGHTS)[0].values())
        states.append(torch.load(newest / "state.pt", weights_only=True)["optimizer"])
    assert states[0].keys() == states[1].keys() and states[0]["state"].keys() == states[1]["state"].keys()
    for key, moments in states[0]["state"].items():
        for name, value in moments.items():
            torch.testing.assert_close(states[1]["state"][key][name], value, rtol=1e-3, atol=1e-4)


class Toy(Section):
    run: RunConfig


@pytest.mark.parametrize(
    ("method", "changed", "said"),
    [
        ("st_mem_vqvae", {}, "trains st_mem and ecg_jepa, not st_mem_vqvae. Use run.parallel=ddp"),
        ("st_mem", {"precision": "fp16"}, "no loss scaling: run.precision=fp16 needs ddp"),
        ("ecg_jepa", {"compile": True}, "not for compiled models. Set run.compile=false"),
    ],
)
def test_what_cannot_be_spread_is_refused_by_name(
    tmp_path: Path, method: str, changed: dict[str, object], said: str
) -> None:
    config = RunConfig(out=tmp_path / "run", device="cpu", parallel="fsdp", **changed)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=said):
        Run(config, Toy(run=config), method)
    assert not (tmp_path / "run").exists()
