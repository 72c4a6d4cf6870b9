"""Pictures of what ST-MEM does."""

from __future__ import annotations

from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from shared.data.transforms import Preprocess
from shared.plots.paper import plot_ecg
from st_mem_modified.model import STMEM, draw_noise, patchify


@torch.no_grad()
def draw_reconstruction(path: Path, model: STMEM, preprocess: Preprocess, signal: Tensor, title: str) -> None:
    """Picture of one record `[1, L, T]` int16 with its masked stretches reconstructed, in mV on ECG paper.

    Under `norm_pix_loss` the network predicts the shape of each patch; its own mean and deviation are put back for the picture.
    """
    ecg, mean, std = preprocess.with_scale(signal)
    patches = patchify(ecg, model.config.patch_size)
    batch, num_leads, num_patches = patches.shape[:3]
    noise = draw_noise(batch, num_leads, num_patches, torch.Generator(ecg.device).manual_seed(0))
    out = model(ecg, noise)
    pred = out.pred.float()
    if model.config.norm_pix_loss:
        pred = restore_patches(pred, patches)
    reconstruction = rearrange(pred, "b l n p -> b l (n p)")
    plot_ecg(
        path,
        (ecg * std + mean)[0].cpu(),
        model=(reconstruction * std + mean)[0].cpu(),
        mask=out.mask[0].repeat_interleave(model.config.patch_size, dim=-1).cpu(),
        fs=model.config.input.fs,
        leads=model.config.input.leads,
        title=f"{title}: {model.config.mask_ratio:.0%} of every lead masked and reconstructed",
        legend="reconstruction of masked stretches (shaded)",
    )


def restore_patches(pred: Tensor, patches: Tensor) -> Tensor:
    """Give patches `[…, P]` predicted under `norm_pix_loss` the mean and deviation of the true ones."""
    return pred * (patches.var(-1, keepdim=True) + 1e-6).sqrt() + patches.mean(-1, keepdim=True)
