"""Encoders from weights of any method, and embeddings of ECG in memory.

from shared import embed, load_encoder
encoder = load_encoder("runs/st_mem/pretrain")
embeddings = embed(encoder, x, fs=500, leads=["I", "II", "V1"], unit="uV")
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shared.checkpoints import CheckpointError, find_weights, package_of, packages, read_weights
from shared.data.arrays import windows_of
from shared.data.spec import InputSpec
from shared.data.transforms import Preprocess
from shared.errors import UserError
from shared.outside import as_encoder, load_outside


def load_encoder(weights: str | Path) -> nn.Module:
    """The encoder of a run folder, a `model.safetensors` or a released file of any method, as it is evaluated.

    Args:
        weights: what to read; or `module:object`, an outside encoder (see `shared.outside`).

    Returns:
        In evaluation mode, with `embed`, `embed_dim` and `input_spec`.

    Raises:
        CheckpointError: nothing there, or of no method of this checkout.
        UserError: no such outside encoder.
    """
    if isinstance(weights, str) and re.fullmatch(r"[\w.]+:[\w.]+", weights) and not Path(weights).exists():
        return load_outside(weights)
    path = find_weights(weights)
    if path.suffix == ".safetensors":
        method = read_weights(path)[1]
        package = package_of(method)
        if package is None:
            raise CheckpointError(f"{path} is a checkpoint of {method}, which none of {', '.join(packages())} reads.")
        return _evaluated(package, path)
    refused = []
    for package in packages():
        try:
            return _evaluated(package, path)
        except CheckpointError as error:
            refused.append(f"{package}: {error}")
    raise CheckpointError(f"{path} is a file of no method here:\n  " + "\n  ".join(refused))


def _evaluated(package: str, path: Path) -> nn.Module:
    loading = importlib.import_module(f"{package}.loading")  # by name: `shared` does not know the methods
    model: nn.Module = loading.load_model(path)[0]
    whole = all(hasattr(model, name) for name in ("embed", "embed_dim", "input_spec"))
    encoder: nn.Module = model if whole else loading.encoder_of(model)
    return encoder.eval()


def embed(
    encoder: Any,
    x: Any,
    fs: float,
    leads: str | Sequence[str] | None = None,
    unit: str = "mV",
    *,
    num_crops: int = 1,
    batch_size: int = 64,
) -> np.ndarray:
    """Embeddings of ECG as it was recorded: resampled, its leads found by name, cut and preprocessed as the encoder needs.

    Args:
        encoder: of `load_encoder`, or anything with `embed` and `input_spec` (see `shared.outside`).
        x: `[n, L, T]`, or `[L, T]` of one record, of any type of numbers, NumPy or torch; a list of `[L, T]` of any lengths;
            or a DataFrame of one record, a line per sample and a column per lead.
        fs: its sampling rate, Hz.
        leads: names of its rows, in their order, in any spelling; None: the twelve as `shared.leads.LEADS` has them, or the
            columns of a DataFrame. Those that the encoder knows are used, limb leads that are missing are derived from I
            and II; fewer than the encoder's are a subset.
        unit: of the numbers: mV, uV or V.
        num_crops: evenly spaced windows per record, embeddings averaged; one is the middle.
        batch_size: records at a time.

    Returns:
        `[n, D]` float32.

    Warns:
        UserWarning: leads that are flat, or records whose amplitude no ECG has; they are embedded all the same.

    Raises:
        UserError: a transposed array, NaN, an amplitude that cannot be the unit given, a record without ECG, an unknown lead,
            none of the encoder's leads, an absurd rate, or records shorter than the encoder's window.
    """
    if min(num_crops, batch_size) < 1:
        raise UserError(f"num_crops {num_crops} and batch_size {batch_size}: expected 1 or more.")
    encoder = as_encoder(encoder)
    windows, subset = windows_of(encoder.input_spec, x, fs, leads, unit, num_crops)
    return embed_windows(encoder, windows, subset, batch_size)


@torch.inference_mode()
def embed_windows(encoder: Any, windows: Tensor, subset: tuple[str, ...] | None, batch_size: int) -> np.ndarray:
    """Embeddings `[n, D]` float32, the mean over crops, of windows as `windows_of` makes them.

    Args:
        encoder: has this project's face.
        windows: `[n, crops, L, W]`, mV.
        subset: their leads; None: all of the encoder's.
        batch_size: records at a time.

    Raises:
        UserError: the encoder gives another shape than `[B, D]`, or numbers that are not finite.
    """
    spec: InputSpec = encoder.input_spec
    parameter = next(iter(encoder.parameters()), None) if isinstance(encoder, nn.Module) else None
    device = parameter.device if parameter is not None else torch.device("cpu")
    preprocess = Preprocess(spec.with_leads(subset)).to(device)
    if isinstance(encoder, nn.Module):
        encoder.eval()
    args = () if subset is None else (subset,)
    found = []
    for batch in windows.split(batch_size):
        ecg = preprocess(batch.flatten(0, 1).to(device))
        embedded = torch.as_tensor(encoder.embed(ecg, *args)).float().cpu()
        if embedded.ndim != 2 or len(embedded) != len(ecg):
            raise UserError(f"the encoder returned shape {list(embedded.shape)}, expected [{len(ecg)}, D].")
        found.append(embedded.unflatten(0, batch.shape[:2]).mean(1))
    embeddings = torch.cat(found).numpy()
    broken = ~np.isfinite(embeddings).all(axis=1)
    if broken.any():
        raise UserError(f"{broken.sum()} of {len(broken)} embeddings hold NaN or infinity: the weights are broken.")
    return embeddings
