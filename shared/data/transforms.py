"""Batch transforms, run on whole batches on the training device: scale, filter, standardise, crop positions.

The zero-phase Butterworth filter is a linear map for a fixed length, so `sosfiltfilt` of the identity, computed once, is applied
as one matrix product.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from shared.data.spec import InputSpec
from shared.data.store import MICROVOLT
from shared.nn import full_products

FILTER_ORDER = 5
LEAST_SD = 1e-4
"""mV; a tenth of a stored step. Below it there is no ECG, only rounding."""


def butterworth(ecg: np.ndarray, spec: InputSpec) -> np.ndarray:
    """The filter by scipy: high-pass, then low-pass, each zero-phase of order 5, along the last axis."""
    from scipy.signal import butter, sosfiltfilt  # slow to import, and needed only where a filter is asked for

    for edge, kind in ((spec.highpass, "highpass"), (spec.lowpass, "lowpass")):
        if edge is not None:
            ecg = sosfiltfilt(butter(FILTER_ORDER, edge, kind, fs=spec.fs, output="sos"), ecg, axis=-1)
    return ecg


@lru_cache(maxsize=8)
def filter_matrix(spec: InputSpec) -> Tensor | None:
    """`[T, T]` float32 with `x @ matrix` the filtered `x`; None where the spec asks for no filter.

    Raises:
        ValueError: windows too short for the filter's padding (scipy's own limit).
    """
    if spec.highpass is None and spec.lowpass is None:
        return None
    return torch.from_numpy(butterworth(np.eye(spec.num_samples), spec).astype(np.float32))


class Preprocess(nn.Module):
    """Stored integers to the model's input, as its InputSpec says.

    Rows of features, below the leads, pass through as they are: the model scales them itself.

    Args:
        spec: the contract; filter and standardisation come from it.
        scale: of the store: mV (or its own unit) per step of the integers.
    """

    matrix: Tensor | None

    def __init__(self, spec: InputSpec, scale: float = MICROVOLT) -> None:
        super().__init__()
        self.spec, self.scale = spec, scale
        # Rebuilt from the spec, so it travels with no checkpoint.
        self.register_buffer("matrix", filter_matrix(spec), persistent=False)

    @torch.no_grad()
    def forward(self, ecg: Tensor) -> Tensor:
        """Scale, filter, standardise.

        Args:
            ecg: `[B, L, T]`, int16 in µV or float in mV, with T = spec.num_samples; `[B, L + F, T]` with features.

        Returns:
            float32 of the same shape.
        """
        ecg = self.millivolts(ecg)
        leads = ecg[:, : len(self.spec.leads)] if self.spec.features else ecg
        if not leads.shape[1]:
            return ecg
        mean, std = level_and_scale(leads, self.spec.standardize)
        # In place: fresh pages are most of the cost of a batch on a CPU.
        if mean is not None and std is not None:
            leads.sub_(mean).div_(std)
        return ecg

    def with_scale(self, ecg: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `forward`, with the mean and deviation `[B, 1 or L, 1]` that bring a model's output back to mV."""
        ecg = self.millivolts(ecg)
        mean, std = level_and_scale(ecg, self.spec.standardize)
        if mean is None or std is None:
            return ecg, torch.zeros_like(ecg[:, :1, :1]), torch.ones_like(ecg[:, :1, :1])
        return (ecg - mean) / std, mean, std

    def millivolts(self, ecg: Tensor) -> Tensor:
        """Stored integers (or mV) to filtered float32 mV, `[B, L, T]`, always a copy; features stay as they are."""
        ecg = ecg.float().clone() if ecg.is_floating_point() else ecg.float().mul_(self.scale)
        if self.matrix is not None:
            # In full float32 whatever the training computes in: bf16 and TF32 would cost the small waves of the ECG.
            with torch.autocast(ecg.device.type, enabled=False), full_products():
                if not self.spec.features:
                    return ecg @ self.matrix
                leads = ecg[:, : len(self.spec.leads)]
                leads.copy_(leads @ self.matrix)
        return ecg


def level_and_scale(ecg: Tensor, how: str) -> tuple[Tensor | None, Tensor | None]:
    """Mean and deviation over leads and time together (`record`), over time per lead (`lead`), or None (`none`).

    The deviation is the population's, as numpy's and the published preprocessing's; a constant signal gets a small one, so
    that it becomes zeros but for rounding, and not NaN or rounding noise blown up.
    """
    if how == "none":
        return None, None
    axes = (-2, -1) if how == "record" else (-1,)
    return ecg.mean(axes, keepdim=True), ecg.std(axes, keepdim=True, correction=0).clamp_min(LEAST_SD)


def even_starts(available: int, length: int, count: int) -> np.ndarray:
    """First samples of `count` windows spread evenly over the record; one window is centred.

    Returns:
        `[count]` int64.
    """
    if length > available:
        raise ValueError(f"windows of {length} samples do not fit into {available}.")
    if count == 1:
        return np.array([(available - length) // 2])
    return np.linspace(0, available - length, count).astype(np.int64)
