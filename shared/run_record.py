"""Provenance: with what code, libraries, device and data something was computed, and how fast."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import nn

from shared.config import REPO_ROOT, Section

RECORD = "provenance.json"
PACKAGES = ("torch", "numpy", "scipy", "pandas", "scikit-learn", "timm", "einops", "wfdb", "pydantic", "safetensors")
"""Whose versions can change a number."""


def surroundings(device: torch.device) -> dict[str, Any]:
    """Code, libraries and machine: git commit and whether files differ from it, versions, device, command, time."""
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    return {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": " ".join(sys.argv),
        "commit": commit,
        "dirty": None if changes is None else bool(changes),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {os.cpu_count()} cores",
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
    }


def say_surroundings(found: Mapping[str, Any]) -> str:
    """The commit, PyTorch and the device of `surroundings` in a line for a page; `provenance.json` has all."""
    commit = "no git commit" if found["commit"] is None else f"commit {found['commit'][:10]}"
    changes = " with changes" if found["dirty"] else ""
    return f"{commit}{changes}, torch {found['packages']['torch']}, {found['device']}, {found['started']}"


def store_fingerprint(store: Any) -> Any:
    """What `store.json` calls the records that were read, of a list of stores each; None where there is no such file."""
    if isinstance(store, list):
        return [{"path": str(s.path), "weight": s.weight, "fingerprint": store_fingerprint(s.path)} for s in store]
    try:
        return str(json.loads((store / "store.json").read_text())["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def num_parameters(model: nn.Module) -> int:
    """Trained and frozen ones alike."""
    return sum(parameter.numel() for parameter in model.parameters())


class RunRecord:
    """`provenance.json` of a run: a list with one entry for each time that it was started.

    Args:
        folder: of the run.
        resolved: its config.
        device, world_size: on what it runs.
    """

    def __init__(self, folder: Path, resolved: Section, device: torch.device, world_size: int) -> None:
        self._path, self._began = folder / RECORD, time.monotonic()
        self._batch = getattr(getattr(resolved, "optim", None), "batch_size", None)
        run, data = getattr(resolved, "run", None), getattr(resolved, "data", None)
        self._entries = read_record(folder)
        self._entry: dict[str, Any] = {
            **surroundings(device),
            "world_size": world_size,
            "precision": getattr(run, "precision", None),
            "seed": getattr(run, "seed", None),
            "store": store_fingerprint(data.store) if data is not None else None,
            "first_step": 0,
            "ended": None,
        }
        self._write()

    def describe(self, model: nn.Module, first_step: int) -> None:
        """What is trained, and from which step on; the time of the steps counts from here."""
        self._entry |= {"parameters": num_parameters(model), "first_step": first_step}
        self._began = time.monotonic()
        self._write()

    def close(self, last_step: int, error: BaseException | None) -> None:
        """How it ended, after which step, and how fast it was; validation and checkpoints are part of the time."""
        seconds = time.monotonic() - self._began
        steps = last_step - self._entry["first_step"]
        ended = "done" if error is None else f"stopped: {type(error).__name__}: {error}".splitlines()[0]
        self._entry |= {"ended": ended, "last_step": last_step, "seconds": round(seconds, 2)}
        if steps and self._batch:
            self._entry["ecg_per_second"] = round(steps * self._batch / seconds, 2)
        try:
            self._write()
        except OSError as full:  # it must not hide what ended the run
            print(f"{self._path} could not be written: {full}", file=sys.stderr)

    def _write(self) -> None:
        write_record(self._path.parent, [*self._entries, self._entry])


def read_record(folder: Path) -> list[dict[str, Any]]:
    """The entries of a `provenance.json`; none where there is none that can be read."""
    try:
        found = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError):
        return []
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def write_record(folder: Path, entries: list[dict[str, Any]]) -> None:
    """Write them whole, or leave what was there."""
    partial = folder / f".{RECORD}.partial"
    partial.write_text(json.dumps(entries, indent=1))
    os.replace(partial, folder / RECORD)


def _git(*arguments: str) -> str | None:
    """What git says of this checkout; None where it is none, or there is no git."""
    try:
        done = subprocess.run(["git", "-C", str(REPO_ROOT), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
