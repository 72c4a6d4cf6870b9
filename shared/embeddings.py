"""Embed a store once: every protocol works on the same cached embeddings, and rows of one model share a pass."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from shared.data.loader import eval_batches
from shared.data.spec import InputSpec
from shared.data.store import ECGStore
from shared.data.transforms import Preprocess
from shared.errors import UserError
from shared.ranks import own_batches, place, put_together


class Encoder(Protocol):
    """What an encoder must offer to be evaluated."""

    embed_dim: int
    input_spec: InputSpec

    def embed(self, ecg: Tensor, leads: Sequence[str] | None = None) -> Tensor:
        """`[B, L, T]`, preprocessed as `input_spec` says, to `[B, D]`; `leads` names the rows where they are a subset."""
        ...


class ManyKinds(Protocol):
    """What a model must offer whose embeddings of several kinds come out of one pass."""

    input_spec: InputSpec

    def width_of(self, kind: str) -> int:
        """Width of one kind of embedding."""
        ...

    def embed_kinds(self, ecg: Tensor, leads: Sequence[str] | None, kinds: Sequence[str]) -> dict[str, Tensor]:
        """`[B, L, T]` to `[B, width_of(kind)]` of each kind."""
        ...


class OneKind(nn.Module):
    """One kind of embedding of a model that offers several (`ManyKinds`), as an encoder."""

    def __init__(self, model: Any, kind: str) -> None:
        super().__init__()
        self.model, self.kind = model, kind
        self.input_spec: InputSpec = model.input_spec
        self.embed_dim: int = model.width_of(kind)

    def embed(self, ecg: Tensor, leads: Sequence[str] | None = None) -> Tensor:
        """`[B, L, T]` → `[B, embed_dim]`."""
        return self.model.embed_kinds(ecg, leads, (self.kind,))[self.kind]


@dataclass(frozen=True)
class Options:
    """How a store is embedded; see `embed_store`."""

    leads: Sequence[str] | None = None
    num_crops: int = 1
    batch_size: int = 64
    device: torch.device | str = "cpu"
    dtype: torch.dtype | None = None
    ranks: bool = False


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
    ranks: bool = False,
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
        ranks: whether all ranks call this alike: each then embeds its share of the batches, and gets all.
        name: of the progress bar.

    Returns:
        `[n, D]` float32.

    Raises:
        StoreError: the store cannot satisfy the InputSpec.
        UserError: the encoder gives another shape than `[B, embed_dim]`, or values that are not finite.
    """
    options = Options(leads, num_crops, batch_size, device, dtype, ranks)
    return embed_rows({name: encoder}, store, indices, options)[name]


@torch.inference_mode()
def embed_rows(
    rows: Mapping[str, Encoder], store: ECGStore, indices: np.ndarray, options: Options
) -> dict[str, np.ndarray]:
    """Embeddings `[n, D]` float32 of one encoder, or of several kinds of one model's (`OneKind`) from one pass.

    Args:
        rows: name to encoder; several are all `OneKind` of the same model.
        store: must satisfy the InputSpec.
        indices: records, in the order of the result.
        options: leads, crops, device.

    Raises:
        StoreError: the store cannot satisfy the InputSpec.
        UserError: an encoder gives another shape than `[B, embed_dim]`, or values that are not finite.
    """
    together = options.ranks and place()[1] > 1
    own = own_batches(len(indices), options.batch_size) if together else slice(0, len(indices))
    make = np.zeros if together else np.empty
    out = {name: make((len(indices), row.embed_dim), dtype=np.float32) for name, row in rows.items()}
    error: Exception | None = None
    try:
        _fill(out, rows, store, indices, own, options)
    except Exception as found:
        if not together:
            raise
        error = found
    if together:
        put_together(list(out.values()), torch.device(options.device), error)
    for values in out.values():
        if not np.isfinite(values).all():
            bad = int((~np.isfinite(values)).any(axis=1).sum())
            raise UserError(
                f"{bad} of {len(values)} embeddings hold NaN or infinity: the weights are broken or the run diverged."
            )
    return out


def _fill(
    out: Mapping[str, np.ndarray],
    rows: Mapping[str, Encoder],
    store: ECGStore,
    indices: np.ndarray,
    own: slice,
    options: Options,
) -> None:
    """Put the embeddings of the records `own` of `indices` where they belong in `out`; arguments as of `embed_rows`."""
    leads, num_crops, device, dtype = options.leads, options.num_crops, torch.device(options.device), options.dtype
    first = next(iter(rows.values()))
    spec = first.input_spec.with_leads(leads)
    preprocess = Preprocess(spec, store.scale).to(device)
    if isinstance(first, nn.Module):
        first.to(device).eval()
    embed = _pass_of(rows)
    done, quiet = own.start, True if options.ranks and place()[0] > 0 else None
    progress = tqdm(total=own.stop - done, desc=", ".join(rows), unit="record", disable=quiet)
    for crops in eval_batches(store, indices[own], spec, options.batch_size, num_crops):
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            embedded = embed(preprocess(crops.flatten(0, 1).to(device)), None if leads is None else tuple(leads))
        for name, values in embedded.items():
            expected = (len(crops) * num_crops, rows[name].embed_dim)
            if values.shape != expected:
                raise UserError(f"the encoder returned shape {tuple(values.shape)}, expected {list(expected)}.")
            averaged = values.float().view(len(crops), num_crops, -1).mean(1)
            out[name][done : done + len(crops)] = averaged.cpu().numpy()
        done += len(crops)
        progress.update(len(crops))
    progress.close()


def _pass_of(rows: Mapping[str, Encoder]) -> Callable[[Tensor, Sequence[str] | None], dict[str, Tensor]]:
    """One pass over a batch, giving the embeddings `[B, D]` of every row.

    Raises:
        ValueError: several rows that do not share a model.
    """
    (name, first), *others = rows.items()
    if not others:
        return lambda ecg, leads: {name: first.embed(ecg, leads)}
    if not all(share_model(first, other) for _, other in others):
        raise ValueError(f"{', '.join(rows)} do not share a model; expected one encoder, or kinds of one model.")
    model: ManyKinds = first.model  # type: ignore[attr-defined]
    kinds = {row: encoder.kind for row, encoder in rows.items()}  # type: ignore[attr-defined]

    def embed(ecg: Tensor, leads: Sequence[str] | None) -> dict[str, Tensor]:
        found = model.embed_kinds(ecg, leads, tuple(kinds.values()))
        return {row: found[kind] for row, kind in kinds.items()}

    return embed


def share_model(one: object, other: object) -> bool:
    """Whether two encoders are kinds of the same model, so that one pass serves both."""
    return isinstance(one, OneKind) and isinstance(other, OneKind) and one.model is other.model


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
    others: Mapping[str, nn.Module] | None = None,
    call: Callable[[Sequence[str], Options], bool] | None = None,
) -> np.ndarray:
    """`embed_store`, kept in `folder` under a key of weights, store, records and options.

    Where it must be computed, those of `others` (by name) that share the encoder's model come out of the same pass and are
    kept too, each under its own key. `call` is told the names before they are computed, and says whether the other ranks embed
    their share.
    """
    options = Options(leads, num_crops, batch_size, device, dtype)
    path = _cache_path(folder, name, encoder, store, indices, options)
    kept = _read_kept(path, len(indices))
    if kept is not None:
        return kept
    rows, paths = {name: encoder}, {name: path}
    for other, candidate in (others or {}).items():
        if share_model(encoder, candidate):
            place = _cache_path(folder, other, candidate, store, indices, options)
            if _read_kept(place, len(indices)) is None:
                rows[other], paths[other] = candidate, place
    options = replace(options, ranks=call is not None and call(list(rows), options))
    found = embed_rows(rows, store, indices, options)  # type: ignore[arg-type]
    folder.mkdir(parents=True, exist_ok=True)
    for row, embeddings in found.items():
        partial = paths[row].with_suffix(".partial.npy")
        np.save(partial, embeddings)
        os.replace(partial, paths[row])
    return found[name]


def _read_kept(path: Path, num: int) -> np.ndarray | None:
    """Kept embeddings of `num` records; None where there are none, or the file is damaged: it is then made anew."""
    if not path.is_file():
        return None
    try:
        kept = np.asarray(np.load(path, allow_pickle=False))
    except Exception as error:  # numpy raises many kinds for a file that was cut off
        print(f"{path} is damaged ({error}); its embeddings are computed anew.")
        return None
    return kept if kept.ndim == 2 and len(kept) == num else None


def _cache_path(
    folder: Path, name: str, encoder: nn.Module, store: ECGStore, indices: np.ndarray, options: Options
) -> Path:
    """Where embeddings are kept; another weight, kind, store, record or option is another file."""
    parts = [store.fingerprint, str(options.leads), str(options.num_crops), str(options.dtype), weights_digest(encoder)]
    if isinstance(encoder, OneKind):
        parts.append(encoder.kind)
    key = hashlib.blake2b("|".join(parts).encode() + np.ascontiguousarray(indices).tobytes(), digest_size=12)
    return folder / f"{name}-{key.hexdigest()}.npy"


def weights_digest(model: nn.Module) -> str:
    """A fingerprint of a module's class, weights and InputSpec."""
    digest = hashlib.blake2b(type(model).__name__.encode(), digest_size=16)
    digest.update(repr(getattr(model, "input_spec", "")).encode())
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
