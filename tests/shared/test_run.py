"""A run resumes exactly, refuses what is not its own, and gives the same gradients on one process and on two."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from shared.checkpoints import WEIGHTS, CheckpointError, newest_checkpoint, read_weights
from shared.config import Section
from shared.epochs import Stop, exit_on_stop, require_finite
from shared.errors import UserError
from shared.ranks import pick_device
from shared.run import Run, RunConfig
from shared.run_folder import different_keys


class Inner(Section):
    width: int = 3


class Toy(Section):
    run: RunConfig
    model: Inner = Inner()
    note: str = ""


def make_run(out: Path, method: str = "toy", **values: Any) -> Run:
    model = values.pop("model", Inner())
    note = values.pop("note", "")
    config = RunConfig(out=out, device="cpu", **values)
    return Run(config, Toy(run=config, model=model, note=note), method)


def make_model() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 2))


def train(run: Run, model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
    """Steps in which data and dropout are random."""
    losses = []
    for step in steps:
        assert run.step == step
        generator = run.begin_step()
        loss = model(torch.randn(6, 4, generator=generator)).square().mean()
        run.scaler.scale(loss).backward()
        run.update(model, optimizer, clip_grad=1.0)
        losses.append(loss.item())
    return losses


# ---------------------------------------------------------------- checkpoints and resuming


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_resumed_run_equals_the_uninterrupted_one(tmp_path: Path, precision: str) -> None:
    with make_run(tmp_path / "whole", precision=precision) as run:
        whole = make_model()
        optimizer = torch.optim.AdamW(whole.parameters(), 0.01)
        expected = train(run, whole, optimizer, range(8))
    with make_run(tmp_path / "cut", precision=precision) as run:
        model = make_model()
        optimizer = torch.optim.AdamW(model.parameters(), 0.01)
        losses = train(run, model, optimizer, range(5))
        run.save(model, 5, optimizer=optimizer)
    torch.manual_seed(999)
    with make_run(tmp_path / "cut", precision=precision) as run:
        model = make_model()
        optimizer = torch.optim.AdamW(model.parameters(), 0.5)
        first = run.resume(model, optimizer=optimizer)
        assert first == 5
        losses += train(run, model, optimizer, range(first, 8))
    assert losses == expected
    for name, value in whole.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_nothing_to_resume_is_step_zero(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        assert run.resume(make_model()) == 0


def test_checkpoint_carries_config_and_no_pickled_object(tmp_path: Path) -> None:
    with make_run(tmp_path, note="hello") as run:
        model = make_model()
        optimizer = torch.optim.AdamW(model.parameters())
        train(run, model, optimizer, range(1))
        run.save(model, 1, optimizer=optimizer)
    folder = newest_checkpoint(tmp_path)
    assert folder is not None
    assert sorted(p.name for p in folder.iterdir()) == ["digests.json", WEIGHTS, "state.pt"]
    _, method, config = read_weights(folder / WEIGHTS)
    assert (method, config["note"], config["model"]) == ("toy", "hello", {"width": 3})
    assert torch.load(folder / "state.pt", weights_only=True)["step"] == 1
    assert "note: hello" in (tmp_path / "config.yaml").read_text()


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    with make_run(tmp_path, keep_checkpoints=2) as run:
        for step in (5, 10, 15, 20):
            run.save(make_model(), step)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-00000015", "step-00000020"]


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        first, second = make_model(), make_model()
        run.save(first, 5)
        run.save(second, 5)
        assert run.resume(first) == 5
    assert torch.equal(first[0].weight, second[0].weight)  # type: ignore[arg-type]


def test_disk_full_while_saving_leaves_the_former_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with make_run(tmp_path) as run:
        model = make_model()
        run.save(model, 5)
        run.wait_for_checkpoint()
        with monkeypatch.context() as patch:
            patch.setattr(torch, "save", full)
            with pytest.raises(OSError, match="No space"):
                run.save(make_model(), 10)
                run.wait_for_checkpoint()
        other = make_model()
        assert run.resume(other) == 5
        assert torch.equal(other[0].weight, model[0].weight)  # type: ignore[arg-type]
        run.save(model, 10)  # once there is room again
        assert run.resume(other) == 10


def test_checkpoint_of_another_method_is_refused(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        run.save(make_model(), 1)
    with make_run(tmp_path, method="other") as run, pytest.raises(CheckpointError, match="a run of toy, not of other"):
        run.resume(make_model())


def test_checkpoint_of_another_shape_is_refused(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        run.save(make_model(), 1)
        with pytest.raises(CheckpointError, match="does not fit Linear"):
            run.resume(nn.Linear(4, 4))


# ---------------------------------------------------------------- the run folder


def test_other_settings_are_refused_with_the_key(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        run.save(make_model(), 1)
    with pytest.raises(UserError, match=r"other settings: model\.width, run\.seed\. .*run\.overwrite=true"):
        make_run(tmp_path, seed=1, model=Inner(width=4)).__enter__()
    assert "width: 3" in (tmp_path / "config.yaml").read_text()


def test_what_does_not_change_numbers_may_change(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        run.save(make_model(), 1)
    with make_run(tmp_path, num_workers=2, checkpoint_every=3, keep_checkpoints=7) as run:
        assert run.resume(make_model()) == 1


def test_overwrite_starts_anew(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        run.log(1, loss=1.0)
        run.save(make_model(), 1)
    with make_run(tmp_path, overwrite=True, seed=1) as run:
        assert run.resume(make_model()) == 0
    assert (tmp_path / "log.jsonl").read_text() == ""


def test_overwrite_spares_a_folder_that_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with make_run(tmp_path, overwrite=True):
        pass
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_different_keys_names_section_and_key() -> None:
    a = {"model": {"width": 3, "input": {"fs": 250}}, "note": "x", "run": {"out": "a", "device": "cpu", "seed": 0}}
    assert different_keys(a, a) == set()
    b = {"model": {"width": 3, "input": {"fs": 500}}, "note": "y", "run": {"out": "b", "device": "cuda", "seed": 1}}
    assert different_keys(a, b) == {"model.input", "note", "run.seed"}
    assert different_keys(a, {**a, "optim": {"lr": 1}}) == {"optim"}
    assert different_keys({"model": {"width": 3}}, {"model": {}}) == {"model.width"}


def test_log_is_one_json_line_a_step(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        run.log(1, loss=0.5)
        run.log(2, loss=0.25, lr=1e-3)
        lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert lines[1]["loss"] == 0.25
    assert list((tmp_path / "tensorboard").glob("events*"))


# ---------------------------------------------------------------- one step


def draws(run: Run, step: int) -> tuple[float, float]:
    run.step = step
    generator = run.begin_step()
    return torch.rand(1).item(), torch.rand(1, generator=generator).item()


def test_randomness_is_a_function_of_seed_and_step_and_what_is_drawn_for_a_batch_not_of_the_rank(
    tmp_path: Path,
) -> None:
    run = make_run(tmp_path)
    first = draws(run, 3)
    draws(run, 4)
    assert draws(run, 3) == first
    other_rank = make_run(tmp_path)
    other_rank.rank, other_rank.world_size = 1, 2
    for values in (draws(run, 4), draws(make_run(tmp_path, seed=1), 3)):
        assert values[0] != first[0]
        assert values[1] != first[1]
    elsewhere = draws(other_rank, 3)
    assert elsewhere[0] != first[0]  # dropout of other records is another
    assert elsewhere[1] == first[1]
    assert (run.own(8), other_rank.own(8)) == (slice(0, 8), slice(4, 8))


def test_same_seed_same_initial_weights(tmp_path: Path) -> None:
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        with make_run(tmp_path / name, seed=seed):
            weights.append(make_model()[0].weight)  # type: ignore[index]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(("clip", "expected"), [(0.1, 0.1), (None, 5.0), (100.0, 5.0)])
def test_update_clips_and_returns_the_norm_before(tmp_path: Path, clip: float | None, expected: float) -> None:
    model = nn.Linear(2, 1, bias=False)
    before = model.weight.detach().clone()
    model.weight.grad = torch.tensor([[3.0, 4.0]])
    norm = make_run(tmp_path).update(model, torch.optim.SGD(model.parameters(), lr=1.0), clip)
    assert norm.item() == pytest.approx(5.0)
    assert (model.weight - before).norm().item() == pytest.approx(expected, rel=1e-4)
    assert model.weight.grad is None


def test_clipping_sees_the_gradient_without_the_loss_scale(tmp_path: Path) -> None:
    model = nn.Linear(2, 1, bias=False)
    before = model.weight.detach().clone()
    run = make_run(tmp_path, precision="fp16")
    run.scaler.scale((model.weight * torch.tensor([[3.0, 4.0]])).sum()).backward()
    norm = run.update(model, torch.optim.SGD(model.parameters(), lr=1.0), 10.0)
    assert norm.item() == pytest.approx(5.0)
    torch.testing.assert_close(before - model.weight, torch.tensor([[3.0, 4.0]]))


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_precision(tmp_path: Path, precision: str, dtype: torch.dtype) -> None:
    with make_run(tmp_path, precision=precision).autocast():
        assert nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == dtype


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_loss_that_is_no_number_stops_the_run(loss: float) -> None:
    with pytest.raises(UserError, match=r"at step 7\. Lower optim\.lr"):
        require_finite(loss, 7)
    require_finite(0.5, 7)


def test_effective_batch_must_divide(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert run.share_of(7) == 7
    run.world_size = 2
    assert run.share_of(8) == 4
    with pytest.raises(UserError, match="batch_size 7 .* 2 processes"):
        run.share_of(7)


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match="'gpu' is not a device; expected auto, cpu, cuda"):
        pick_device("gpu")
    with pytest.raises(UserError, match="no CUDA GPU is visible"):
        pick_device("cuda:1")


# ---------------------------------------------------------------- signals


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_signal_asks_to_stop_and_gives_its_exit_code(tmp_path: Path, signum: signal.Signals, code: int) -> None:
    before = signal.getsignal(signum)

    def main(_: object) -> None:
        with make_run(tmp_path) as run:
            assert not run.check_signal()
            os.kill(os.getpid(), signum)
            assert run.check_signal()
            run.save(make_model(), 1)
            raise run.stop()

    with pytest.raises(SystemExit) as end:
        exit_on_stop(main)([])
    assert end.value.code == code
    assert signal.getsignal(signum) is before
    assert newest_checkpoint(tmp_path) is not None


def test_second_interrupt_does_not_wait(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)  # ignored where the tests run in the background of a script
    with pytest.raises(KeyboardInterrupt), make_run(tmp_path):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_signal_that_comes_while_ranks_agree_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "all_reduce", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Stop) as stop, make_run(tmp_path) as run:
        run.world_size = 2
        run.check_signal()
        monkeypatch.setattr(dist, "all_reduce", lambda *_, **__: None)
        assert run.check_signal()
        run.world_size = 1
    assert stop.value.exit_code == 143
