"""The context encoder of ECG-JEPA (arXiv 2410.08559), of signals alone.

Tokens are lead-major: token (lead a, patch i) of `[B, L·N, D]` stands at a·N + i.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ecg_jepa_modified.config import ModelConfig
from ecg_jepa_modified.cropa import cropa_attention
from ecg_jepa_modified.masking import as_groups
from shared.data.spec import InputSpec
from shared.leads import subset_leads
from shared.nn import Attend, Block, check_ecg, init_trunc_normal, rescale_blocks, run_block, sincos_2d


class ECGJEPAEncoder(nn.Module):
    """Patches of every lead, transformer blocks with CroPA, and the position table added before each of them."""

    pos_embed: Tensor  # [rows, N, D]

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_dim: int = config.embed_dim
        self.input_spec: InputSpec = config.input
        self.rows: tuple[str, ...] = config.rows  # names of the table's rows
        self.patch_embed = nn.Linear(config.patch_size, config.embed_dim)
        set_positions(self, config.pos_embed, len(self.rows), config.num_patches, config.embed_dim)
        self.blocks = make_blocks(config.embed_dim, config.depth, config.num_heads, config.mlp_ratio, config.drop_path)
        self.norm = nn.LayerNorm(config.embed_dim)
        self.apply(init_trunc_normal)
        rescale_blocks(self.blocks)

    def forward(self, ecg: Tensor, leads: str | Sequence[str] | None = None, visible: Tensor | None = None) -> Tensor:
        """Encode the visible patches of the given leads.

        Args:
            ecg: `[B, L, T]` in mV, T a multiple of the patch size; a short one takes the table's first patches.
            leads: names of its rows, in any order; None: the model's own, in their order.
            visible: indices of the visible times `[Nvis]`, or `[G, Nvis]` for G equal parts of the batch; None: all.

        Returns:
            `[B, L·Nvis, D]`, after the final norm.

        Raises:
            UserError: shape, length or lead names that the model cannot take.
        """
        if visible is not None:
            visible = as_groups(visible, len(ecg)).to(ecg.device, non_blocking=True)
        x, table, attend = self.to_tokens(ecg, leads, visible)
        for block in self.blocks:
            x = run_block(block, self.config.recompute, add_positions(x, table), attend)
        return self.norm(x)

    def to_tokens(
        self, ecg: Tensor, leads: str | Sequence[str] | None, visible: Tensor | None
    ) -> tuple[Tensor, Tensor, Attend]:
        """Embedded visible patches `[B, S, D]`, their positions `[1 or G, S, D]`, and who sees whom."""
        names = self.rows if leads is None else subset_leads(leads, self.input_spec.leads)
        patches = self.to_patches(ecg, names)  # [B, L, N, P]
        table = pick_positions(self.positions(names, patches.shape[2]), visible)
        # Patches are picked before they are embedded: masked samples are never computed with.
        x = self.patch_embed(pick_times(patches, visible)).flatten(1, 2)
        return x, table, self.attend(len(names))

    def embed(self, ecg: Tensor, leads: str | Sequence[str] | None = None) -> Tensor:
        """Represent records: the mean over all tokens after the final norm.

        Args:
            ecg: `[B, L, T]` in mV, preprocessed as `input_spec` says.
            leads: names of its rows; None: the model's own.

        Returns:
            `[B, D]`.
        """
        return self(ecg, leads).mean(dim=1)

    def tokens(self, ecg: Tensor, leads: str | Sequence[str] | None = None) -> Tensor:
        """As `embed`, without the mean: `[B, L, N, D]`."""
        return self(ecg, leads).unflatten(1, (-1, ecg.shape[2] // self.config.patch_size))

    def num_predicted(self, num_rows: int) -> int:
        """How many of the first of `num_rows` rows are hidden and predicted in pretraining."""
        return num_rows

    def attend(self, num_leads: int) -> Attend:
        """CroPA over a flat sequence `[B, H, S, head_dim]` of `num_leads` rows."""

        def over_grid(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            q, k, v = (tokens.unflatten(2, (num_leads, -1)) for tokens in (q, k, v))
            return cropa_attention(q, k, v, self.config.cropa).flatten(2, 3)

        return over_grid

    def to_patches(self, ecg: Tensor, names: Sequence[str]) -> Tensor:
        """Check `[B, L, T]`, one name per row, and cut it: `[B, L, N, P]`."""
        size = self.config.patch_size
        check_ecg(ecg, names, size, self.input_spec.num_samples, self.advice)
        return ecg.unflatten(2, (-1, size))

    @property
    def advice(self) -> str:
        """What to do where the number of rows is wrong."""
        return (
            "Select these leads, or pass leads=[...] with the name of each row. "
            "Rows of features are for a hybrid model (model.input.features)."
        )

    def positions(self, names: tuple[str, ...], num_patches: int) -> Tensor:
        """Rows of the position table, found by name: `[L, N, D]`."""
        table = self.pos_embed[:, :num_patches]
        return table if names == self.rows else table[[self.rows.index(name) for name in names]]


def pick_times(patches: Tensor, visible: Tensor | None) -> Tensor:
    """The times `[G, n]` of `patches [B, R, N, P]`, in their order; None takes all."""
    if visible is None:
        return patches
    grouped = patches.unflatten(0, (len(visible), -1))  # [G, B/G, R, N, P]
    return grouped.take_along_dim(visible[:, None, None, :, None], dim=3).flatten(0, 1)


def pick_positions(positions: Tensor, visible: Tensor | None) -> Tensor:
    """The same of `positions [R, N, D]`, as a sequence per group: `[G, R·n, D]`, or `[1, R·N, D]`."""
    if visible is None:
        return positions.flatten(0, 1)[None]
    return positions[:, visible].transpose(0, 1).flatten(1, 2)


def set_positions(module: nn.Module, kind: str, rows: int, num_patches: int, dim: int) -> None:
    """Give the module `pos_embed [rows, N, dim]`: a constant, or a parameter that is trained."""
    if kind == "learnable":
        module.pos_embed = nn.Parameter(nn.init.trunc_normal_(torch.empty(rows, num_patches, dim), std=0.02))
    else:
        module.register_buffer("pos_embed", sincos_2d(rows, num_patches, dim))


def make_blocks(dim: int, depth: int, num_heads: int, mlp_ratio: float, drop_path: float) -> nn.ModuleList:
    """Transformer blocks without qkv bias, drop-path rising linearly to the rate given."""
    rates = [drop_path * i / max(depth - 1, 1) for i in range(depth)]  # 0 at the first block
    return nn.ModuleList(Block(dim, num_heads, mlp_ratio=mlp_ratio, qkv_bias=False, drop_path=rate) for rate in rates)


def add_positions(x: Tensor, table: Tensor) -> Tensor:
    """`x [B, S, D]` plus `table [G, S, D]`, each table for its B/G consecutive entries."""
    if table.shape[0] == 1:
        return x + table
    return (x.unflatten(0, (table.shape[0], -1)) + table[:, None]).flatten(0, 1)
