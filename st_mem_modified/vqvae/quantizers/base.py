"""The interface of every quantiser, `forward(tokens)` and `lookup(indices)`, and what their configs have in common."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from shared.config import Section
from shared.errors import UserError
from shared.nn import Terms


class QuantizerConfig(Section):
    """How tokens become codes; `name` says which quantiser."""

    name: str

    @property
    def num_codes(self) -> int:
        """Codes per quantiser."""
        raise NotImplementedError

    @property
    def num_levels(self) -> int:
        """Codes per token."""
        return 1

    @property
    def width(self) -> int:
        """Dimensions of a code."""
        raise NotImplementedError


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


def world_size() -> int:
    """Processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1
