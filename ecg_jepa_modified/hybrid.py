"""Hybrid input: rows of clinical measurements (`shared.measurements.features`) beside the signals, in the same lead × time grid.

    x = [B, L + F, T]: L leads in mV, then F features in their own units, NaN where a measurement could not be made

Every feature has its own patch embedding, and a learned vector in place of a patch with any missing sample. The patches
join the leads' as `model.hybrid.join` says: each feature as a further row (the seed project's way: 8 + 11 = 19 rows), one
further row in which all features of a time share a token, or added to the leads' tokens of that time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecg_jepa_modified.config import ModelConfig
from ecg_jepa_modified.cropa import cropa_attention
from ecg_jepa_modified.encoder import ECGJEPAEncoder, pick_positions, pick_times
from shared.data.store import ECGStore
from shared.errors import UserError
from shared.leads import subset_leads
from shared.measurements.scaler import FeatureScaler
from shared.nn import Attend

FIT_RECORDS = 4096
"""The scales are taken from so many training records, evenly spread: enough for three digits, and seconds to read."""


class FeatureEmbed(nn.Module):
    """Patches of features to tokens: scaled by kind, each feature with its own linear map and its own missing token."""

    def __init__(self, names: Sequence[str], patch_size: int, dim: int) -> None:
        super().__init__()
        self.scaler = FeatureScaler(names)
        self.weight = nn.Parameter(nn.init.trunc_normal_(torch.empty(len(names), patch_size, dim), std=0.02))
        self.bias = nn.Parameter(torch.zeros(len(names), dim))
        self.missing = nn.Parameter(nn.init.trunc_normal_(torch.empty(len(names), dim), std=0.02))

    def forward(self, patches: Tensor) -> Tensor:
        """`patches [B, F, N, P]`, NaN where missing → `[B, F, N, D]`, finite."""
        values, known = self.scaler(patches.flatten(2))
        values, known = (part.unflatten(2, patches.shape[2:]) for part in (values, known))
        tokens = torch.einsum("bfnp,fpd->bfnd", values, self.weight) + self.bias[:, None]
        return torch.where(known.all(dim=-1, keepdim=True), tokens, self.missing[:, None].to(tokens.dtype))


class HybridEncoder(ECGJEPAEncoder):
    """The encoder over leads and features. The features follow the leads, also where only some leads are given."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.hybrid = config.hybrid
        self.feature_rows = config.rows[len(config.input.leads) :]
        self.feature_embed = FeatureEmbed(config.input.features, config.patch_size, config.embed_dim)
        if not config.input.leads:
            del self.patch_embed  # a parameter that nothing uses would stop distributed training

    def to_tokens(
        self, ecg: Tensor, leads: str | Sequence[str] | None, visible: Tensor | None
    ) -> tuple[Tensor, Tensor, Attend]:
        """As the plain encoder's. Sequence: the leads' visible patches, then the features', row by row."""
        names = subset_leads(leads, self.input_spec.leads)
        patches = self.to_patches(ecg, (*names, *self.input_spec.features))  # [B, L + F, N, P]
        signals, features = patches[:, : len(names)], patches[:, len(names) :]
        num_patches = patches.shape[2]
        positions = self.positions((*names, *self.feature_rows), num_patches)  # [R, N, D]
        shown = visible
        if visible is not None and not self.hybrid.predict_features:
            shown = visible_first(visible, num_patches)  # all times, those that the leads show before the others
        x = self.feature_embed(pick_times(features, shown))
        if self.hybrid.join != "rows":
            x = x.sum(dim=1, keepdim=True)  # [B, 1, N, D]
        parts, tables = [x], [pick_positions(positions[len(names) :], shown)]
        if names:
            tokens = self.patch_embed(pick_times(signals, visible))
            parts, tables = [tokens, x], [pick_positions(positions[: len(names)], visible), *tables]
        if self.hybrid.join == "add":
            parts = [tokens + x]
        table = torch.cat(tables, dim=1)
        attend = self.attend(len(names) + len(self.feature_rows))
        if shown is not visible:
            attend = ragged_attend(len(names), len(self.feature_rows), num_patches)
        elif not self.hybrid.in_columns:
            attend = apart_attend(len(names), len(self.feature_rows))
        return torch.cat([part.flatten(1, 2) for part in parts], dim=1), table, attend

    def num_predicted(self, num_rows: int) -> int:
        """All rows, or those of the leads alone."""
        return num_rows if self.hybrid.predict_features else num_rows - len(self.feature_rows)

    @property
    def advice(self) -> str:
        """What to do where the number of rows is wrong."""
        leads, features = self.input_spec.leads, self.input_spec.features
        return (
            f"This hybrid model takes {len(leads) + len(features)} rows: {len(leads)} leads and then {len(features)} "
            "features. Prepare the store with features=all and read it as the model's input_spec says; for signals "
            "alone, take a plain model."
        )


def visible_first(visible: Tensor, num_patches: int) -> Tensor:
    """Times `[G, Nvis]` to all times `[G, N]`: the visible ones as they stand, then the others in order."""
    hidden = torch.ones(len(visible), num_patches, dtype=torch.uint8, device=visible.device)
    hidden.scatter_(1, visible, 0)
    rest = hidden.argsort(dim=1, descending=True, stable=True)[:, : num_patches - visible.shape[1]]
    return torch.cat([visible, rest], dim=1)


def apart_attend(num_leads: int, num_features: int) -> Attend:
    """CroPA among the leads; a feature sees its own row only, and no lead sees it."""

    def over_grid(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        grids = [tokens.unflatten(2, (num_leads + num_features, -1)) for tokens in (q, k, v)]
        out = [F.scaled_dot_product_attention(*(grid[:, :, num_leads:] for grid in grids))]
        if num_leads:
            out = [cropa_attention(*(grid[:, :, :num_leads] for grid in grids)), *out]
        return torch.cat([part.flatten(2, 3) for part in out], dim=2)

    return over_grid


def ragged_attend(num_leads: int, num_features: int, num_times: int) -> Attend:
    """CroPA where features show all `num_times` times and leads only the first of them."""

    def over_grid(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        sizes = [q.shape[2] - num_features * num_times, num_features * num_times]
        leads, features = zip(*(tokens.split(sizes, dim=2) for tokens in (q, k, v)), strict=True)
        out = cropa_ragged(
            tuple(part.unflatten(2, (num_leads, -1)) for part in leads),
            tuple(part.unflatten(2, (num_features, -1)) for part in features),
        )
        return torch.cat([part.flatten(2, 3) for part in out], dim=2)

    return over_grid


def cropa_ragged(leads: tuple[Tensor, Tensor, Tensor], others: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """CroPA where some rows hold more times than the leads do: the leads' times first, then times of their own.

    Arguments:
        leads: q, k, v of the leads, `[B, H, L, n, head_dim]`.
        others: q, k, v of the other rows, `[B, H, F, N, head_dim]`, N ≥ n; times n…N−1 have a column of F tokens.

    Returns:
        `([B, H, L, n, head_dim], [B, H, F, N, head_dim])`, in v's dtype; scores are normalised in float32 at least.
    """
    num_leads, num_shared = leads[0].shape[2:4]
    full = [torch.cat([a, b[:, :, :, :num_shared]], dim=2) for a, b in zip(leads, others, strict=True)]  # [B,H,L+F,n,d]
    rest = [tokens[:, :, :, num_shared:] for tokens in others]  # [B, H, F, N − n, d]
    in_full, in_rest = _column_scores(*full[:2]), _column_scores(*rest[:2])

    def mix(row: tuple[Tensor, Tensor, Tensor], column: Tensor, times: slice, values: Tensor) -> Tensor:
        """Tokens of `row` at `times`: one softmax over their row and their `column` scores."""
        q, k, v = row
        along = (q[:, :, :, times] / math.sqrt(q.shape[-1])) @ k.transpose(-2, -1)
        scores = torch.cat([along, column.transpose(2, 3)], dim=-1)
        weights = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(v.dtype)
        along, across = weights[..., : k.shape[3]], weights[..., k.shape[3] :]
        return along @ v + (across.transpose(2, 3) @ values.transpose(2, 3)).transpose(2, 3)

    shared, own = slice(0, num_shared), slice(num_shared, None)
    of_leads = mix(leads, in_full[:, :, :, :num_leads], shared, full[2])
    at_shared = mix(others, in_full[:, :, :, num_leads:], shared, full[2])
    at_own = mix(others, in_rest, own, rest[2])
    return of_leads, torch.cat([at_shared, at_own], dim=3)


def _column_scores(q: Tensor, k: Tensor) -> Tensor:
    """Scores within each time of `[B, H, R, n, d]`, the own token struck out: `[B, H, n, R, R]`."""
    scores = (q.transpose(2, 3) / math.sqrt(q.shape[-1])) @ k.transpose(2, 3).transpose(-2, -1)
    scores.diagonal(dim1=-2, dim2=-1).fill_(-math.inf)
    return scores


def fit_features(encoders: Sequence[nn.Module], store: ECGStore, train: np.ndarray) -> None:
    """Fit the scales of hybrid encoders (a student and its teacher) on training records; plain encoders need none.

    Args:
        encoders: get the same scales.
        store: with the features.
        train: indices of the training records, and of no others.
    """
    hybrid = [encoder for encoder in encoders if isinstance(encoder, HybridEncoder)]
    if not hybrid:
        return
    spec = hybrid[0].input_spec
    rows = store.rows_for(spec)[len(spec.leads) :]
    count = min(len(train), FIT_RECORDS)
    chosen = train[np.linspace(0, len(train) - 1, count).round().astype(int)]
    parts = (chosen[i : i + 64] for i in range(0, count, 64))
    scaler = hybrid[0].feature_embed.scaler
    scaler.fit(store.read_windows(part, np.zeros_like(part), store.num_samples, rows) for part in parts)
    for encoder in hybrid[1:]:
        copy_scales(hybrid[0], encoder)


def copy_scales(fitted: nn.Module, to: nn.Module) -> None:
    """Give one hybrid encoder the scales of another: a random encoder must see what the trained one sees.

    Raises:
        UserError: one of them takes no features, or others.
    """
    if not isinstance(fitted, HybridEncoder) or not isinstance(to, HybridEncoder):
        raise UserError("scales of features can be copied between hybrid encoders only.")
    if fitted.input_spec.features != to.input_spec.features:
        raise UserError("scales of features can be copied only where both encoders take the same features.")
    to.feature_embed.scaler.load_state_dict(fitted.feature_embed.scaler.state_dict())
