"""The folder of a run: whose it is, what may change when it goes on, its checkpoints and its log, written."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from pydantic import ValidationError
from torch import Tensor, nn

from shared.checkpoints import (
    WEIGHTS,
    CheckpointError,
    checkpoints_of,
    load_state,
    newest_checkpoint,
    read_weights,
    save_weights,
    step_of,
)
from shared.config import Section, to_yaml
from shared.errors import UserError
from shared.files import clean_up, keep_lines_until, move_aside, write_folder
from shared.run_record import read_record

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from shared.run import Run

BEST = "best"
"""Folder in a run for the weights that a figure of its monitor chose; loaded as `encoder.weights=RUN/best`."""

FREE = {f"run.{key}" for key in ("out", "device", "compile", "parallel", "num_workers", "overwrite")}
FREE |= {"model.recompute", "model.cropa"}
FREE |= {f"run.{key}" for key in ("checkpoint_every", "checkpoint_minutes", "checkpoint_async", "keep_checkpoints")}
"""Where and on what a run executes: no number depends on it."""


def different_keys(saved: Mapping[str, Any], now: Mapping[str, Any]) -> set[str]:
    """Top-level or `section.key` names whose values differ; where and on what a run executes does not count."""
    keys: set[str] = set()
    for name in saved.keys() | now.keys():
        a, b = saved.get(name), now.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            keys |= {f"{name}.{key}" for key in a.keys() | b.keys() if a.get(key) != b.get(key)}
        elif a != b:
            keys.add(name)
    return keys - FREE


def claim_folder(out: Path, resolved: Section, overwrite: bool) -> None:
    """Make a run's folder, or check that it holds this very run, perhaps to be made longer. The caller holds its lock.

    Args:
        out: the folder.
        resolved: the whole config, written to its `config.yaml`.
        overwrite: whether to delete another run.

    Raises:
        UserError: it holds a run with other settings, or may not be written.
    """
    require_writable(out)
    clean_up(out.parent, out.name)  # what a killed overwrite=true left
    aside = move_aside(out) if overwrite and (out / "config.yaml").is_file() else None
    out.mkdir(parents=True, exist_ok=True)
    clean_up(out / "checkpoints")
    newest = newest_checkpoint(out, weights_only=True)  # its config stands with them; `resume` looks at the rest
    if newest is not None:
        _, _, saved = read_weights(newest / WEIGHTS)
        with suppress(ValidationError):  # keys that are younger than the run take their defaults
            saved = type(resolved).model_validate(saved).model_dump(mode="json")
        check_settings(out, saved, resolved)
    (out / "config.yaml").write_text(to_yaml(resolved))
    if aside is not None:
        shutil.rmtree(aside)


def require_writable(out: Path) -> None:
    """Find out before training whether a run folder, where it is there, may be written.

    Raises:
        UserError: it may not, or what lies in it.
    """
    for folder in (out, out / "checkpoints", out / "figures"):
        try:
            if folder.exists():
                with TemporaryFile(dir=folder):
                    pass
        except OSError as error:
            raise UserError(f"{folder} cannot be written: {error.strerror}. {RIGHTS}") from None
    for name in ("log.jsonl", "config.yaml"):
        if (out / name).exists() and not os.access(out / name, os.W_OK):
            raise UserError(f"{out / name} cannot be written: it is another user's. {RIGHTS}")


RIGHTS = "Give another run.out, or get the right to write there."


def check_settings(out: Path, saved: Mapping[str, Any], resolved: Section) -> None:
    """Refuse to go on with a run under settings that would change its numbers.

    Args:
        out: its folder.
        saved: the config it was begun with.
        resolved: the one it would go on with.

    Raises:
        UserError: naming the keys; of another number of epochs, why this run cannot take it.
    """
    now = resolved.model_dump(mode="json")
    other = sorted(different_keys(saved, now))
    if other == ["optim.epochs"]:
        before, wanted = saved["optim"]["epochs"], now["optim"]["epochs"]
        reason = getattr(resolved, "fixed_epochs", "its loop does not say that it can be made longer")
        if wanted < before:
            reason = f"a run is not made shorter; its checkpoints are in {out / 'checkpoints'}"
        if reason is None:
            print(f"{out}: optim.epochs {before} becomes {wanted}")
            return
        raise UserError(
            f"{out} was begun with optim.epochs={before} and cannot go on to {wanted}: {reason}. Start another run with "
            f"run.out=… optim.epochs={wanted}, or run.overwrite=true to start this one anew."
        )
    if other:
        raise UserError(
            f"{out} holds a run with other settings: {', '.join(other)}. "
            "Give another run.out, or run.overwrite=true to start anew."
        )


def load_checkpoint(
    folder: Path,
    model: nn.Module,
    method: str,
    state: Mapping[str, Any],
    device: torch.device,
) -> dict[str, Any]:
    """Load a checkpoint into a model and into what goes on with it.

    Args:
        folder: of the checkpoint.
        model: gets the weights.
        method: what the checkpoint must be of.
        state: name to an object with `load_state_dict`; what the checkpoint does not know of starts anew, saying so.
        device: where the training goes on.

    Returns:
        All of `state.pt`.

    Raises:
        CheckpointError: of another method, of another model, or of another version of this project that kept other things.
    """
    changes = changed_code(folder.parents[1])
    weights, found, _ = read_weights(folder / WEIGHTS)
    if found != method:
        raise CheckpointError(f"{folder} is a run of {found}, not of {method}. Choose another run.out.")
    spread = dist.is_initialized()  # perhaps over ranks
    if spread:
        from shared.sharded import spread_like, spread_moments

        weights = spread_like(model.state_dict(), weights)
    try:
        load_state(model, weights, folder)
    except CheckpointError as error:
        raise CheckpointError(f"{error}\nThe model has changed since. {changes}{ANEW}") from None
    saved: dict[str, Any] = torch.load(folder / "state.pt", map_location=device, weights_only=True)
    for name, target in state.items():
        if name in saved:
            if spread and isinstance(target, torch.optim.Optimizer):
                saved[name] = spread_moments(target, saved[name])
            try:
                target.load_state_dict(saved[name])
                if isinstance(target, torch.optim.Optimizer):
                    check_moments(target)
            except (ValueError, KeyError, TypeError, RuntimeError) as error:
                reason = next(iter(str(error).splitlines()), type(error).__name__)
                told = f"{folder}: the state of {name} does not fit this training: {reason}. {changes}{ANEW}"
                raise CheckpointError(told) from None
        else:
            print(f"{folder} is older than what is kept of {name}; that starts anew")
    if changes:
        print(f"{folder}: {changes}Steps from here on are this version's.")
    return saved


ANEW = "Go on with the version that wrote it, or begin another run with its weights: run.out=… start_from=RUN where they fit."


def changed_code(run: Path) -> str:
    """A sentence on what a run's last start and this one differ in, of the code and of PyTorch; empty where they do not."""
    starts = [
        (str(e.get("commit") or "unknown")[:10], e.get("packages", {}).get("torch")) for e in read_record(run)[-2:]
    ]
    if len(starts) < 2 or starts[0] == starts[1]:
        return ""
    (commit, version), (now, version_now) = starts
    return f"It was written by commit {commit} with torch {version}; this is {now} with torch {version_now}. "


def check_moments(optimizer: torch.optim.Optimizer) -> None:
    """Whether each moment has the shape of its parameter; they are told apart by their order alone.

    Raises:
        ValueError: one has another.
    """
    for group in optimizer.param_groups:
        for number, parameter in enumerate(group["params"]):
            for name in ("exp_avg", "exp_avg_sq", "momentum_buffer"):
                moment = optimizer.state.get(parameter, {}).get(name)
                if isinstance(moment, Tensor) and moment.shape != parameter.shape:
                    shapes = f"{tuple(moment.shape)} for {tuple(parameter.shape)}"
                    raise ValueError(f"{name} of parameter {number} has shape {shapes}")


def write_checkpoint(
    run: Path,
    step: int,
    weights: Mapping[str, Tensor],
    method: str,
    config: Mapping[str, Any],
    state: Mapping[str, Any],
    keep: int,
) -> None:
    """Write `checkpoints/step-N/` of a run whole: weights, and `state.pt` for the training to go on; older ones go.

    Args:
        run: its folder.
        step: optimizer steps done.
        weights: by the model's own names.
        method, config: stored with the weights.
        state: tensors, numbers, and containers of them.
        keep: how many checkpoints stay.

    Raises:
        OSError: it could not be written; the former ones are untouched.
    """

    def write(folder: Path) -> None:
        save_weights(folder / WEIGHTS, weights, method, config)
        torch.save(dict(state), folder / "state.pt")

    write_folder(run / "checkpoints" / f"step-{step:08d}", write)
    # Later ones are damaged and were passed over; they must not count among those that are kept.
    until = [folder for folder in checkpoints_of(run) if step_of(folder) <= step]
    for old in until[:-keep]:
        shutil.rmtree(old)


def keep_best(run: Run, model: nn.Module, epoch: int, metric: str, value: float, smaller: bool) -> None:
    """Write the weights to `best/` of a run where the figure is better than that of an earlier step's that lies there.

    A later step's is one that this run, which was resumed before it, will come to again.

    Args:
        run: its step is the figure's.
        model: whose weights.
        epoch: counted from 1.
        metric, value: what it is and how much.
        smaller: whether less is better.
    """
    folder = run.out / BEST
    try:
        known = json.loads((folder / f"{BEST}.json").read_text())
        better = value < known["value"] if smaller else value > known["value"]
        if known["metric"] == metric and known["step"] < run.step and not better:
            return
    except (OSError, ValueError, KeyError, TypeError):
        pass  # there is none yet, or none that can be read
    said = {"metric": metric, "value": value, "step": run.step, "epoch": epoch}

    def write(into: Path) -> None:
        save_weights(into / WEIGHTS, model.state_dict(), run.method, run.resolved.model_dump(mode="json"))
        (into / f"{BEST}.json").write_text(json.dumps(said))

    clean_up(run.out, BEST)
    write_folder(folder, write)


class RunLog:
    """`log.jsonl` and TensorBoard of a run: a line and a point per value of each step that is logged.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = (folder / "log.jsonl").open("a")
        self._board: SummaryWriter | None = None

    def write(self, step: int, **values: float) -> None:
        """One line, and one point per value."""
        self._file.write(json.dumps({"step": step, "time": round(time.time(), 3), **values}) + "\n")
        self._file.flush()
        if self._board is None:  # now that the step is known from which on earlier points are void
            from torch.utils.tensorboard import SummaryWriter  # half a second, which a run without a log need not wait

            self._board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=step)
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def keep_until(self, step: int) -> None:
        """Drop what comes after a step: the run writes it again."""
        self._file.close()
        keep_lines_until(self.folder / "log.jsonl", step)
        self._file = (self.folder / "log.jsonl").open("a")

    def close(self) -> None:
        """Write out what is held back."""
        self._file.close()
        if self._board:
            self._board.close()
