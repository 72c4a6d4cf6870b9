"""WFDB records written by a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import wfdb

from shared.leads import LEADS


def write_record(
    folder: Path,
    name: str,
    ecg: np.ndarray,
    fs: float = 250,
    leads: Any = LEADS,
    unit: str = "mV",
    comments: list[str] | None = None,
) -> Path:
    """A WFDB record of `ecg [L, T]` at 1000 steps a unit; returns its path without extension."""
    folder.mkdir(parents=True, exist_ok=True)
    num = len(ecg)
    wfdb.wrsamp(
        name,
        fs=fs,
        units=[unit] * num,
        sig_name=list(leads),
        p_signal=np.ascontiguousarray(ecg.T, dtype=np.float64),
        fmt=["16"] * num,
        adc_gain=[1000.0] * num,
        baseline=[0] * num,
        comments=comments or [],
        write_dir=str(folder),
    )
    return folder / name


def draw_ecg(seed: int = 0, num_samples: int = 2500) -> np.ndarray:
    """Twelve leads that obey the identities, whole microvolts: even for I and II, so that the halves are whole too."""
    rng = np.random.default_rng(seed)
    eight = 2 * rng.integers(-400, 400, (8, num_samples))
    one, two = eight[:2]
    return np.vstack([one, two, two - one, -(one + two) // 2, one - two // 2, two - one // 2, eight[2:]]) / 1000
