"""A run folder has one writer, says where it came from, can be made longer where that is exact, and survives a full disk."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from shared import files
from shared.checkpoints import checkpoints_of, newest_checkpoint, read_weights
from shared.config import REPO_ROOT, Section
from shared.errors import UserError
from shared.files import hold, is_held
from shared.optim import OptimConfig, make_schedule
from shared.run import Run, RunConfig
from shared.run_record import PACKAGES, RunRecord, read_record


class Toy(Section):
    run: RunConfig
    optim: OptimConfig = OptimConfig()

    @property
    def fixed_epochs(self) -> str | None:
        return self.optim.fixed_epochs


STEPS = 3


def train(out: Path, epochs: int = 2, schedule: str = "constant", die: int | None = None, **run: Any) -> nn.Module:
    """A toy training of three steps an epoch; it raises in step `die`."""
    optim = OptimConfig(epochs=epochs, schedule=schedule, warmup_epochs=0.5, batch_size=4, lr_reference_batch=None)  # type: ignore[arg-type]
    config = RunConfig(out=out, device="cpu", checkpoint_every=1, **run)
    with Run(config, Toy(run=config, optim=optim), "toy") as run_:
        model = nn.Linear(4, 2)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        rate = make_schedule(optimizer, optim, STEPS)
        run_.resume(model, optimizer=optimizer)
        for epoch in run_.epochs(epochs, STEPS, lambda _, first: range(first, STEPS)):
            for _ in epoch:
                generator = run_.begin_step()
                rate.step_update(run_.step)
                loss = model(torch.randn(4, 4, generator=generator)).square().mean()
                loss.backward()
                run_.update(model, optimizer, None)
                epoch.add(loss=loss)
                if run_.step == die:
                    raise KeyboardInterrupt
            run_.log(run_.step, **{name: float(value) for name, value in epoch.means().items()})
    return model


def logged(out: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines]


# ---------------------------------------------------------------- one writer

HOLDER = "import sys, time\nfrom pathlib import Path\nfrom shared.files import hold\n"
HOLDER += "with hold(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"


def test_a_second_process_is_refused_and_a_dead_one_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LOCK_SECONDS", 0.1)
    out = tmp_path / "run"
    train(out, epochs=1)
    partial = out / "checkpoints" / ".step-00000004.partial"
    partial.mkdir()
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(out)], cwd=REPO_ROOT, stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline()
    assert is_held(out)
    for settings in ({}, {"overwrite": True}):
        with pytest.raises(UserError, match=f"being written by process {holder.pid} on "):
            train(out, **settings)  # type: ignore[arg-type]
    assert partial.is_dir() and newest_checkpoint(out) is not None  # nothing of the other one was touched
    holder.kill()
    holder.communicate()
    assert not is_held(out)
    train(out, epochs=2)
    assert not partial.exists() and not (tmp_path / ".run.lock").exists()


def test_a_link_is_the_folder_it_leads_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LOCK_SECONDS", 0.1)
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to("run")
    with hold(tmp_path / "run"), pytest.raises(UserError, match="is being written"), hold(tmp_path / "link"):
        pass


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=r"file/run cannot be written: .*Give another folder"),
        hold(tmp_path / "file/run"),
    ):
        pass


# ---------------------------------------------------------------- overwriting, room, pruning


def test_a_kill_while_overwriting_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    train(out)
    before = logged(out)

    def killed(folder: Path, *_: object, **__: object) -> None:
        if folder == out:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", killed)
        with pytest.raises(KeyboardInterrupt):
            train(out, schedule="cosine", overwrite=True)
    assert not out.exists()
    train(out)
    assert logged(out) == before and sorted(path.name for path in tmp_path.iterdir()) == ["run"]


FULL_DISK = textwrap.dedent("""
    import sys
    from pathlib import Path
    import resource
    import torch
    from torch import nn
    from shared.config import Section, entry_point
    from shared.run import Run, RunConfig

    class Toy(Section):
        run: RunConfig

    def main(_):
        config = RunConfig(out=sys.argv[1], device="cpu")
        with Run(config, Toy(run=config), "toy") as run:
            model = nn.Linear(100, 100)
            run.resume(model)
            run.save(model, 1)
            run.wait_for_checkpoint()
            what, limit = sys.argv[2:]
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
            if what == "log":
                for step in range(10000):
                    run.log(step, loss=1.0)
            else:
                run.save(model, 2, more=torch.zeros(30000))

    entry_point(main)
""")


@pytest.mark.slow
@pytest.mark.parametrize(("what", "limit"), [("weights", 30_000), ("state", 60_000), ("log", 20_000)])
def test_a_full_disk_is_one_message_and_the_last_checkpoint_is_whole(tmp_path: Path, what: str, limit: int) -> None:
    """The limit of a file's size stands for the disk's: the same calls fail, with an error of the same family."""
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "run"), what, str(limit)]
    done = subprocess.run(command, cwd=REPO_ROOT, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ") and "could not be written" in done.stderr and "Make room" in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1
    assert newest_checkpoint(tmp_path / "run") == tmp_path / "run" / "checkpoints" / "step-00000001"
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000001"]
    assert str(read_record(tmp_path / "run")[-1]["ended"]).startswith("stopped: ")


def test_a_damaged_checkpoint_does_not_push_a_whole_one_out(tmp_path: Path) -> None:
    train(tmp_path, epochs=3, keep_checkpoints=2)
    damaged = checkpoints_of(tmp_path)[-1] / "state.pt"
    damaged.write_bytes(b"x")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, epochs=3, keep_checkpoints=2, checkpoint_minutes=1e-9, die=8)
    assert [path.name[-2:] for path in checkpoints_of(tmp_path)] == ["06", "07", "09"]
    assert newest_checkpoint(tmp_path) == checkpoints_of(tmp_path)[1]


# ---------------------------------------------------------------- checkpoints by minutes, longer runs


def test_minutes_make_checkpoints_within_an_epoch(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", checkpoint_minutes=1e-9, die=5)
    assert newest_checkpoint(tmp_path / "cut") == tmp_path / "cut" / "checkpoints" / "step-00000004"
    found = train(tmp_path / "cut", checkpoint_minutes=60.0)  # how often does not change a number
    assert torch.equal(found.weight, whole.weight)  # type: ignore[arg-type]
    assert logged(tmp_path / "cut") == logged(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "seldom", checkpoint_minutes=60.0, die=2)
    assert checkpoints_of(tmp_path / "seldom") == []


def test_a_finished_run_is_made_longer_to_the_same_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = train(tmp_path / "whole", epochs=4)
    train(tmp_path / "two", epochs=2)
    found = train(tmp_path / "two", epochs=4)
    assert torch.equal(found.weight, whole.weight)  # type: ignore[arg-type]
    assert logged(tmp_path / "two") == logged(tmp_path / "whole")
    assert "optim.epochs 2 becomes 4" in capsys.readouterr().out


def test_what_cannot_be_made_longer_says_why_and_how(tmp_path: Path) -> None:
    train(tmp_path / "cosine", schedule="cosine")
    with pytest.raises(UserError, match=r"cannot go on to 4: the learning rate falls along a cosine.*run\.out=…"):
        train(tmp_path / "cosine", epochs=4, schedule="cosine")
    train(tmp_path / "constant")
    with pytest.raises(UserError, match=r"cannot go on to 1: a run is not made shorter"):
        train(tmp_path / "constant", epochs=1)


def test_a_constant_schedule_warms_up_and_stays() -> None:
    optim = OptimConfig(epochs=4, schedule="constant", warmup_epochs=2, lr=0.5, lr_reference_batch=None)
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), 0.5)
    schedule, rates = make_schedule(optimizer, optim, 2), []
    for step in range(8):
        schedule.step_update(step)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.125, 0.21875, 0.3125, 0.40625, 0.5, 0.5, 0.5, 0.5])


# ---------------------------------------------------------------- provenance


def test_provenance_has_an_entry_for_each_start(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, die=4)
    train(tmp_path)
    first, second = read_record(tmp_path)
    assert first["ended"] == "stopped: KeyboardInterrupt: " and second["ended"] == "done"
    assert (first["first_step"], first["last_step"]) == (0, 4)
    assert (second["first_step"], second["last_step"]) == (3, 6)
    assert second["parameters"] == 10 and second["seed"] == 0 and second["precision"] == "fp32"
    assert second["packages"].keys() == set(PACKAGES) and second["packages"]["numpy"] == np.__version__
    assert second["ecg_per_second"] > 0
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPO_ROOT, capture_output=True, text=True).stdout.strip()
    assert second["commit"] == (commit or None) and second["dirty"] in (True, False, None)
    newest = newest_checkpoint(tmp_path)
    assert newest is not None and read_weights(newest / "model.safetensors")[1] == "toy"


def test_speed_is_of_the_steps_of_this_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = RunConfig(out=tmp_path, device="cpu")
    resolved = Toy(run=config, optim=OptimConfig(batch_size=4))
    clock = iter((0.0, 100.0, 110.0))  # started, the model made, ended
    monkeypatch.setattr("shared.run_record.time", SimpleNamespace(monotonic=lambda: next(clock)))
    record = RunRecord(tmp_path, resolved, torch.device("cpu"), world_size=1)
    record.describe(nn.Linear(4, 2), first_step=30)
    record.close(80, None)
    (entry,) = read_record(tmp_path)
    assert (entry["seconds"], entry["ecg_per_second"]) == (10.0, 50 * 4 / 10)
