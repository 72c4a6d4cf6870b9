"""Weights in and out: safetensors with their config inside, and released checkpoints under foreign names. No pickled objects."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from shared.config import REPO_ROOT, repo_path
from shared.errors import UserError

WEIGHTS = "model.safetensors"


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, or of another model."""


def save_weights(path: Path, state: Mapping[str, Tensor], method: str, config: Mapping[str, Any]) -> None:
    """Write weights with their method and config in the header; the final name appears only when the file is whole."""
    partial = path.with_name(f".{path.name}.partial")
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    save_file(tensors, partial, metadata={"method": method, "config": json.dumps(config)})
    os.replace(partial, path)


def read_weights(path: Path) -> tuple[dict[str, Tensor], str, dict[str, Any]]:
    """State dict, method and config of a `model.safetensors` that this project wrote.

    Raises:
        CheckpointError: it cannot be read, or carries no config.
    """
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from None
    if "config" not in meta or "method" not in meta:
        raise CheckpointError(f"{path} carries no config: it was not written by this project.")
    return state, meta["method"], json.loads(meta["config"])


Loader = Callable[[Mapping[str, Tensor], Mapping[str, Any], Path], nn.Module]
"""`(state dict, config, path for messages)` of a checkpoint to its model."""


def load_checkpoint(
    weights: str | Path, released: Callable[[Path], nn.Module], loaders: Mapping[str, Loader]
) -> tuple[nn.Module, dict[str, Any]]:
    """A model from a run folder, a `model.safetensors`, or a released file.

    Args:
        weights: as `find_weights` takes it.
        released: reads any file that is not this project's.
        loaders: method name in a checkpoint to how it is read.

    Returns:
        The model in evaluation mode, and the whole config it was trained with; empty where it is not known.

    Raises:
        CheckpointError: nothing there, or a checkpoint of another method.
    """
    path = find_weights(weights)
    if path.suffix != ".safetensors":
        return released(path), {}
    state, method, config = read_weights(path)
    if method not in loaders:
        package = package_of(method)
        hint = f" It is for the programs of {package}, e.g. python -m {package}.evaluate." if package else ""
        if package is not None and package == package_of(next(iter(loaders))):
            hint = f" {package} wrote it and does not read it: LOADERS of {package}.loading needs a line {method!r}."
        raise CheckpointError(f"{path} is a checkpoint of {method}, not of {', '.join(loaders)}.{hint}")
    return loaders[method](state, config, path).eval(), config


def packages() -> list[str]:
    """The method packages of this checkout: those with a module `loading`."""
    return sorted(file.parent.name for file in REPO_ROOT.glob("*/loading.py"))


def package_of(method: str) -> str | None:
    """The package that reads a checkpoint of this method: `st_mem_modified` of `st_mem_vqvae`; None where there is none."""
    return next((name for name in packages() if f"{method}_".startswith(f"{name.removesuffix('_modified')}_")), None)


def start_from(model: nn.Module, weights: Path | None, method: str) -> None:
    """Give a model that is about to be trained the weights of another run of the same method; None leaves it as it is.

    Raises:
        CheckpointError: nothing there, of another method, or of another architecture.
    """
    if weights is not None:
        state, found, _ = read_weights(find_weights(weights))
        if found != method:
            raise CheckpointError(f"start_from={weights} is a run of {found}, not of {method}.")
        load_state(model, state, weights)


def load_part(model: nn.Module, state: Mapping[str, Tensor], prefix: str, origin: str | Path) -> None:
    """`load_state` of the part of a state dict below a prefix, such as the `encoder.` of a larger model."""
    load_state(model, {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}, origin)


def find_weights(run_or_file: str | Path) -> Path:
    """The weights of a run folder (its newest checkpoint), a checkpoint folder, or the file itself.

    Raises:
        CheckpointError: nothing there.
    """
    path = repo_path(run_or_file)
    if path.is_file():
        return path
    for folder in (path, newest_checkpoint(path, weights_only=True)):
        if folder is not None and (folder / WEIGHTS).is_file():
            return folder / WEIGHTS
    raise CheckpointError(
        f"{path} holds no weights. Give a run folder (with checkpoints/*/{WEIGHTS}), such a file, or a released .pth."
    )


def checkpoints_of(run: Path) -> list[Path]:
    """The checkpoint folders of a run, by step; whatever else lies there is none of ours."""
    found = [path for path in (run / "checkpoints").glob("step-*") if re.fullmatch(r"step-\d+", path.name)]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """The step that a checkpoint folder's name says."""
    return int(checkpoint.name.removeprefix("step-"))


def newest_checkpoint(run: Path, weights_only: bool = False) -> Path | None:
    """The newest checkpoint that is whole (or its weights are), if any; damaged ones after it are passed over, saying so.

    Raises:
        CheckpointError: there are checkpoints, and none is whole.
    """
    from shared.files import damage  # here: what looks at bytes is loaded where it is used

    problems: list[str] = []
    for folder in reversed(checkpoints_of(run)):
        problem = damage(folder, WEIGHTS, weights_only)
        if problem is None:
            for passed in problems:
                print(f"damaged and passed over: {passed}")
            return folder
        problems.append(f"{folder}: {problem}")
    if problems:
        raise CheckpointError(
            f"no checkpoint of {run} is whole ({'; '.join(problems)}). Bring one back from a copy, or start anew with "
            "run.overwrite=true."
        )
    return None


def load_state(model: nn.Module, state: Mapping[str, Tensor], origin: str | Path, verbose: bool = False) -> None:
    """Load a state dict that must match the model completely.

    Args:
        model: gets the weights.
        state: by the model's own names.
        origin: what to call the file in messages.
        verbose: print the counts also when all is well.

    Raises:
        CheckpointError: any key missing, unexpected or of another shape; all are listed, nothing is loaded.
    """
    own = model.state_dict()
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    wrong = [
        f"{name} (file {tuple(state[name].shape)}, model {tuple(own[name].shape)})"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    matched = len(own) - len(missing) - len(wrong)
    counts = f"{matched} matched, {len(missing)} missing, {len(unexpected)} unexpected, {len(wrong)} wrong shape"
    if missing or unexpected or wrong:
        lists = [
            f"\n  {title}: {', '.join(names[:8])}{f', … {len(names) - 8} more' if len(names) > 8 else ''}"
            for title, names in (("missing", missing), ("unexpected", unexpected), ("wrong shape", wrong))
            if names
        ]
        raise CheckpointError(f"{origin} does not fit {type(model).__name__}: {counts}.{''.join(lists)}")
    model.load_state_dict(state)
    if verbose:
        print(f"{origin}: {counts}")


def read_released(path: str | Path) -> dict[str, Tensor]:
    """State dict of a released `.pth`, read with `weights_only=True`.

    Args:
        path: the file.

    Raises:
        CheckpointError: missing, damaged, or not a dict of tensors.
    """
    path = repo_path(path)
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} does not exist.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged or unsafe file
        reason = next(iter(str(error).splitlines()), type(error).__name__)  # an empty file has an error without a word
        raise CheckpointError(f"{path} cannot be read with weights_only=True: {reason}") from None
    # Released files nest the state under `model` (ST-MEM) or `encoder` (ECG-JEPA); a bare state dict is taken as it is.
    nested = (content.get(key) for key in ("model", "encoder")) if isinstance(content, dict) else ()
    state = next((found for found in nested if isinstance(found, dict)), content)
    tensors = (
        {k: v for k, v in state.items() if isinstance(k, str) and isinstance(v, Tensor)}
        if isinstance(state, dict)
        else {}
    )
    if not tensors:
        raise CheckpointError(
            f"{path} holds no state dict (names to tensors), neither under 'model' or 'encoder' nor at top level."
        )
    return tensors
