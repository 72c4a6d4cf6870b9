"""From ECG to embeddings with a trained encoder: of an array in Python, or of files on the command line.

from shared import embed, load_encoder
encoder = load_encoder("runs/st_mem/pretrain")
embeddings = embed(encoder, x, fs=500, leads=["I", "II", "V1"], unit="uV")

python -m shared.apply weights=runs/st_mem/pretrain input=FOLDER_OR_FILE [out=embeddings.parquet] [fs=500] [unit=uV]
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor, nn

from shared.checkpoints import CheckpointError, find_weights, package_of, packages, read_weights
from shared.config import RepoPath, Section, config_from_cli, entry_point
from shared.data.sources.base import RecordError, read_wfdb
from shared.data.spec import InputSpec
from shared.data.store import ECGStore
from shared.data.transforms import Preprocess, even_starts
from shared.embeddings import embed_store
from shared.errors import UserError, did_you_mean
from shared.leads import LEADS, LIMB_FROM_I_II, LeadError, arrange_leads, parse_leads
from shared.measurements.features import extract_features
from shared.signals import FS_RANGE, MILLIVOLT, POSSIBLE_MV, resample_ends, typical_amplitude


def load_encoder(weights: str | Path) -> nn.Module:
    """The encoder of a run folder, a `model.safetensors` or a released file of any method, as it is evaluated.

    Args:
        weights: what to read.

    Returns:
        In evaluation mode, with `embed`, `embed_dim` and `input_spec`.

    Raises:
        CheckpointError: nothing there, or of no method of this checkout.
    """
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


@torch.inference_mode()
def embed(
    encoder: Any,
    x: np.ndarray | Tensor,
    fs: float,
    leads: str | Sequence[str] = LEADS,
    unit: str = "mV",
    *,
    num_crops: int = 1,
    batch_size: int = 64,
) -> np.ndarray:
    """Embeddings of ECG as it was recorded: resampled, its leads found by name, cut and preprocessed as the encoder needs.

    Args:
        encoder: of `load_encoder`, or anything with `embed` and `input_spec`.
        x: `[n, L, T]`, or `[L, T]` of one record.
        fs: its sampling rate, Hz.
        leads: names of its rows, in their order, in any spelling. Those that the encoder knows are used, limb leads that are
            missing are derived from I and II; fewer than the encoder's are a subset.
        unit: of the numbers: mV, uV or V.
        num_crops: evenly spaced windows per record, embeddings averaged; one is the middle.
        batch_size: records at a time.

    Returns:
        `[n, D]` float32.

    Raises:
        UserError: a transposed array, NaN, an amplitude that cannot be the unit given, an unknown lead, none of the encoder's
            leads, an absurd rate, or records shorter than the encoder's window.
    """
    spec: InputSpec = encoder.input_spec
    names = parse_leads(leads)
    if not FS_RANGE[0] <= fs <= FS_RANGE[1]:
        raise UserError(f"fs is {fs:g} Hz; expected {FS_RANGE[0]:g} to {FS_RANGE[1]:g} Hz.")
    ecg = _millivolts(x, fs, names, unit)
    wanted = _leads_for(spec, names)
    ecg = resample_ends(ecg, fs, spec.fs)
    if ecg.shape[-1] < spec.num_samples:
        raise UserError(
            f"the records have {ecg.shape[-1] / spec.fs:.2f} s, the encoder takes {spec.seconds:g} s: give longer ones."
        )
    measured = _measure(spec, ecg, names)
    ecg = arrange_leads(ecg.swapaxes(0, 1), names, wanted)[0].swapaxes(0, 1) if wanted else ecg[:, :0]
    rows = torch.from_numpy(np.concatenate([ecg, measured], axis=1).astype(np.float32))
    parameter = next(iter(encoder.parameters()), None) if isinstance(encoder, nn.Module) else None
    device = parameter.device if parameter is not None else torch.device("cpu")
    subset = None if wanted == spec.leads else wanted
    preprocess = Preprocess(spec.with_leads(subset)).to(device)
    if isinstance(encoder, nn.Module):
        encoder.eval()
    found = []
    for batch in rows.split(batch_size):
        starts = even_starts(batch.shape[-1], spec.num_samples, num_crops)
        crops = [preprocess(batch[..., start : start + spec.num_samples].to(device)) for start in starts]
        args = () if subset is None else (subset,)
        found.append(torch.stack([torch.as_tensor(encoder.embed(crop, *args)).float() for crop in crops]).mean(0).cpu())
    return torch.cat(found).numpy()


def _millivolts(x: np.ndarray | Tensor, fs: float, names: Sequence[str], unit: str) -> np.ndarray:
    """`[n, L, T]` float64 in mV, after checking shape and amplitude."""
    scale = MILLIVOLT.get(str(unit).lower())
    if scale is None:
        raise UserError(f"unknown unit {unit!r}{did_you_mean(unit, MILLIVOLT)} Expected mV, uV or V.")
    raw = np.asarray(x.detach().cpu() if isinstance(x, Tensor) else x, dtype=np.float64)
    raw = raw[None] if raw.ndim == 2 else raw
    if raw.ndim != 3 or not raw.size:
        raise UserError(f"x has shape {list(np.shape(x))}; expected [records, leads, samples], or [leads, samples].")
    if raw.shape[1] != len(names):
        turned = raw.shape[2] == len(names)
        advice = "it is transposed: give x.swapaxes(-1, -2)" if turned else "name each of its rows in `leads`"
        raise UserError(f"x has shape {list(np.shape(x))} for {len(names)} leads ({', '.join(names)}): {advice}.")
    broken = ~np.isfinite(raw).all(axis=(1, 2))
    if broken.any():
        raise UserError(f"{broken.sum()} of {len(raw)} records hold NaN or infinity, the first is {broken.argmax()}.")
    typical = float(np.median(typical_amplitude(raw, fs)))  # of leads and records, so that a few bad ones do not decide
    low, high = POSSIBLE_MV
    if not low <= typical * scale <= high:
        fitting = [name for name, other in MILLIVOLT.items() if name.isascii() and low <= typical * other <= high]
        advice = f"as {' or '.join(fitting)} they would be" if fitting else "no unit makes them so"
        raise UserError(
            f"a lead of x moves by {typical * scale:.3g} mV where unit={unit!r}; ECG moves by {low:g} to {high:g} mV: {advice}."
        )
    return raw * scale


def _leads_for(spec: InputSpec, names: Sequence[str]) -> tuple[str, ...]:
    """Those of the encoder's leads that are there or can be derived, in its order."""
    derivable = set(LIMB_FROM_I_II) if {"I", "II"} <= set(names) else set()
    wanted = tuple(name for name in spec.leads if name in names or name in derivable)
    if spec.leads and not wanted:
        raise LeadError(f"x has the leads {', '.join(names)}; the encoder knows {', '.join(spec.leads)}.")
    return wanted


def _measure(spec: InputSpec, ecg: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Rows of measurements `[n, F, T]` that the encoder takes below the leads, NaN where missing; often none."""
    if not spec.features:
        return ecg[:, :0]
    found = [extract_features(record, spec.fs, names, spec.features) for record in ecg]
    return np.stack([np.where(one.valid, one.channels, np.nan) for one in found])


# ---------------------------------------------------------------- command line


class ApplyConfig(Section):
    """`python -m shared.apply`: files to a table of embeddings."""

    weights: RepoPath = Field(description="run folder, model.safetensors, or a released file")
    input: RepoPath = Field(description="a store, a WFDB record (.hea) or folder of them, or .npy/.npz [n, L, T]")
    out: RepoPath = Field(Path("embeddings.parquet"), validate_default=True, description="the table to write")
    fs: float | None = Field(None, gt=0, description="of .npy/.npz, Hz; .npz may hold it as `fs`")
    leads: tuple[str, ...] = Field(LEADS, description="names of the rows of .npy/.npz, in their order")
    unit: Literal["mV", "uV", "V"] = Field("mV", description="of .npy/.npz")
    num_crops: int = Field(1, ge=1, description="evenly spaced windows per record, embeddings averaged")
    device: str = Field("cpu", description="cpu, cuda, …")


def apply(config: ApplyConfig) -> pd.DataFrame:
    """Embed what the config names and write the table: `record`, then `e0000` and so on.

    Raises:
        UserError: nothing there, nothing usable, or what `embed` refuses of an array.
    """
    encoder = load_encoder(config.weights).to(config.device)
    if (config.input / "store.json").is_file():
        store = ECGStore(config.input)
        rows = np.arange(len(store))
        embeddings = embed_store(encoder, store, rows, num_crops=config.num_crops, device=config.device)  # type: ignore[arg-type]
        names = store.records[[c for c in ("record", "segment") if c in store.records]].reset_index(drop=True)
    elif config.input.suffix in (".npy", ".npz"):
        x, fs = _read_array(config)
        embeddings = embed(encoder, x, fs, config.leads, config.unit, num_crops=config.num_crops)
        names = pd.DataFrame({"record": np.arange(len(embeddings))})
    else:
        found = dict(_embed_records(encoder, config))
        if not found:
            raise UserError(f"no record of {config.input} could be embedded.")
        embeddings, names = np.concatenate(list(found.values())), pd.DataFrame({"record": list(found)})
    table = pd.concat(
        [names, pd.DataFrame(embeddings, columns=[f"e{i:04d}" for i in range(embeddings.shape[1])])], axis=1
    )
    config.out.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(config.out, index=False)
    print(f"{config.out}: {len(table)} embeddings of {embeddings.shape[1]} numbers")
    return table


def _read_array(config: ApplyConfig) -> tuple[np.ndarray, float]:
    """The array of a .npy or .npz and its rate."""
    try:
        found = np.load(config.input, allow_pickle=False)
        arrays = {"x": found} if isinstance(found, np.ndarray) else dict(found)
    except Exception as error:  # numpy raises many kinds for a damaged file
        raise UserError(f"{config.input} cannot be read: {error}") from None
    fs = config.fs if config.fs is not None else float(arrays["fs"]) if np.ndim(arrays.get("fs", [])) == 0 else None
    signals = [name for name, array in arrays.items() if array.ndim >= 2]
    if len(signals) != 1:
        raise UserError(f"{config.input} holds {', '.join(arrays)}; expected one array [n, L, T], and fs if it has it.")
    if fs is None:
        raise UserError(f"fs is not set: give the sampling rate of {config.input}, e.g. fs=500.")
    return arrays[signals[0]], fs


def _embed_records(encoder: nn.Module, config: ApplyConfig) -> Iterator[tuple[str, np.ndarray]]:
    """Name and embedding `[1, D]` of each WFDB record; one that cannot be embedded is said and left out."""
    root = config.input
    headers = sorted(root.rglob("*.hea")) if root.is_dir() else [root.with_suffix(".hea")]
    if not headers or not headers[0].is_file():
        raise UserError(f"{root} is no store, holds no WFDB record (*.hea), and is no .npy or .npz.")
    lower = {name.lower() for name in LEADS}
    for header in headers:
        path = header.with_suffix("")
        try:
            recording, _ = read_wfdb(path)
            known = [i for i, name in enumerate(recording.leads) if str(name).strip().lower() in lower]
            names = [recording.leads[i] for i in known]
            embedding = embed(encoder, recording.signal[known], recording.fs, names, num_crops=config.num_crops)
        except (RecordError, UserError) as error:
            print(f"left out {path.name}: {error}")
            continue
        yield (path.relative_to(root).as_posix() if root.is_dir() else path.name), embedding


def main(argv: Sequence[str]) -> None:
    """Entry point."""
    apply(config_from_cli(ApplyConfig, argv))


if __name__ == "__main__":
    entry_point(main)
