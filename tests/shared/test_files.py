"""Folders are whole or absent, whenever the process dies; damage is found; the log has no step twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from shared import files
from shared.checkpoints import WEIGHTS, CheckpointError, find_weights, newest_checkpoint
from shared.config import Section
from shared.files import clean_up, damage, write_folder
from shared.run import Run, RunConfig


class Toy(Section):
    run: RunConfig


def train(out: Path, steps: int) -> int:
    """Steps of a toy run, a checkpoint and a log line after each; the step it began from."""
    config = RunConfig(out=out, device="cpu", keep_checkpoints=9)
    with Run(config, Toy(run=config), "toy") as run:
        model = nn.Linear(2, 1)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        began = run.resume(model, optimizer=optimizer)
        for _ in range(steps):
            model(torch.ones(1, 2)).sum().backward()
            run.update(model, optimizer, None)
            run.log(run.step, loss=1.0)
            run.checkpoint()
    return began


def logged(out: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("calls", [1, 2])
def test_a_folder_of_the_name_is_there_at_any_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    """Killed before the first or the second rename: what was there is there again after the next start."""
    folder = tmp_path / "step-00000001"
    write_folder(folder, lambda path: (path / "x").write_text("old") and None)
    done = []

    def die(a: Path, b: Path) -> None:
        done.append(1)
        if len(done) == calls:
            raise KeyboardInterrupt
        Path(a).rename(b)

    monkeypatch.setattr(files.os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        write_folder(folder, lambda path: (path / "x").write_text("new") and None)
    monkeypatch.undo()
    clean_up(tmp_path)
    assert (folder / "x").read_text() == "old" and damage(folder, "x") is None
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


@pytest.mark.parametrize("how", ["missing weights", "missing state", "truncated", "flipped", "no digests"])
def test_a_damaged_newest_checkpoint_is_passed_over(
    tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path, 3)
    newest = tmp_path / "checkpoints" / "step-00000003"
    if how.startswith("missing"):
        (newest / {"missing weights": WEIGHTS, "missing state": "state.pt"}[how]).unlink()
    elif how == "truncated":
        (newest / "state.pt").write_bytes((newest / "state.pt").read_bytes()[:50])
    elif how == "flipped":
        content = bytearray((newest / WEIGHTS).read_bytes())
        content[-1] ^= 1
        (newest / WEIGHTS).write_bytes(bytes(content))
    else:
        (newest / "digests.json").write_text("{")
    (tmp_path / "checkpoints" / "step-best").mkdir()
    (tmp_path / "checkpoints" / "notes.txt").write_text("mine")
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"step": 4, "lo')
    assert train(tmp_path, 2) == 2
    assert "damaged and passed over" in capsys.readouterr().out
    assert logged(tmp_path) == [1, 2, 3, 4]
    assert (tmp_path / "checkpoints" / "notes.txt").is_file()


def test_weights_serve_without_the_training_state(tmp_path: Path) -> None:
    train(tmp_path, 2)
    (tmp_path / "checkpoints" / "step-00000002" / "state.pt").unlink()
    assert find_weights(tmp_path) == tmp_path / "checkpoints" / "step-00000002" / WEIGHTS


def test_no_whole_checkpoint_is_said_and_nothing_starts_anew(tmp_path: Path) -> None:
    train(tmp_path, 1)
    (tmp_path / "checkpoints" / "step-00000001" / WEIGHTS).write_bytes(b"")
    with pytest.raises(CheckpointError, match="no checkpoint of .* is whole .*other bytes.*run.overwrite=true"):
        train(tmp_path, 1)


def test_checkpoints_from_before_digests_are_taken(tmp_path: Path) -> None:
    train(tmp_path, 1)
    (tmp_path / "checkpoints" / "step-00000001" / "digests.json").unlink()
    assert newest_checkpoint(tmp_path) is not None and train(tmp_path, 1) == 1


def test_a_log_without_a_checkpoint_begins_anew(tmp_path: Path) -> None:
    tmp_path.joinpath("log.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
    train(tmp_path, 1)
    assert logged(tmp_path) == [1]
