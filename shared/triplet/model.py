"""An encoder and a projection head. Losses are apart, so that reading a checkpoint needs no metric-learning library."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from shared.config import Section
from shared.data.spec import InputSpec
from shared.errors import UserError
from shared.nn import init_xavier


class HeadConfig(Section):
    """The projection on the pooled embedding."""

    hidden: tuple[int, ...] = Field((256,), description="widths of hidden layers, ReLU between them")
    dim: int = Field(64, ge=1, description="width of the projection")
    normalize: bool = Field(True, description="projections of unit length")
    embed: Literal["after", "before"] = Field(
        "after", description="what is evaluated: the projection, or the embedding before the head"
    )


class TripletModel(nn.Module):
    """Encoder and projection head.

    Args:
        encoder: of either method: `embed`, `embed_dim`, `input_spec`, and for tuning `blocks` and `norm`; taken as it is.
        config: the head.
    """

    def __init__(self, encoder: Any, config: HeadConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or HeadConfig()
        self.encoder: Any = encoder
        self.input_spec: InputSpec = self.encoder.input_spec
        self.head = make_head(self.encoder.embed_dim, config)
        self.embed_dim: int = config.dim if config.embed == "after" else self.encoder.embed_dim

    def forward(self, inputs: Tensor) -> Tensor:
        """Projections `[B, E]` of ECG `[B, L, T]`, or of the encoder's own embeddings `[B, D]` computed before."""
        return self.project(self.encoder.embed(inputs) if inputs.ndim == 3 else inputs)

    def project(self, features: Tensor) -> Tensor:
        """Head on pooled embeddings: `[B, D]` → `[B, E]`, of unit length where the config says so."""
        out = self.head(features).float()
        return F.normalize(out, dim=-1) if self.config.normalize else out

    def embed(self, ecg: Tensor, leads: Sequence[str] | None = None) -> Tensor:
        """Representation `[B, embed_dim]` after or before the head; `leads` names the rows where they are a subset."""
        features = self.encoder.embed(ecg, leads)
        return self.project(features) if self.config.embed == "after" else features

    def let_learn(self, what: str, last_blocks: int) -> None:
        """Gradients for the head only (`none`), the last blocks and the final norm too, or the whole encoder (`all`).

        Raises:
            UserError: more blocks than there are.
        """
        self.encoder.requires_grad_(what == "all")
        if what == "last_blocks":
            if last_blocks > len(self.encoder.blocks):
                raise UserError(
                    f"encoder.last_blocks {last_blocks}: the encoder has {len(self.encoder.blocks)} blocks."
                )
            for module in (*self.encoder.blocks[-last_blocks:], self.encoder.norm):
                module.requires_grad_(True)


def make_head(dim: int, config: HeadConfig) -> nn.Sequential:
    """Linear layers with ReLU between them, `dim` → hidden … → `config.dim`."""
    widths = [dim, *config.hidden, config.dim]
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        layers += [nn.Linear(width_in, width_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).apply(init_xavier)
