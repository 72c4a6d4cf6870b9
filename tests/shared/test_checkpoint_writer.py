"""A checkpoint that is written while the training goes on is the state at its step, and what befalls it is not lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from shared import checkpoint_writer
from shared.checkpoint_writer import snapshot
from shared.checkpoints import WEIGHTS, newest_checkpoint, read_weights
from shared.config import Section
from shared.epochs import Stop
from shared.errors import UserError
from shared.run import Run, RunConfig


class Toy(Section):
    run: RunConfig


def make_run(out: Path, **values: Any) -> Run:
    config = RunConfig(out=out, device="cpu", **values)
    return Run(config, Toy(run=config), "toy")


def train_step(run: Run, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    model(torch.randn(8, 4, generator=run.begin_step())).square().mean().backward()
    run.update(model, optimizer, None)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Writing waits until it is set."""
    opened, original = threading.Event(), checkpoint_writer.write_checkpoint

    def write(*arguments: Any) -> None:
        assert opened.wait(30)
        original(*arguments)

    monkeypatch.setattr(checkpoint_writer, "write_checkpoint", write)
    yield opened
    opened.set()


def content(out: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    newest = newest_checkpoint(out)
    assert newest is not None
    return read_weights(newest / WEIGHTS)[0], torch.load(newest / "state.pt", weights_only=True)


def test_what_is_written_is_the_state_at_its_step(tmp_path: Path, gate: threading.Event) -> None:
    """Steps that change weights, buffers and moments in place come before the writer reads them."""
    with make_run(tmp_path) as run:
        model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
        optimizer = torch.optim.AdamW(model.parameters(), 0.1)
        train_step(run, model, optimizer)
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        moment = optimizer.state_dict()["state"][0]["exp_avg"].clone()
        sums = {"loss": torch.tensor(1.0)}
        run.save(model, run.step, optimizer=optimizer, epoch={"sums": sums})
        for _ in range(3):
            train_step(run, model, optimizer)
            sums["loss"] += 1
        assert newest_checkpoint(tmp_path) is None  # nothing was read yet
        gate.set()
        run.wait_for_checkpoint()
        assert not torch.equal(model[0].weight, weights["0.weight"])
    written, state = content(tmp_path)
    assert written.keys() == weights.keys()
    assert all(torch.equal(written[name], value) for name, value in weights.items())
    assert torch.equal(state["optimizer"]["state"][0]["exp_avg"], moment)
    assert state["optimizer"]["state"][0]["step"] == 1 and state["step"] == 1
    assert state["epoch"]["sums"]["loss"] == 1.0


@pytest.mark.parametrize("behind", [True, False])
def test_both_ways_write_the_same(tmp_path: Path, behind: bool) -> None:
    with make_run(tmp_path, checkpoint_async=behind) as run:
        model = nn.Linear(4, 2)
        optimizer = torch.optim.AdamW(model.parameters(), 0.1)
        train_step(run, model, optimizer)
        run.save(model, 1, optimizer=optimizer)
        assert behind or newest_checkpoint(tmp_path) is not None
    weights, state = content(tmp_path)
    assert torch.equal(weights["weight"], model.weight)
    torch.testing.assert_close(state["optimizer"], optimizer.state_dict(), rtol=0, atol=0)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("checkpoint")]


def test_at_most_one_is_being_written(tmp_path: Path, gate: threading.Event) -> None:
    with make_run(tmp_path) as run:
        model = nn.Linear(4, 2)
        run.save(model, 1)
        second = threading.Thread(target=run.save, args=(model, 2))
        second.start()
        second.join(0.2)
        assert second.is_alive() and sum(t.name.startswith("checkpoint") for t in threading.enumerate()) == 1
        gate.set()
        second.join()
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == ["step-00000001", "step-00000002"]


def test_a_stop_waits_until_it_is_written(
    tmp_path: Path, gate: threading.Event, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Stop), make_run(tmp_path) as run:
        run._signal = signal.SIGTERM
        run.save(nn.Linear(4, 2), 1)
        threading.Timer(0.2, gate.set).start()
        stop = run.stop()
        assert newest_checkpoint(tmp_path) is not None and "saved in" in capsys.readouterr().out
        raise stop


def fail(*_: object) -> None:
    raise OSError(28, "No space left on device")


def at_the_next_step(run: Run) -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("checkpoint"):
            thread.join()
    run.check_signal()


@pytest.mark.parametrize(
    "noticed", [at_the_next_step, Run.stop, lambda run: run.save(nn.Linear(4, 2), 2), lambda _: None]
)
def test_a_full_disk_reaches_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noticed: Callable[[Run], object]
) -> None:
    """At the next step, the next checkpoint, a stop or the end, whichever comes first."""
    monkeypatch.setattr(checkpoint_writer, "write_checkpoint", fail)
    with pytest.raises(UserError, match=r"could not be written \(.*No space.*Make room"), make_run(tmp_path) as run:
        run.save(nn.Linear(4, 2), 1)
        noticed(run)
        assert noticed.__name__ == "<lambda>", "the training went on"
    assert "No space left" in (tmp_path / "provenance.json").read_text()


def test_another_error_of_the_writer_is_raised_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("of the writer")

    monkeypatch.setattr(checkpoint_writer, "write_checkpoint", broken)
    with pytest.raises(ZeroDivisionError, match="of the writer"), make_run(tmp_path) as run:
        run.save(nn.Linear(4, 2), 1)


def test_an_error_of_the_training_is_not_hidden_by_the_writers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_writer, "write_checkpoint", fail)
    with pytest.raises(KeyError, match="of the training"), make_run(tmp_path) as run:
        run.save(nn.Linear(4, 2), 1)
        raise KeyError("of the training")


def test_a_snapshot_shares_no_memory() -> None:
    value = torch.arange(6.0).view(2, 3)
    given = {"a": [value, (value.t(), 3)], "text": "x", "none": None, "flag": True}
    copied, ready = snapshot(given)
    value += 1
    ready()
    assert torch.equal(copied["a"][0], torch.arange(6.0).view(2, 3))
    assert torch.equal(copied["a"][1][0], torch.arange(6.0).view(2, 3).t()) and copied["a"][1][1] == 3
    assert (copied["text"], copied["none"], copied["flag"]) == ("x", None, True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_a_snapshot_of_a_gpu_is_queued_behind_the_step_and_waits_for_nothing() -> None:
    value = torch.zeros(2**26, device="cuda")
    copied, ready = snapshot({"value": value})
    value.add_(1)  # queued behind the copy
    ready()
    assert copied["value"].is_pinned() and not copied["value"].any() and bool(value.all())
