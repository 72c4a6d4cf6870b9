"""Embed a store once: every protocol works on the same cached embeddings."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from shared.data.loader import eval_batches
from shared.data.spec import InputSpec
from shared.data.store import ECGStore
from shared.data.transforms import Preprocess
from shared.errors import UserError


class Encoder(Protocol):
    """What an encoder must offer to be evaluated."""

    embed_dim: int
    input_spec: InputSpec

    def embed(self, ecg: Tensor, leads: Sequence[str] | None = None) -> Tensor:
        """`[B, L, T]`, preprocessed as `input_spec` says, to `[B, D]`; `leads` names the rows where they are a subset."""
        ...


@torch.inference_mode()
def embed_store(
    encoder: Encoder,
    store: ECGStore,
    indices: np.ndarray,
    *,
    leads: Sequence[str] | None = None,
    num_crops: int = 1,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    name: str = "embed",
) -> np.ndarray:
    """Embeddings of these records, the mean over evenly spaced crops.

    Args:
        encoder: evaluated as it is; a module is put on the device and into evaluation mode.
        store: must satisfy the encoder's InputSpec.
        indices: records, in the order of the result.
        leads: a subset of the encoder's leads; None takes them all.
        num_crops: windows per record.
        batch_size: records at a time.
        device: where to compute.
        dtype: autocast type; None computes in float32.
        name: of the progress bar.

    Returns:
        `[n, D]` float32.

    Raises:
        StoreError: the store cannot satisfy the InputSpec.
        UserError: the encoder gives another shape than `[B, embed_dim]`, or values that are not finite.
    """
    device = torch.device(device)
    spec = encoder.input_spec.with_leads(leads)
    preprocess = Preprocess(spec, store.scale).to(device)
    if isinstance(encoder, nn.Module):
        encoder.to(device).eval()
    out = np.empty((len(indices), encoder.embed_dim), dtype=np.float32)
    done = 0
    progress = tqdm(total=len(indices), desc=name, unit="record", disable=None)
    for crops in eval_batches(store, indices, spec, batch_size, num_crops):
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            embedded = encoder.embed(
                preprocess(crops.flatten(0, 1).to(device)), None if leads is None else tuple(leads)
            )
        if embedded.shape != (len(crops) * num_crops, encoder.embed_dim):
            raise UserError(
                f"the encoder returned shape {tuple(embedded.shape)}, expected [{len(crops) * num_crops}, {encoder.embed_dim}]."
            )
        out[done : done + len(crops)] = embedded.float().view(len(crops), num_crops, -1).mean(1).cpu().numpy()
        done += len(crops)
        progress.update(len(crops))
    progress.close()
    if not np.isfinite(out).all():
        bad = int((~np.isfinite(out)).any(axis=1).sum())
        raise UserError(
            f"{bad} of {len(out)} embeddings hold NaN or infinity: the weights are broken or the run diverged."
        )
    return out


def embed_cached(
    folder: Path,
    encoder: nn.Module,
    store: ECGStore,
    indices: np.ndarray,
    *,
    leads: Sequence[str] | None = None,
    num_crops: int = 1,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    name: str = "embed",
) -> np.ndarray:
    """`embed_store`, kept in `folder` under a key of weights, store, records and options."""
    parts = [store.fingerprint, str(leads), str(num_crops), str(dtype), weights_digest(encoder)]
    key = hashlib.blake2b(
        "|".join(parts).encode() + np.ascontiguousarray(indices).tobytes(), digest_size=12
    ).hexdigest()
    path = folder / f"{name}-{key}.npy"
    if path.is_file():
        return np.asarray(np.load(path, allow_pickle=False))
    options = {"leads": leads, "num_crops": num_crops, "batch_size": batch_size, "device": device, "dtype": dtype}
    embeddings = embed_store(encoder, store, indices, name=name, **options)  # type: ignore[arg-type]
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npy")
    np.save(partial, embeddings)
    os.replace(partial, path)
    return embeddings


def weights_digest(model: nn.Module) -> str:
    """A fingerprint of a module's class, weights and InputSpec."""
    digest = hashlib.blake2b(type(model).__name__.encode(), digest_size=16)
    digest.update(repr(getattr(model, "input_spec", "")).encode())
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
