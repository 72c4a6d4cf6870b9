"""The iterator of all training loops: what it hands out, when it saves, and that a stop at any step changes nothing."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from shared.checkpoints import newest_checkpoint
from shared.config import Section
from shared.epochs import Stop
from shared.run import Run, RunConfig

EPOCHS, STEPS = 3, 4


class Toy(Section):
    run: RunConfig


def train(out: Path, stop_after: int | None = None, signum: int = signal.SIGTERM, **values: Any) -> dict[str, Any]:
    """A tiny training whose batches, noise and sums are easy to compare; a signal comes within step `stop_after`."""
    config = RunConfig(out=out, device="cpu", **values)
    seen: list[tuple[int, int]] = []

    def batches(epoch: int, first: int) -> Iterator[tuple[int, int]]:
        return iter([(epoch, number) for number in range(first, STEPS)])

    with Run(config, Toy(run=config), "toy") as run:
        model = nn.Linear(3, 1)
        optimizer = torch.optim.AdamW(model.parameters(), 0.05)
        run.resume(model, optimizer=optimizer)
        for epoch in run.epochs(EPOCHS, STEPS, batches):
            for number, batch in epoch:
                assert (number, batch) == (epoch.number, epoch.position)
                seen.append((number, batch))
                loss = model(torch.randn(5, 3, generator=run.begin_step())).square().mean()
                loss.backward()
                run.update(model, optimizer, None)
                epoch.add(loss=loss, ones=1.0)
                if stop_after == run.step:
                    os.kill(os.getpid(), signum)
            assert epoch.sums["ones"] == STEPS
            run.log(run.step, epoch=epoch.number + 1, loss=float(epoch.means()["loss"]))
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    logged = [{key: value for key, value in line.items() if key != "time"} for line in lines]
    return {"seen": seen, "log": logged, "weights": {k: v.tolist() for k, v in model.state_dict().items()}}


@pytest.mark.parametrize("stop_after", range(1, EPOCHS * STEPS + 1))
def test_a_signal_in_any_step_changes_nothing(tmp_path: Path, stop_after: int) -> None:
    whole = train(tmp_path / "whole")
    with pytest.raises(Stop):
        train(tmp_path / "cut", stop_after)
    found = newest_checkpoint(tmp_path / "cut")
    assert found is not None and found.name == f"step-{stop_after:08d}"
    rest = train(tmp_path / "cut")
    assert rest["seen"] == whole["seen"][stop_after:]
    assert (rest["log"], rest["weights"]) == (whole["log"], whole["weights"])


def test_checkpoints_come_after_the_epochs_asked_for_and_after_the_last(tmp_path: Path) -> None:
    train(tmp_path, checkpoint_every=2, keep_checkpoints=9)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-00000008", "step-00000012"]


def test_a_loop_that_forgets_its_step_is_refused(tmp_path: Path) -> None:
    config = RunConfig(out=tmp_path, device="cpu")
    with Run(config, Toy(run=config), "toy") as run:
        run.resume(nn.Linear(1, 1))
        with pytest.raises(AssertionError, match="must call run.update once"):
            for epoch in run.epochs(1, 2, lambda _epoch, first: range(first, 2)):
                for _ in epoch:
                    pass
