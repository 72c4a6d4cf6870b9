"""What both transformers share: attention, the pre-norm block, sin-cos tables, initialisation, exact products.

Masks and attention patterns are passed in, never drawn or stored here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from shared.errors import UserError

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`(q, k, v)`, each `[B, H, S, head_dim]`, to the attended values of the same shape."""


class Terms(dict[str, Any]):
    """Named terms of a model's output: `terms["loss"]` and `terms.loss` are the same."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"no term {name!r}; the terms are {', '.join(self)}.") from None


def check_ecg(ecg: Tensor, names: Sequence[str], patch_size: int, longest: int, advice: str) -> None:
    """Refuse what an encoder cannot take, before a shape says it less clearly.

    Args:
        ecg: `[B, L, T]` float.
        names: one for each of its rows.
        patch_size: samples; T is a multiple of it.
        longest: samples; T is this at most.
        advice: what to do where the number of rows is wrong.

    Raises:
        UserError: another type, shape or length.
    """
    if ecg.ndim != 3 or not ecg.is_floating_point():
        raise UserError(f"ecg must be a float [batch, lead, sample]; got {ecg.dtype} {list(ecg.shape)}.")
    if ecg.shape[1] != len(names):
        raise UserError(f"ecg has {ecg.shape[1]} leads but {len(names)} are named: {', '.join(names)}. {advice}")
    if not 0 < ecg.shape[2] <= longest or ecg.shape[2] % patch_size:
        raise UserError(
            f"ecg has {ecg.shape[2]} samples; this model takes {longest}, or fewer in multiples of {patch_size}. "
            "Crop or resample the records."
        )


class Attention(nn.Module):
    """Multi-head self-attention over a sequence."""

    def __init__(self, dim: int, num_heads: int, head_dim: int | None = None, qkv_bias: bool = True) -> None:
        super().__init__()
        self.num_heads = num_heads
        inner = num_heads * (head_dim or dim // num_heads)
        self.qkv = nn.Linear(dim, 3 * inner, bias=qkv_bias)
        self.proj = nn.Linear(inner, dim)

    def forward(self, x: Tensor, attend: Attend = F.scaled_dot_product_attention) -> Tensor:
        """`x [B, S, D]` → `[B, S, D]`; `attend` decides which tokens see each other (default: all)."""
        q, k, v = rearrange(self.qkv(x), "b s (three h d) -> three b h s d", three=3, h=self.num_heads)
        return self.proj(rearrange(attend(q, k, v), "b h s d -> b s (h d)"))


class Mlp(nn.Module):
    """Two linear layers with exact GELU between them. Not timm's, which would load torchvision into every evaluation."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """`[…, D]` → `[…, D]`."""
        return self.fc2(F.gelu(self.fc1(x)))


class DropPath(nn.Module):
    """In training, leave a residual branch out for whole records at random, and scale up what stays.

    Source: stochastic depth, Huang et al. 2016 (arXiv 1603.09382).
    """

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        """`x [B, …]` → the same shape."""
        if not self.training:
            return x
        kept = x.new_empty((len(x), *(1,) * (x.ndim - 1))).bernoulli_(1 - self.drop_prob)
        return x * kept.div_(1 - self.drop_prob)


class Block(nn.Module):
    """Pre-norm transformer block: `x += attn(norm1(x)); x += mlp(norm2(x))`, exact GELU."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        head_dim: int | None = None,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, num_heads, head_dim, qkv_bias)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Tensor, attend: Attend = F.scaled_dot_product_attention) -> Tensor:
        """`x [B, S, D]` → `[B, S, D]`."""
        x = x + self.drop_path(self.attn(self.norm1(x), attend))
        return x + self.drop_path(self.mlp(self.norm2(x)))


def run_block(block: nn.Module, recompute: bool, *inputs: Any) -> Tensor:
    """A block's output; with `recompute` what is inside it is computed again for the gradient instead of kept in memory."""
    if not (recompute and torch.is_grad_enabled()):
        return block(*inputs)
    return checkpoint(block, *inputs, use_reentrant=False)


@contextmanager
def full_products() -> Iterator[None]:
    """Products of float32 as such within, also where TF32 is allowed, whose ten bits cost small waves and reorder neighbours."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def sincos_1d(positions: Tensor, dim: int) -> Tensor:
    """Sine half then cosine half, ω_i = 10000^(−i/(dim/2)).

    Args:
        positions: `[n]`, any number type.
        dim: even width.

    Returns:
        `[n, dim]` float32; angles are computed in float64, so that tables agree with published checkpoints to rounding.
    """
    if dim % 2:
        raise ValueError(f"a sin-cos table needs an even width, {dim} was given.")
    omega = 10000.0 ** (-torch.arange(dim // 2, dtype=torch.float64) / (dim / 2))
    angles = positions.to(torch.float64)[:, None] * omega
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


def sincos_2d(num_leads: int, num_patches: int, dim: int) -> Tensor:
    """Lead × time table: the first dim/2 columns encode the time index, the last dim/2 the lead index.

    Returns:
        `[num_leads, num_patches, dim]` float32.
    """
    if dim % 4:
        raise ValueError(f"a lead x time table needs a width divisible by 4, {dim} was given.")
    time = sincos_1d(torch.arange(num_patches), dim // 2)
    lead = sincos_1d(torch.arange(num_leads), dim // 2)
    return torch.cat(
        [time.expand(num_leads, -1, -1), lead[:, None].expand(-1, num_patches, -1)],
        dim=-1,
    )


def init_xavier(module: nn.Module) -> None:
    """Xavier-uniform weights and zero biases for Linear layers (ST-MEM, after MAE). Use with `module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def init_trunc_normal(module: nn.Module) -> None:
    """Normal(0, 0.02) cut at ±2, zero biases, for Linear layers (ECG-JEPA, after I-JEPA). Use with `module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def rescale_blocks(blocks: Iterable[nn.Module]) -> None:
    """Divide the two residual projections of block k (from 1) by sqrt(2k), so that the stream's variance stays level."""
    for k, block in enumerate(blocks, start=1):
        assert isinstance(block, Block)
        block.attn.proj.weight.data.div_(math.sqrt(2.0 * k))
        block.mlp.fc2.weight.data.div_(math.sqrt(2.0 * k))
