"""Reference tensors beside the project; tests that need them skip, saying so, where they are absent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shared.config import REPO_ROOT

GOLDEN = REPO_ROOT.parent / "shared" / "golden"
DATA = REPO_ROOT.parent / "shared" / "data"


def golden_file(name: str) -> Path:
    """Path of a reference file, or skip."""
    if not (GOLDEN / name).is_file():
        pytest.skip(f"reference file {name} is not beside the project")
    return GOLDEN / name


def real_data(name: str) -> Path:
    """Folder of a real database sample, or skip."""
    if not (DATA / name).is_dir():
        pytest.skip(f"the sample of {name} is not beside the project")
    return DATA / name


class Golden:
    """One `.npz`: `meta`, `state`, and arrays as tensors."""

    def __init__(self, name: str) -> None:
        with np.load(golden_file(name), allow_pickle=False) as file:
            self.arrays = {key: file[key] for key in file.files if key != "meta"}
            self.meta: dict[str, Any] = json.loads(str(file["meta"]))

    def __getitem__(self, key: str) -> torch.Tensor:
        return torch.from_numpy(np.asarray(self.arrays[key]))

    def group(self, prefix: str) -> dict[str, torch.Tensor]:
        """All arrays below `prefix/`."""
        return {key[len(prefix) + 1 :]: self[key] for key in self.arrays if key.startswith(f"{prefix}/")}


def relative_error(got: torch.Tensor, want: torch.Tensor) -> float:
    """Largest deviation relative to the largest reference value."""
    got = got.detach()
    return float((got - want).abs().max() / want.abs().max().clamp_min(1e-12))
