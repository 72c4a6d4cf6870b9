"""Quantisers with a codebook of vectors: `vq`, `residual_vq`, `simvq`."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.distributed as dist
from pydantic import Field
from torch import Tensor

from shared.errors import UserError
from st_mem_modified.vqvae.quantizers.base import Quantizer, QuantizerConfig, world_size


class CodebookConfig(QuantizerConfig):
    """What quantisers with a codebook of vectors have in common."""

    codebook_size: int = Field(256, ge=2, description="codes (per quantiser for residual_vq)")
    code_dim: int = Field(16, ge=1, description="width in which codes are compared; few dimensions keep codes in use")
    commitment: float = Field(0.25, ge=0, description="weight of the pull of tokens towards their codes")
    rotation_trick: bool = Field(False, description="gradients through the quantiser by rotation (arXiv 2410.06424)")

    @property
    def num_codes(self) -> int:
        """Codes per quantiser."""
        return self.codebook_size

    @property
    def width(self) -> int:
        """Dimensions of a code."""
        return self.code_dim


class MovingAverageConfig(CodebookConfig):
    """Codes that are moving averages of their tokens."""

    decay: float = Field(0.95, gt=0, lt=1, description="of the moving averages that are the codes")
    kmeans_init: bool = Field(True, description="start the codes as k-means centres of the first batch")
    kmeans_iters: int = Field(10, ge=1)
    revive_below: float = Field(
        2.0, ge=0, description="codes used less often than this a batch (moving average) restart at a token; 0: never"
    )


class VQConfig(MovingAverageConfig):
    """`vq`: one codebook of moving averages."""

    name: Literal["vq"] = "vq"
    cosine: bool = Field(True, description="codes and tokens on the unit sphere")


class MovingAverageVQ(Quantizer):
    """`vq`: one codebook of moving averages (van den Oord et al. 2017, appendix A.1), started by k-means."""

    def __init__(self, config: VQConfig) -> None:
        super().__init__(config)
        from vector_quantize_pytorch import VectorQuantize

        self.inner = VectorQuantize(
            dim=self.width, use_cosine_sim=config.cosine, codebook_size=config.codebook_size, **_averages(config)
        )
        _draw_over_ranks(self.inner._codebook)

    def _quantize(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        _check_start(self.inner, self.num_codes, tokens)
        return self.inner(tokens)

    def _lookup(self, indices: Tensor) -> Tensor:
        return self.inner.get_codes_from_indices(indices[..., 0])


class ResidualVQConfig(MovingAverageConfig):
    """`residual_vq`: several codes per token."""

    name: Literal["residual_vq"] = "residual_vq"
    num_quantizers: int = Field(2, ge=1, description="each quantises what the last one left over")

    @property
    def num_levels(self) -> int:
        """Codes per token."""
        return self.num_quantizers


class ResidualMovingAverageVQ(Quantizer):
    """`residual_vq`: each level quantises what the levels before it left over (Zeghidour et al. 2021, algorithm 1)."""

    def __init__(self, config: ResidualVQConfig) -> None:
        super().__init__(config)
        from vector_quantize_pytorch import ResidualVQ

        self.inner = ResidualVQ(
            dim=self.width,
            num_quantizers=config.num_quantizers,
            codebook_size=config.codebook_size,
            **_averages(config),
        )
        for layer in self.inner.layers:
            _draw_over_ranks(layer._codebook)

    def _quantize(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        for layer in self.inner.layers:
            _check_start(layer, self.num_codes, tokens)
        return self.inner(tokens)

    def _lookup(self, indices: Tensor) -> Tensor:
        return self.inner.get_output_from_indices(indices)


class SimVQConfig(CodebookConfig):
    """`simvq`: fixed codes seen through a learned map."""

    name: Literal["simvq"] = "simvq"


class LinearVQ(Quantizer):
    """`simvq`: fixed random codes seen through one learned linear map, so that all of them move (arXiv 2411.02038)."""

    def __init__(self, config: SimVQConfig) -> None:
        super().__init__(config)
        from vector_quantize_pytorch import SimVQ

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


def _averages(config: MovingAverageConfig) -> dict[str, Any]:
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
        "sync_codebook": world_size() > 1,
    }


def _draw_over_ranks(codebook: Any) -> None:
    """Let k-means and revivals draw from the tokens of all ranks as one rank with all of them would.

    The library draws on each rank from its own, with its own random numbers: codes, and all that is trained on them, would
    depend on the number of ranks.
    """
    if world_size() > 1:
        codebook.sample_fn = codebook.replace_sample_fn = _draw_tokens


def _draw_tokens(tokens: Tensor, number: int) -> Tensor:
    """`[1, number, D]` out of the `[1, n, D]` of every rank, without replacement where there are as many."""
    parts = [torch.empty_like(tokens) for _ in range(world_size())]
    dist.all_gather(parts, tokens.contiguous())
    together = torch.cat(parts, dim=1)
    count, device = together.shape[1], tokens.device
    enough = count >= number
    drawn = torch.randperm(count, device=device)[:number] if enough else torch.randint(count, (number,), device=device)
    dist.broadcast(drawn, src=0)
    return together[:, drawn]


def _check_start(inner: Any, num_codes: int, tokens: Tensor) -> None:
    """Refuse a k-means start that would repeat tokens, and codes asked of a codebook that never started."""
    codebook = inner._codebook
    if bool(codebook.initted):
        return
    if not inner.training:
        raise UserError("the codebook has not started: train the VQ-VAE for a step, or load its weights, first.")
    num_tokens = tokens.shape[0] * tokens.shape[1] * world_size()
    if num_tokens < num_codes:
        raise UserError(
            f"a codebook of {num_codes} codes cannot start from the {num_tokens} tokens of the first batch. Lower "
            "quantizer.codebook_size, raise optim.batch_size, or set quantizer.kmeans_init=false."
        )
