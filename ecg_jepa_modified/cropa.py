"""Cross-Pattern Attention (CroPA): each token sees its own lead and its own time, and nothing else.

Tokens form a lead × time grid, also when some times are masked (masks are over time only). So the N·L × N·L score matrix
of which most is masked away never has to exist: the scores along the row (N of them) and along the column (L) are all.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def cropa_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend along the lead and across the leads at the same time, under one softmax.

    Token (lead a, time i) attends to (lead b, time j) iff a = b or i = j; its own score stands in the row, and is struck
    from the column, so that it counts once. Equal to softmax(q·kᵀ/√head_dim) under the dense mask, with N + L scores per
    token instead of N·L. Scores are normalised in float32 at least, also under autocast.

    Plain products are the only path: on the CPU two fused calls merged through their log-sum-exp were no faster, because
    the column's sequences are only L long.

    Args:
        q, k, v: `[B, H, L, N, head_dim]`, any strides; N is the number of visible times, any from 1.

    Returns:
        `[B, H, L, N, head_dim]`, in v's dtype (autocast's, where that is on).

    Source: ECG-JEPA (arXiv 2410.08559), section 3.2; the grid form is this project's.
    """
    if q.shape[2] == 1:  # one lead: its row is everything
        return F.scaled_dot_product_attention(q.squeeze(2), k.squeeze(2), v.squeeze(2)).unsqueeze(2)
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
