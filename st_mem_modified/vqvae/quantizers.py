"""Quantisers from vector-quantize-pytorch behind one small interface: `forward(tokens)` and `lookup(indices)`.

Projections in and out of the code space belong to the VQ-VAE, so every quantiser works in exactly `width` dimensions.
To add one: a class with `_quantize` and `_lookup`, a line in `QUANTIZERS`, and its keys in `QUANTIZER_KEYS`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.nn as distributed
import torch.nn.functional as F
from torch import Tensor, nn
from vector_quantize_pytorch import FSQ, LFQ, ResidualVQ, SimVQ, VectorQuantize

from shared.errors import UserError
from shared.nn import Terms
from st_mem_modified.vqvae.config import QuantizerConfig

INVERSE_TEMPERATURE = 100.0
"""Of lfq's shares of codes in its entropies; the library's default."""


class Quantizer(nn.Module):
    """The interface.

    Attributes:
        num_codes: codes per level (C); indices are 0 … C − 1.
        num_levels: codes per token (Q); 1 for all but `residual_vq`.
        width: dimensions of a code (d).
    """

    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__()
        self.config = config
        self.num_codes, self.num_levels, self.width = config.num_codes, config.num_levels, config.width

    def forward(self, tokens: Tensor) -> Terms:
        """Quantise.

        Args:
            tokens: `[B, S, d]`.

        Returns:
            Terms: `codes [B, S, d]` float32 with gradients to the tokens, `indices [B, S, Q]` int64, `loss` (a number,
            already weighted).

        Raises:
            UserError: the codebook cannot start from this batch, or has not started yet.
        """
        # Distances between codes in half precision would make neighbours of strangers.
        with torch.autocast(tokens.device.type, enabled=False):
            codes, indices, loss = self._quantize(tokens.float())
        return Terms(codes=codes, indices=indices.long().view(*tokens.shape[:2], self.num_levels), loss=loss.sum())

    def lookup(self, indices: Tensor) -> Tensor:
        """Codes `[B, S, d]` of indices `[B, S, Q]`.

        Raises:
            UserError: an index that is no code, or another number of codes per token.
        """
        if indices.ndim != 3 or indices.shape[-1] != self.num_levels or indices.is_floating_point():
            raise UserError(
                f"indices have shape {tuple(indices.shape)} and type {indices.dtype}; {self.config.name} expects integers "
                f"[B, S, {self.num_levels}]."
            )
        if indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < self.num_codes:
            wrong = int(indices.min()) if indices.min() < 0 else int(indices.max())
            raise UserError(
                f"code {wrong} is not in the codebook; its {self.num_codes} codes are 0 to {self.num_codes - 1}."
            )
        return self._lookup(indices)

    def _quantize(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        raise NotImplementedError

    def _lookup(self, indices: Tensor) -> Tensor:
        raise NotImplementedError


class MovingAverageVQ(Quantizer):
    """`vq`: one codebook of moving averages (van den Oord et al. 2017, appendix A.1), started by k-means."""

    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__(config)
        self.inner = VectorQuantize(
            dim=self.width, use_cosine_sim=config.cosine, codebook_size=config.codebook_size, **_averages(config)
        )

    def _quantize(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        _check_start(self.inner, self.num_codes, tokens)
        return self.inner(tokens)

    def _lookup(self, indices: Tensor) -> Tensor:
        return self.inner.get_codes_from_indices(indices[..., 0])


class ResidualMovingAverageVQ(Quantizer):
    """`residual_vq`: each level quantises what the levels before it left over (Zeghidour et al. 2021, algorithm 1)."""

    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__(config)
        self.inner = ResidualVQ(
            dim=self.width,
            num_quantizers=config.num_quantizers,
            codebook_size=config.codebook_size,
            **_averages(config),
        )

    def _quantize(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        for layer in self.inner.layers:
            _check_start(layer, self.num_codes, tokens)
        return self.inner(tokens)

    def _lookup(self, indices: Tensor) -> Tensor:
        return self.inner.get_output_from_indices(indices)


class LinearVQ(Quantizer):
    """`simvq`: fixed random codes seen through one learned linear map, so that all of them move (arXiv 2411.02038)."""

    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__(config)
        self.inner = SimVQ(
            dim=self.width,
            codebook_size=config.codebook_size,
            rotation_trick=config.rotation_trick,
            input_to_quantize_commit_loss_weight=config.commitment,
        )

    def _quantize(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.inner(tokens)

    def _lookup(self, indices: Tensor) -> Tensor:
        return self.inner.indices_to_codes(indices[..., 0])


class FiniteScalar(Quantizer):
    """`fsq`: every dimension rounded to a few steps; there is no codebook to learn or to lose (arXiv 2309.15505)."""

    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__(config)
        self.inner = FSQ(levels=list(config.levels))

    def _quantize(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        codes, indices = self.inner(tokens)
        return codes, indices, tokens.new_zeros(())

    def _lookup(self, indices: Tensor) -> Tensor:
        return self.inner.indices_to_codes(indices[..., 0])


class LookupFree(Quantizer):
    """`lfq`: the signs of log2(C) numbers are the code; an entropy term keeps codes in use (arXiv 2310.05737).

    Signs and codes are the library's; its losses are not: it drops the result of averaging code shares over ranks, and so
    would maximise another entropy on several GPUs than on one.
    """

    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__(config)
        self.inner = LFQ(codebook_size=config.codebook_size, dim=self.width)

    def _quantize(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self.inner.eval()
        signs, indices, loss = self.inner(tokens)
        if self.training:
            commitment = F.mse_loss(tokens, signs)
            loss = self.config.commitment * commitment + self.config.entropy_weight * self._entropies(tokens)
        return tokens + (signs - tokens).detach(), indices, loss

    def _entropies(self, tokens: Tensor) -> Tensor:
        """Entropy of the codes of one token (to be small) minus that of all tokens of all ranks (to be large)."""
        shares = (2 * INVERSE_TEMPERATURE * tokens.flatten(0, 1) @ self.inner.codebook.T).softmax(-1)  # [B * S, C]
        overall = shares.mean(0)
        if _world_size() > 1:
            overall = distributed.all_reduce(overall) / _world_size()
        return _entropy(shares).mean() - _entropy(overall)

    def _lookup(self, indices: Tensor) -> Tensor:
        return self.inner.indices_to_codes(indices[..., 0])


QUANTIZERS: dict[str, type[Quantizer]] = {
    "vq": MovingAverageVQ,
    "residual_vq": ResidualMovingAverageVQ,
    "simvq": LinearVQ,
    "fsq": FiniteScalar,
    "lfq": LookupFree,
}


def make_quantizer(config: QuantizerConfig) -> Quantizer:
    """The quantiser by its name."""
    return QUANTIZERS[config.name](config)


def _averages(config: QuantizerConfig) -> dict[str, Any]:
    """What both moving-average quantisers pass on."""
    return {
        "decay": config.decay,
        "kmeans_init": config.kmeans_init,
        "kmeans_iters": config.kmeans_iters,
        "threshold_ema_dead_code": config.revive_below,
        "commitment_weight": config.commitment,
        "rotation_trick": config.rotation_trick,
        # Counts, sums, k-means and revivals are then the same on all ranks. Said here, because the library's own
        # answer is fixed when the first quantiser of a process is built.
        "sync_codebook": _world_size() > 1,
    }


def _entropy(shares: Tensor) -> Tensor:
    """`[..., C]` → `[...]`, nats. Clamped, as the slope of p log p at 0 is not finite."""
    return -(shares * shares.clamp_min(1e-5).log()).sum(-1)


def _world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def _check_start(inner: VectorQuantize, num_codes: int, tokens: Tensor) -> None:
    """Refuse a k-means start that would repeat tokens, and codes asked of a codebook that never started."""
    codebook = inner._codebook
    if bool(codebook.initted):
        return
    if not inner.training:
        raise UserError("the codebook has not started: train the VQ-VAE for a step, or load its weights, first.")
    num_tokens = tokens.shape[0] * tokens.shape[1] * _world_size()
    if num_tokens < num_codes:
        raise UserError(
            f"a codebook of {num_codes} codes cannot start from the {num_tokens} tokens of the first batch. Lower "
            "quantizer.codebook_size, raise optim.batch_size, or set quantizer.kmeans_init=false."
        )
