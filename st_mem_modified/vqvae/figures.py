"""Pictures of a VQ-VAE: use of the codes, their waveforms, reconstructions, the code sequence under an ECG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from matplotlib.figure import Figure
from torch import Tensor

from shared.data.transforms import Preprocess
from shared.plots.charts import save
from shared.plots.paper import MODEL, TRACE, plot_ecg
from st_mem_modified.figures import restore_patches
from st_mem_modified.model import patchify
from st_mem_modified.vqvae.codebook import lead_correlation
from st_mem_modified.vqvae.model import VQVAE

SECONDS = 5.0


def draw_code_usage(path: Path, counts: Tensor) -> None:
    """Frequencies of the codes, most used first, one curve per level; the dashed line is an even use. `counts [Q, C]`."""
    shares = counts.double().cpu().numpy() / counts.sum(1, keepdim=True).clamp_min(1).cpu().numpy()
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.subplots()
    for level, values in enumerate(shares):
        ordered = np.sort(values)[::-1]
        label = f"{f'level {level + 1}' if len(shares) > 1 else 'codes'}: {(values > 0).mean():.0%} used"
        axes.plot(np.arange(1, len(values) + 1), np.where(ordered > 0, ordered, np.nan), lw=1.6, label=label)
    axes.axhline(1 / shares.shape[1], color="#888888", ls="--", lw=0.8, label="even use")
    axes.set_yscale("log")
    axes.set_xlabel("codes, most used first")
    axes.set_ylabel("share of tokens")
    axes.grid(color="#e8e8e8", lw=0.6)
    axes.legend(fontsize=8, frameon=False)
    save(figure, path)


@torch.no_grad()
def draw_codes(
    path: Path, model: VQVAE, ecg: Tensor, num_codes: int = 16, num_tall: int = 16, examples: int = 25
) -> None:
    """Codes (of the first level) as waveforms, patches that got the code and their mean: the most used, then the tallest.

    Most of an ECG is near its baseline, and so are the most used codes; the QRS complexes are among the tallest.

    Args:
        path: PNG to write.
        model: of the tokens design.
        ecg: `[B, L, T]`, preprocessed.
        num_codes: how many of the most used codes are drawn.
        num_tall: how many of the others, those whose mean patch spans most.
        examples: patches drawn of each.
    """
    indices = model.tokenize(ecg)
    indices = indices[..., 0] if indices.ndim == 4 else indices
    patches = patchify(ecg, model.config.model.patch_size).flatten(0, 2).cpu().numpy()
    codes = indices.flatten().cpu().numpy()
    counts = np.bincount(codes, minlength=model.quantizer.num_codes)
    by_use = [int(c) for c in np.argsort(-counts, kind="stable") if counts[c]]
    spans = {c: float(np.ptp(patches[codes == c].mean(0))) for c in by_use[num_codes:]}
    tall = sorted(spans, key=lambda c: -spans[c])[:num_tall]
    columns = 8
    parts = {"Most used": by_use[:num_codes]} | ({"Tallest": tall} if tall else {})
    heights = [-(-len(part) // columns) for part in parts.values()]
    time = np.arange(patches.shape[1]) / model.input_spec.fs * 1000
    figure = Figure(figsize=(1.5 * columns, 1.4 * sum(heights) + 0.6), layout="constrained")
    for panel, title, part in zip(
        figure.subfigures(len(parts), 1, squeeze=False, height_ratios=heights)[:, 0], parts, parts.values(), strict=True
    ):
        grid = panel.subplots(-(-len(part) // columns), columns, squeeze=False, sharex=True, sharey=True).flatten()
        for axes in grid[len(part) :]:
            axes.set_visible(False)
        for axes, code in zip(grid, part, strict=False):
            mine = patches[codes == code]
            axes.plot(time, mine[:examples].T, color=TRACE, lw=0.4, alpha=0.25)
            axes.plot(time, mine.mean(0), color=MODEL, lw=1.6)
            axes.set_title(f"code {code}, {counts[code] / len(codes):.1%}", fontsize=7)
            axes.tick_params(labelsize=6)
            axes.spines[["top", "right"]].set_visible(False)
        panel.suptitle(f"{title}: patches (grey) and their mean (blue)", fontsize=9, x=0.01, ha="left")
        panel.supylabel("mV" if model.input_spec.standardize == "none" else "SD", fontsize=8)
        panel.supxlabel("ms", fontsize=8)
    save(figure, path)


@torch.no_grad()
def draw_vq_reconstruction(path: Path, model: VQVAE, preprocess: Preprocess, signal: Tensor, title: str) -> None:
    """One record `[1, L, T]` int16 and its decoded codes, in mV on ECG paper (25 mm/s, 10 mm/mV)."""
    ecg, mean, std = preprocess.with_scale(signal)
    pred = model.decode(model.tokenize(ecg)).float()
    if model.config.model.norm_pix_loss:  # codes tell the shape of each patch; its own level and size are put back
        patches, shapes = (patchify(x, model.config.model.patch_size) for x in (ecg, pred))
        pred = rearrange(restore_patches(shapes, patches), "b l n p -> b l (n p)")
    correlation = lead_correlation(pred, ecg)[0]
    true, decoded = ((x * std + mean)[0].cpu().numpy() for x in (ecg, pred))
    spec = model.input_spec
    plot_ecg(
        path,
        true,
        model=decoded,
        fs=spec.fs,
        leads=spec.leads,
        title=f"{title}: ECG (black), its decoded codes (blue), correlation by lead",
        labels=[f"{lead}  {r:.2f}" for lead, r in zip(spec.leads, correlation, strict=True)],
        seconds=SECONDS,
    )


def similar_codes(model: VQVAE) -> np.ndarray:
    """Place of every code (of the first level) along the principal axis of the codebook, 0 to 1: like codes, like numbers."""
    quantizer = model.quantizer
    indices = torch.zeros(1, quantizer.num_codes, quantizer.num_levels, dtype=torch.int64, device=model.idf.device)
    indices[0, :, 0] = torch.arange(quantizer.num_codes)
    codes = quantizer.lookup(indices)[0].float().cpu().numpy()
    axis = np.linalg.svd(codes - codes.mean(0), full_matrices=False)[2][0]
    return np.argsort(np.argsort(codes @ axis)) / max(1, len(codes) - 1)


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
    # The numbers of codes mean nothing; coloured by likeness, a beat looks the same each time it comes.
    below.imshow(
        similar_codes(model)[grid],
        aspect="auto",
        cmap="turbo",
        vmin=0,
        vmax=1,
        extent=(0, seconds, len(grid), 0),
        interpolation="nearest",
    )
    below.set_yticks(np.arange(len(grid)) + 0.5, spec.leads if len(grid) == len(spec.leads) else ["record"], fontsize=7)
    below.set_xlabel("seconds")
    for row in range(1, len(grid)):
        below.axhline(row, color="white", lw=0.6)
    level = "first-level codes" if indices.ndim == 4 else "codes"
    what = f"{level} of lead {spec.leads[lead]} above, of every lead below (like codes, like colours)"
    figure.suptitle(f"{title}: {what if len(grid) > 1 else 'one code for all of the record'}", fontsize=10)
    save(figure, path)
