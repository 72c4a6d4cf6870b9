"""CroPA as attention over all tokens at once, those outside row and column masked away inside one fused kernel.

That is L·N / (N + L − 1) times the scores of the grid, seven at the published size; on a GPU they may still be faster,
as no score is written to memory. Arguments and result as in `cropa.cropa_attention`; equal to it up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

from shared.errors import UserError


def masked(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """By `scaled_dot_product_attention` with a mask `[S, S]`."""
    row, time = _places(q)
    seen = (row[:, None] == row) | (time[:, None] == time)
    q_all, k_all, v_all = (tokens.flatten(2, 3) for tokens in (q, k, v))
    return F.scaled_dot_product_attention(q_all, k_all, v_all, attn_mask=seen).unflatten(2, q.shape[2:4])


def flex(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """By FlexAttention, the pattern a function of two places, so that another number of times compiles nothing new.

    No block of the pattern is empty (columns reach everywhere), so there is no block mask to save work.
    """
    row, time = _places(q)

    def cross(score: Tensor, _batch: Tensor, _head: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return torch.where((row[i] == row[j]) | (time[i] == time[j]), score, -math.inf)

    if q.device.type == "cpu" and torch.is_grad_enabled() and q.requires_grad:
        raise UserError("model.cropa=flex: FlexAttention has no gradient on a CPU. Train there with model.cropa=auto.")
    attend = _plain() if torch.compiler.is_compiling() or not q.is_cuda else _compiled()
    out: Tensor = attend(*(x.flatten(2, 3) for x in (q, k, v)), score_mod=cross)
    return out.unflatten(2, q.shape[2:4])


def _places(q: Tensor) -> tuple[Tensor, Tensor]:
    """Row and time of each token `[S]` of a grid `[B, H, L, N, head_dim]`."""
    places = torch.arange(q.shape[2] * q.shape[3], device=q.device)
    return places // q.shape[3], places % q.shape[3]


def _plain() -> Callable[..., Any]:
    return flex_attention


@cache
def _compiled() -> Callable[..., Any]:
    """Outside a compiled model FlexAttention is one kernel only when it is compiled itself."""
    return torch.compile(flex_attention, dynamic=True)
