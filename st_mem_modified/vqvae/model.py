"""A VQ-VAE over ST-MEM's grid of tokens: ECG in, codes `[B, L, N]` out, and back.

Downwards: encoder tokens, the way into the code space, the quantiser, the lead-wise decoder of ST-MEM, loss, embeddings.
Van den Oord et al. 2017 (arXiv 1711.00937), with lead × time tokens where the seed project had one vector per record.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from shared.errors import UserError
from shared.leads import lead_indices, subset_leads
from shared.nn import Terms, init_xavier
from st_mem_modified.model import LeadWiseDecoder, STMEMEncoder, patchify, standardize_patches
from st_mem_modified.vqvae.config import VQVAEConfig
from st_mem_modified.vqvae.quantizers import make_quantizer

LEAST_VARIANCE = 1e-2
"""Of a lead, where the record's is 1: below it a lead holds noise, which is not worth the others' digits."""
STFT_WINDOWS = (32, 128, 512)
"""Samples."""


class VQVAE(nn.Module):
    """Encoder, quantiser, decoder.

    Args:
        config: sizes, quantiser, design, loss.

    Attributes:
        embed_dim: width of what `embed` returns.
        idf: `[Q * C]` inverse document frequencies of the codes in the training records; ones before training.
    """

    idf: Tensor

    def __init__(self, config: VQVAEConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or VQVAEConfig()
        self.input_spec = config.model.input
        self.encoder = STMEMEncoder(config.model)
        to_codes, from_codes = DESIGNS[config.design]
        self.to_codes = to_codes(config)
        self.quantizer = make_quantizer(config.quantizer)
        self.from_codes = from_codes(config)
        self.register_buffer("idf", torch.ones(self.quantizer.num_levels * self.quantizer.num_codes))

    # ------------------------------------------------------------ the path

    def encode(self, ecg: Tensor, leads: Sequence[str] | None = None) -> Tensor:
        """Tokens before quantisation.

        Args:
            ecg: `[B, L, T]`, preprocessed as `input_spec` says.
            leads: names of the L rows; None means the model's own leads.

        Returns:
            `[B, L, N, d]`; `[B, 1, 1, d]` for the pooled design.
        """
        return self.to_codes(self.encoder, ecg, leads)

    def quantize(self, tokens: Tensor) -> Terms:
        """`tokens [B, L, N, d]` → Terms: `codes [B, L, N, d]`, `indices [B, L, N]` (`[B, L, N, Q]` for several levels), `loss`."""
        out = self.quantizer(tokens.flatten(1, 2))
        grid = tokens.shape[1:3]
        indices = out.indices.unflatten(1, grid)
        return Terms(
            codes=out.codes.unflatten(1, grid),
            indices=indices[..., 0] if self.quantizer.num_levels == 1 else indices,
            loss=out.loss,
        )

    def decode(self, indices: Tensor, leads: Sequence[str] | None = None) -> Tensor:
        """ECG of codes.

        Args:
            indices: `[B, L, N]` (or `[B, L, N, Q]`), as `tokenize` gives them.
            leads: names of the L rows; None means the model's own leads.

        Returns:
            `[B, L, T]` in the unit of the model's input (standardised where the InputSpec says so; each patch standardised
            under `norm_pix_loss`).

        Raises:
            UserError: an index that is no code, or another grid.
        """
        self._check_grid(indices, leads)
        if self.quantizer.num_levels == 1:
            indices = indices[..., None]
        codes = self.quantizer.lookup(indices.flatten(1, 2)).unflatten(1, indices.shape[1:3])
        return rearrange(self.from_codes(codes, self._rows(leads)), "b l n p -> b l (n p)")

    def _check_grid(self, indices: Tensor, leads: Sequence[str] | None) -> None:
        """Refuse indices of other shape than `tokenize` gives."""
        levels, rows = self.quantizer.num_levels, len(self._rows(leads))
        grid = (1, 1) if self.config.design == "pooled" else (rows, self.config.model.num_patches)
        expected = (*grid, levels)[: 2 + (levels > 1)]
        if tuple(indices.shape[1:]) != expected or indices.is_floating_point():
            raise UserError(
                f"indices have shape {tuple(indices.shape)} and type {indices.dtype}; this VQ-VAE decodes integers "
                f'[B, {", ".join(map(str, expected))}], as `tokenize` gives them. For fewer leads, name them: leads=("II",).'
            )

    @torch.no_grad()
    def tokenize(self, ecg: Tensor, leads: Sequence[str] | None = None) -> Tensor:
        """`ecg [B, L, T]` → int64 `[B, L, N]` (`[B, L, N, Q]` for several levels; `[B, 1, 1]` for the pooled design)."""
        return self._look(ecg, leads)[1].indices

    def forward(self, ecg: Tensor, leads: Sequence[str] | None = None) -> Terms:
        """Reconstruct.

        Returns:
            Terms: `loss`, its parts `reconstruction`, `spectral`, `commitment`; `pred [B, L, N, P]`, `indices`; the
            reconstruction of each record, `record_loss [B]`, detached.
        """
        quantized = self.quantize(self.encode(ecg, leads))
        pred = self.from_codes(quantized.codes, self._rows(leads))
        target = patchify(ecg, self.config.model.patch_size)
        if self.config.model.norm_pix_loss:
            target = standardize_patches(target)
        errors = balanced_errors(pred, target, self.config.lead_balance)
        reconstruction = errors.mean()
        spectral = reconstruction.new_zeros(())
        if self.config.spectral_weight:
            spectral = spectral_distance(pred.flatten(2), target.flatten(2))
        return Terms(
            loss=reconstruction + self.config.spectral_weight * spectral + quantized.loss,
            reconstruction=reconstruction,
            spectral=spectral,
            commitment=quantized.loss,
            record_loss=errors.detach().mean(dim=1),
            pred=pred,
            indices=quantized.indices,
        )

    # ------------------------------------------------------------ embeddings

    @property
    def embed_dim(self) -> int:
        """Width of what `embed` returns."""
        return self.width_of(self.config.embed)

    def width_of(self, kind: str) -> int:
        """Width of one kind of embedding."""
        if kind == "encoder":
            return self.encoder.embed_dim
        if kind in ("histogram", "tfidf"):
            return len(self.idf)
        places = 1 if self.config.design == "pooled" else len(self.input_spec.leads)
        return places * self.quantizer.width

    def embed(self, ecg: Tensor, leads: Sequence[str] | None = None, kind: str | None = None) -> Tensor:
        """Representation of records.

        Args:
            ecg: `[B, L, T]`, preprocessed as `input_spec` says.
            leads: names of the L rows; None means the model's own leads.
            kind: None takes the config's `embed`. `quantized`: codes, mean over time for each lead, leads side by side (a lead
                that is not given is zero); `tokens`: the same before quantisation; `encoder`: the encoder's own mean over
                leads and time; `histogram`: share of each code; `tfidf`: shares × idf, of unit length.

        Returns:
            `[B, width_of(kind)]`.
        """
        kind = kind or self.config.embed
        if kind == "encoder":
            return self.encoder.embed(ecg, leads)
        return self.embed_kinds(ecg, leads, (kind,))[kind]

    def embed_kinds(self, ecg: Tensor, leads: Sequence[str] | None, kinds: Sequence[str]) -> dict[str, Tensor]:
        """Several kinds of `embed` (but `encoder`) from one pass."""
        tokens, quantized = self._look(ecg, leads)
        return {kind: self._pool(kind, tokens, quantized, leads) for kind in kinds}

    def _pool(self, kind: str, tokens: Tensor, quantized: Terms, leads: Sequence[str] | None) -> Tensor:
        if kind in ("histogram", "tfidf"):
            shares = self.histogram(quantized.indices)
            return shares if kind == "histogram" else nn.functional.normalize(shares * self.idf, dim=-1)
        pooled = (quantized.codes if kind == "quantized" else tokens).float().mean(dim=2)  # [B, L, d]
        if self.config.design == "pooled":
            return pooled.flatten(1)
        own = pooled.new_zeros(len(pooled), len(self.input_spec.leads), pooled.shape[-1])
        own[:, self._rows(leads)] = pooled
        return own.flatten(1)

    def histogram(self, indices: Tensor) -> Tensor:
        """`indices` as `tokenize` gives them → share of each code `[B, Q * C]`, summing to 1 in each level."""
        levels = self.quantizer.num_levels
        flat = indices.reshape(len(indices), -1, levels) + torch.arange(levels, device=indices.device) * (
            self.quantizer.num_codes
        )
        shares = torch.zeros(len(indices), len(self.idf), device=indices.device)
        ones = torch.ones_like(flat, dtype=shares.dtype).flatten(1)
        return shares.scatter_add_(1, flat.flatten(1), ones) / flat.shape[1]

    def _look(self, ecg: Tensor, leads: Sequence[str] | None) -> tuple[Tensor, Terms]:
        """Tokens and their codes, without letting the codebook learn from looking."""
        tokens = self.encode(ecg, leads)
        training = self.quantizer.training
        self.quantizer.eval()
        try:
            return tokens, self.quantize(tokens)
        finally:
            self.quantizer.train(training)

    def _rows(self, leads: Sequence[str] | None) -> list[int]:
        own = self.input_spec.leads
        return lead_indices(subset_leads(leads, own), own)


# ---------------------------------------------------------------- designs: into the code space and out of it


class TokensToCodes(nn.Module):
    """Encoder tokens, each with its patch's level, to the code space."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        dim = config.model.embed_dim
        self.patch_size, self.patch_level = config.model.patch_size, config.patch_level
        self.net = nn.Sequential(
            nn.Linear(dim + 2 * self.patch_level, dim), nn.GELU(), nn.Linear(dim, config.quantizer.width)
        )
        self.net.apply(init_xavier)

    def forward(self, encoder: STMEMEncoder, ecg: Tensor, leads: Sequence[str] | None) -> Tensor:
        """`[B, L, T]` → `[B, L, N, d]`."""
        tokens = encoder.tokens(ecg, leads)
        if self.patch_level:
            # The LayerNorm in ST-MEM's patch embedding takes the mean and the size of every patch away; without them no
            # decoder could tell a QRS complex from a P wave of the same shape.
            patches = patchify(ecg, self.patch_size)
            level = torch.stack([patches.mean(-1), (patches.std(-1) + 0.01).log()], dim=-1)
            tokens = torch.cat([tokens, level.to(tokens.dtype)], dim=-1)
        return self.net(tokens)


class CodesToPatches(nn.Module):
    """ST-MEM's lead-wise decoder on codes; its separators are learned, one pair per lead, as codes are all it may see."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        width = config.quantizer.width
        self.separators = nn.Parameter(torch.empty(len(config.model.input.leads), 2, width))
        nn.init.normal_(self.separators, std=0.02)
        self.decoder = LeadWiseDecoder(config.model.model_copy(update={"embed_dim": width}))
        # Nothing is masked here; without a gradient it would be an unused parameter to DDP.
        self.decoder.mask_token.requires_grad_(False)

    def forward(self, codes: Tensor, lead_rows: Sequence[int]) -> Tensor:
        """`codes [B, L, N, d]` → patches `[B, L, N, P]`."""
        batch, num_leads, num_patches = codes.shape[:3]
        ends = self.separators[list(lead_rows)].expand(batch, -1, -1, -1).to(codes.dtype)
        latent = torch.cat([ends[:, :, :1], codes, ends[:, :, 1:]], dim=2)
        in_order = torch.arange(num_patches, device=codes.device).expand(batch, num_leads, -1)
        return self.decoder(latent, in_order)


class RecordToCode(nn.Module):
    """The seed project's design: one vector per record, one code per record."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.net = nn.Linear(config.model.embed_dim, config.quantizer.width)
        self.net.apply(init_xavier)

    def forward(self, encoder: STMEMEncoder, ecg: Tensor, leads: Sequence[str] | None) -> Tensor:
        """`[B, L, T]` → `[B, 1, 1, d]`."""
        return self.net(encoder.embed(ecg, leads))[:, None, None]


class CodeToRecord(nn.Module):
    """The seed project's decoder: an MLP from the code to every sample of every lead."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        model, hidden = config.model, config.pooled_hidden
        self.grid = (len(model.input.leads), model.num_patches, model.patch_size)
        samples = len(model.input.leads) * model.input.num_samples
        self.net = nn.Sequential(nn.Linear(config.quantizer.width, hidden), nn.GELU(), nn.Linear(hidden, samples))
        self.net.apply(init_xavier)

    def forward(self, codes: Tensor, lead_rows: Sequence[int]) -> Tensor:
        """`codes [B, 1, 1, d]` → patches `[B, L, N, P]` of the leads asked for."""
        return self.net(codes.flatten(1)).unflatten(1, self.grid)[:, list(lead_rows)]


DESIGNS: dict[str, Any] = {"tokens": (TokensToCodes, CodesToPatches), "pooled": (RecordToCode, CodeToRecord)}


# ---------------------------------------------------------------- loss


def balanced_errors(pred: Tensor, target: Tensor, balance: float) -> Tensor:
    """Mean squared error `[B, L]`, each lead divided by its own variance to the power `balance`.

    Args:
        pred: `[B, L, N, P]`.
        target: `[B, L, N, P]`.
        balance: 1 makes the value 1 − R² of each lead, so that small leads count as much as large ones; 0 is the plain error.
    """
    error = (pred.float() - target).square().mean(dim=(2, 3))  # [B, L]
    variance = target.flatten(2).var(-1, correction=0).clamp_min(LEAST_VARIANCE)
    return error / variance**balance


def spectral_distance(pred: Tensor, target: Tensor) -> Tensor:
    """Distance between magnitudes of short-time spectra `[B, L, T]`, relative to the target's, mean over window lengths.

    Source: spectral convergence of Arik et al. 2018 (arXiv 1808.06719), at several resolutions.
    """
    pred, target = pred.float().flatten(0, 1), target.float().flatten(0, 1)
    distances = []
    for length in STFT_WINDOWS:
        if length > target.shape[-1]:
            continue
        window = torch.hann_window(length, device=target.device)
        a, b = (
            torch.stft(x, length, length // 4, window=window, center=False, return_complex=True).abs()
            for x in (pred, target)
        )
        distances.append((a - b).norm() / b.norm().clamp_min(1e-6))
    return torch.stack(distances).mean()
