"""Pictures of a VQ-VAE: use of the codes, their waveforms, reconstructions, the code sequence under an ECG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from matplotlib.figure import Figure
from torch import Tensor

from shared.data.transforms import Preprocess
from shared.evaluation.plots import MM, MODEL, TRACE, draw_paper, save
from st_mem_modified.codebook import lead_correlation
from st_mem_modified.model import patchify
from st_mem_modified.vqvae import VQVAE

SECONDS = 5.0
LABEL = {"facecolor": "white", "alpha": 0.7, "lw": 0, "pad": 0.8}


def draw_code_usage(path: Path, counts: Tensor) -> None:
    """Frequencies of the codes, most used first, one curve per level; the dashed line is an even use. `counts [Q, C]`."""
    shares = counts.double().cpu().numpy() / counts.sum(1, keepdim=True).clamp_min(1).cpu().numpy()
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.subplots()
    for level, values in enumerate(shares):
        ordered = np.sort(values)[::-1]
        label = f"level {level + 1}: {(values > 0).mean():.0%} used"
        axes.plot(np.arange(1, len(values) + 1), np.where(ordered > 0, ordered, np.nan), lw=1.6, label=label)
    axes.axhline(1 / shares.shape[1], color="#888888", ls="--", lw=0.8, label="even use")
    axes.set_yscale("log")
    axes.set_xlabel("codes, most used first")
    axes.set_ylabel("share of tokens")
    axes.grid(color="#e8e8e8", lw=0.6)
    axes.legend(fontsize=8, frameon=False)
    save(figure, path)


@torch.no_grad()
def draw_codes(path: Path, model: VQVAE, ecg: Tensor, num_codes: int = 24, examples: int = 25) -> None:
    """The most used codes (of the first level) as waveforms: patches that got the code, and their mean.

    Args:
        path: PNG to write.
        model: of the tokens design.
        ecg: `[B, L, T]`, preprocessed.
        num_codes: how many codes are drawn.
        examples: patches drawn of each.
    """
    indices = model.tokenize(ecg)
    indices = indices[..., 0] if indices.ndim == 4 else indices
    patches = patchify(ecg, model.config.model.patch_size).flatten(0, 2).cpu().numpy()
    codes = indices.flatten().cpu().numpy()
    counts = np.bincount(codes, minlength=model.quantizer.num_codes)
    shown = [int(c) for c in np.argsort(-counts, kind="stable")[:num_codes] if counts[c]]
    time = np.arange(patches.shape[1]) / model.input_spec.fs * 1000
    columns = min(8, len(shown))
    figure = Figure(figsize=(1.5 * columns, 1.35 * -(-len(shown) // columns) + 0.3), layout="constrained")
    grid = figure.subplots(-(-len(shown) // columns), columns, squeeze=False, sharex=True, sharey=True).flatten()
    for axes in grid[len(shown) :]:
        axes.set_visible(False)
    for axes, code in zip(grid, shown, strict=False):
        mine = patches[codes == code]
        axes.plot(time, mine[:examples].T, color=TRACE, lw=0.4, alpha=0.25)
        axes.plot(time, mine.mean(0), color=MODEL, lw=1.5)
        axes.set_title(f"{code} ({counts[code] / len(codes):.1%})", fontsize=7)
        axes.tick_params(labelsize=6)
    figure.supxlabel("ms", fontsize=8)
    save(figure, path)


@torch.no_grad()
def draw_vq_reconstruction(path: Path, model: VQVAE, preprocess: Preprocess, signal: Tensor, title: str) -> None:
    """One record `[1, L, T]` int16 and its decoded codes, in mV on ECG paper (25 mm/s, 10 mm/mV)."""
    ecg, mean, std = preprocess.with_scale(signal)
    pred = model.decode(model.tokenize(ecg)).float()
    if model.config.model.norm_pix_loss:  # codes tell the shape of each patch; its own level and size are put back
        patches = patchify(ecg, model.config.model.patch_size)
        shapes = patchify(pred, model.config.model.patch_size)
        pred = rearrange(
            shapes * (patches.var(-1, keepdim=True) + 1e-6).sqrt() + patches.mean(-1, keepdim=True),
            "b l n p -> b l (n p)",
        )
    correlation = lead_correlation(pred, ecg)[0]
    true, decoded = ((x * std + mean)[0].cpu().numpy() for x in (ecg, pred))
    spec = model.input_spec
    shown = min(true.shape[1], round(SECONDS * spec.fs))
    time = np.arange(shown) / spec.fs
    columns = 2 if len(spec.leads) > 3 else 1
    per_column, span = -(-len(spec.leads) // columns), 2.0
    figure = Figure(figsize=((columns * (25 * shown / spec.fs + 4) + 6) * MM, (per_column * span * 10 + 20) * MM))
    figure.suptitle(f"{title}: ECG (black) and decoded codes (blue), correlation by lead", fontsize=10)
    for column in range(columns):
        axes = figure.add_axes((0.02 + column * 0.98 / columns, 0.02, 0.96 / columns, 0.9))
        draw_paper(axes, shown / spec.fs, per_column * span)
        for row, lead in enumerate(spec.leads[column * per_column : (column + 1) * per_column]):
            i = column * per_column + row
            base = (per_column - row - 0.5) * span - float(np.median(true[i, :shown]))
            axes.plot(time, true[i, :shown] + base, color=TRACE, lw=0.8)
            axes.plot(time, decoded[i, :shown] + base, color=MODEL, lw=0.9)
            axes.text(
                0.04, (per_column - row) * span - 0.1, f"{lead}  {correlation[i]:.2f}", fontsize=8, va="top", bbox=LABEL
            )
    save(figure, path)


@torch.no_grad()
def draw_codes_under_ecg(path: Path, model: VQVAE, preprocess: Preprocess, signal: Tensor, title: str) -> None:
    """Lead II (or the first) of one record `[1, L, T]` int16 with its codes above, and the codes of all leads as a grid."""
    ecg, mean, std = preprocess.with_scale(signal)
    indices = model.tokenize(ecg)
    grid = (indices[..., 0] if indices.ndim == 4 else indices)[0].cpu().numpy()  # [L, N], or [1, 1]
    spec = model.input_spec
    lead = spec.leads.index("II") if "II" in spec.leads else 0
    trace = (ecg * std + mean)[0, lead].cpu().numpy()
    seconds = len(trace) / spec.fs
    figure = Figure(figsize=(12, 4.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1.3, 1))
    above.plot(np.arange(len(trace)) / spec.fs, trace, color=TRACE, lw=0.8)
    above.set_ylabel(f"{spec.leads[lead]}, mV")
    width = seconds / grid.shape[1]
    own = grid[min(lead, len(grid) - 1)]
    for n, code in enumerate(own):
        above.axvline(n * width, color="#dddddd", lw=0.6, zorder=0)
        above.text((n + 0.5) * width, 1.01, str(code), transform=above.get_xaxis_transform(), fontsize=6, ha="center")
    # Neighbouring code numbers mean nothing; scattered colours keep them from looking alike.
    colours = np.random.default_rng(0).permutation(model.quantizer.num_codes)[grid]
    below.imshow(
        colours, aspect="auto", cmap="nipy_spectral", extent=(0, seconds, len(grid), 0), interpolation="nearest"
    )
    below.set_yticks(np.arange(len(grid)) + 0.5, spec.leads if len(grid) == len(spec.leads) else ["record"], fontsize=7)
    below.set_xlabel("seconds")
    figure.suptitle(f"{title}: {'first-level ' if indices.ndim == 4 else ''}codes", fontsize=10)
    save(figure, path)
