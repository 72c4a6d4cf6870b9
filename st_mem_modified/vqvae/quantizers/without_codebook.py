"""Quantisers that round numbers and have no codebook to learn or to lose: `fsq`, `lfq`."""

from __future__ import annotations

import math
from typing import Literal

import torch.distributed.nn as distributed
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor

from st_mem_modified.vqvae.quantizers.base import Quantizer, QuantizerConfig, world_size

INVERSE_TEMPERATURE = 100.0
"""Of lfq's shares of codes in its entropies; the library's default."""


class FSQConfig(QuantizerConfig):
    """`fsq`: no codebook, each dimension in steps."""

    name: Literal["fsq"] = "fsq"
    levels: tuple[int, ...] = Field((8, 8, 5, 3), min_length=1, description="steps per dimension")

    @field_validator("levels")
    @classmethod
    def _steps(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if min(value) < 3:
            raise ValueError(f"levels {value} hold fewer than 3 steps")
        return value

    @property
    def num_codes(self) -> int:
        """Codes per quantiser."""
        return math.prod(self.levels)

    @property
    def width(self) -> int:
        """Dimensions of a code."""
        return len(self.levels)


class FiniteScalar(Quantizer):
    """`fsq`: every dimension rounded to a few steps; there is no codebook to learn or to lose (arXiv 2309.15505)."""

    def __init__(self, config: FSQConfig) -> None:
        super().__init__(config)
        from vector_quantize_pytorch import FSQ

        self.inner = FSQ(levels=list(config.levels))

    def _quantize(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        codes, indices = self.inner(tokens)
        return codes, indices, tokens.new_zeros(())

    def _lookup(self, indices: Tensor) -> Tensor:
        return self.inner.indices_to_codes(indices[..., 0])


class LFQConfig(QuantizerConfig):
    """`lfq`: no codebook, the signs are the code."""

    name: Literal["lfq"] = "lfq"
    codebook_size: int = Field(256, ge=2, description="codes; a power of 2")
    commitment: float = Field(0.25, ge=0, description="weight of the pull of tokens towards their codes")
    entropy_weight: float = Field(0.1, ge=0, description="sure of each code, even over all codes")

    @field_validator("codebook_size")
    @classmethod
    def _power(cls, value: int) -> int:
        if value & (value - 1):
            near = 2 ** round(math.log2(value))
            raise ValueError(f"codebook_size {value} is not a power of 2, which lfq needs; {near} is near")
        return value

    @property
    def num_codes(self) -> int:
        """Codes per quantiser."""
        return self.codebook_size

    @property
    def width(self) -> int:
        """Dimensions of a code."""
        return int(math.log2(self.codebook_size))


class LookupFree(Quantizer):
    """`lfq`: the signs of log2(C) numbers are the code; an entropy term keeps codes in use (arXiv 2310.05737).

    Signs and codes are the library's; its losses are not: it drops the result of averaging code shares over ranks, and so
    would maximise another entropy on several GPUs than on one.
    """

    config: LFQConfig

    def __init__(self, config: LFQConfig) -> None:
        super().__init__(config)
        from vector_quantize_pytorch import LFQ

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
        if world_size() > 1:
            overall = distributed.all_reduce(overall) / world_size()
        return _entropy(shares).mean() - _entropy(overall)

    def _lookup(self, indices: Tensor) -> Tensor:
        return self.inner.indices_to_codes(indices[..., 0])


def _entropy(shares: Tensor) -> Tensor:
    """`[..., C]` → `[...]`, nats. Clamped, as the slope of p log p at 0 is not finite."""
    return -(shares * shares.clamp_min(1e-5).log()).sum(-1)
