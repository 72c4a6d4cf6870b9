"""Cross-Pattern Attention (CroPA): each token sees its own lead and its own time, and nothing else.

Tokens form a lead × time grid, also when some times are masked (masks are over time only). So the N·L × N·L score
matrix, most of it masked away, never has to exist: the scores along the row (N of them) and the column (L) are all.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_flash = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
_flash_backward = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu_backward", None)


def cropa_attention(q: Tensor, k: Tensor, v: Tensor, how: str = "auto") -> Tensor:
    """Attend along the lead and across the leads at the same time, under one softmax.

    Token (lead a, time i) attends to (lead b, time j) iff a = b or i = j, its own token counted once. Equal to
    softmax(q·kᵀ/√head_dim) under the dense mask. `cropa_reference` says how; on the CPU two fused calls merged through
    their log-sum-exp do the same in less time (about 1.7 times faster in both directions, at the published size).

    Args:
        q, k, v: `[B, H, L, N, head_dim]`, any strides; N is the number of visible times, any from 1.
        how: `auto`; or `grid`, `flex`, `masked`, which differ in speed and rounding only (`python -m shared.benchmark
            variants=plain,cropa=grid,cropa=flex,cropa=masked` says which is fastest here).

    Returns:
        `[B, H, L, N, head_dim]`, in v's dtype (autocast's, where that is on).

    Source: ECG-JEPA (arXiv 2410.08559), section 3.2; the grid form is this project's.
    """
    if q.shape[2] == 1:  # one lead: its row is everything
        return F.scaled_dot_product_attention(q.squeeze(2), k.squeeze(2), v.squeeze(2)).unsqueeze(2)
    if how in ("flex", "masked"):
        from ecg_jepa_modified import cropa_kernels  # all scores, which pays where a kernel never writes them down

        return getattr(cropa_kernels, how)(q, k, v)
    fuses = torch.compiler.is_compiling() or torch.is_autocast_enabled(q.device.type)  # or casts, by itself
    plain = fuses or how == "grid"
    if plain or _flash is None or q.device.type != "cpu" or q.dtype not in (torch.float32, torch.float64):
        return cropa_reference(q, k, v)
    return _MergedFlash.apply(q, k, v)


def cropa_reference(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """CroPA in plain products: N + L scores per token, the own score struck from the column, one softmax over both.

    Arguments and result as in `cropa_attention`, L ≥ 2. Scores are normalised in float32 at least.
    """
    num_times = q.shape[3]
    q = q * (1.0 / math.sqrt(q.shape[-1]))
    q_time, k_time, v_time = q.transpose(2, 3), k.transpose(2, 3), v.transpose(2, 3)  # [B, H, N, L, head_dim]
    row = q @ k.transpose(-2, -1)  # [B, H, L, N, N]
    column = q_time @ k_time.transpose(-2, -1)  # [B, H, N, L, L]
    column.diagonal(dim1=-2, dim2=-1).fill_(-math.inf)
    scores = torch.cat([row, column.transpose(2, 3)], dim=-1)  # [B, H, L, N, N + L]
    weights = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(v.dtype)
    along, across = weights[..., :num_times], weights[..., num_times:]
    return along @ v + (across.transpose(2, 3) @ v_time).transpose(2, 3)


class _MergedFlash(torch.autograd.Function):
    """Row and column attention as two fused calls, merged exactly.

    With z_r, z_c the log-sum-exps of the two score sets, softmax over both has log-sum-exp log(e^z_r + e^z_c) and value
    σ(z_r − z_c)·o_r + (1 − σ(z_r − z_c))·o_c. The fused backward rebuilds weights as exp(score − log-sum-exp) and needs
    the output only in the inner product with its gradient; given the *merged* output and log-sum-exp, each call so
    returns its exact share of the merged gradient.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        # Head next to head_dim: then rows and columns are both views, without a copy per direction.
        q, k, v = (tokens.permute(0, 2, 3, 1, 4).contiguous() for tokens in (q, k, v))  # [B, L, N, H, head_dim]
        num_leads = q.shape[1]
        strike = q.new_zeros(num_leads, num_leads).fill_diagonal_(-math.inf)  # the own token counts in the row
        row, row_lse = _flash(_rows(q), _rows(k), _rows(v))  # type: ignore[misc]
        column, column_lse = _flash(_columns(q), _columns(k), _columns(v), attn_mask=strike[None, None])  # type: ignore[misc]
        row_lse = row_lse.unflatten(0, (-1, num_leads)).transpose(2, 3)  # [B, L, N, H]
        column_lse = column_lse.transpose(1, 2).unflatten(2, q.shape[2:4])  # [B, L, N, H]
        share = torch.sigmoid(row_lse - column_lse)[..., None]
        out = torch.lerp(_grid_of_columns(column, q.shape), _grid_of_rows(row, q.shape), share)
        ctx.save_for_backward(q, k, v, out, torch.logaddexp(row_lse, column_lse), strike)
        return out.permute(0, 3, 1, 2, 4)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        *grids, lse, strike = ctx.saved_tensors
        grids = [grad.permute(0, 2, 3, 1, 4).contiguous(), *grids]  # gradient, q, k, v, out
        row_lse = lse.flatten(0, 1).transpose(1, 2).contiguous()  # [B·L, H, N]
        column_lse = lse.flatten(2, 3).transpose(1, 2).contiguous()  # [B, N·H, L]
        rows = _flash_backward(*map(_rows, grids), row_lse, 0.0, False)  # type: ignore[misc]
        columns = _flash_backward(*map(_columns, grids), column_lse, 0.0, False, attn_mask=strike[None, None])  # type: ignore[misc]
        shape = grids[0].shape
        return tuple(
            (_grid_of_rows(row, shape) + _grid_of_columns(column, shape)).permute(0, 3, 1, 2, 4)
            for row, column in zip(rows, columns, strict=True)
        )


def _rows(grid: Tensor) -> Tensor:
    """`[B, L, N, H, head_dim]` → one sequence of times per lead, `[B·L, H, N, head_dim]`."""
    return grid.flatten(0, 1).transpose(1, 2)


def _columns(grid: Tensor) -> Tensor:
    """`[B, L, N, H, head_dim]` → one sequence of leads per time, `[B, N·H, L, head_dim]`."""
    return grid.flatten(2, 3).transpose(1, 2)


def _grid_of_rows(rows: Tensor, shape: torch.Size) -> Tensor:
    """Undo `_rows`."""
    return rows.transpose(1, 2).unflatten(0, shape[:2])


def _grid_of_columns(columns: Tensor, shape: torch.Size) -> Tensor:
    """Undo `_columns`."""
    return columns.transpose(1, 2).unflatten(2, shape[2:4])
