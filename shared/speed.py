"""What `run.precision` and `run.compile` mean on the device at hand. Loaded by a run, read by nobody who reads a training."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Literal, TypeVar

import torch
from torch import nn

from shared.checkpoints import WEIGHTS, CheckpointError, newest_checkpoint, read_weights
from shared.config import Section

if TYPE_CHECKING:
    from shared.run import RunConfig

S = TypeVar("S", bound=Section)


def settled(config: RunConfig, resolved: S, device: torch.device) -> tuple[RunConfig, S]:
    """Both with a precision instead of `auto`, so that the folder says what was computed with.

    Args:
        config: the `run` section.
        resolved: the whole config.
        device: of the run.
    """
    if config.precision != "auto":
        return config, resolved
    decided = {"precision": (None if config.overwrite else begun_with(config)) or default_precision(device)}
    run = getattr(resolved, "run", None)
    if run is not None:
        resolved = resolved.model_copy(update={"run": run.model_copy(update=decided)})
    return config.model_copy(update=decided), resolved


def default_precision(device: torch.device) -> str:
    """bf16 where the GPU computes in it, else fp32."""
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"


def begun_with(config: RunConfig) -> str | None:
    """The precision of the run in the folder, which a run must keep to go on exactly; None where there is none to read."""
    newest = newest_checkpoint(config.out, weights_only=True)
    try:
        saved = read_weights(newest / WEIGHTS)[2].get("run", {}) if newest is not None else {}
    except CheckpointError:
        return None  # `resume` will say so
    found = saved.get("precision")
    return None if found == "auto" else found


def compile_model(model: nn.Module, how: bool | Literal["auto", "reduce-overhead"], device: torch.device) -> None:
    """Compile a model in place, as `run.compile` says.

    Sizes are taken as they are but for those that the model marks (`torch._dynamo.maybe_mark_dynamic`): a step of
    ECG-JEPA with another number of visible times compiles nothing new.

    Args:
        model: on its device; `auto` compiles those that say `compiles = True` alone.
        how: not false.
        device: its device.
    """
    if how == "auto":
        if device.type != "cuda" or not getattr(model, "compiles", False):
            return
        lacking = lacks(device)
        if lacking is not None:
            print(f"not compiled, as {lacking} (run.compile=false says nothing, true tries all the same)")
            return
    model.compile(mode=how if how == "reduce-overhead" else None)


def lacks(device: torch.device) -> str | None:
    """What torch.compile needs on a GPU and does not find; None where it has all."""
    if torch.cuda.get_device_capability(device) < (7, 0):
        return f"{torch.cuda.get_device_name(device)} is older than Triton takes"
    if not torch.utils._triton.has_triton():
        return "there is no Triton"
    if not any(map(shutil.which, ("cc", "gcc", "clang"))):
        return "there is no C compiler, which Triton needs"
    return None
