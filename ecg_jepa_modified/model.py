"""ECG-JEPA (arXiv 2410.08559): context encoder, EMA target encoder, per-lead predictor and the loss between them.

Tokens are lead-major: token (lead a, patch i) of `[B, L·N, D]` stands at a·N + i.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecg_jepa_modified.config import INPUT, ModelConfig
from ecg_jepa_modified.cropa import cropa_attention
from ecg_jepa_modified.masking import as_groups, split_times
from shared.checkpoints import CheckpointError, load_state, read_released
from shared.data.spec import InputSpec
from shared.errors import UserError
from shared.leads import GROUPS, LeadError, canonical_lead
from shared.nn import Attend, Block, Terms, init_trunc_normal, rescale_blocks, sincos_2d

OFFICIAL_NAMES: tuple[tuple[str, str], ...] = (
    ("encoder_blocks.blocks.", "blocks."),
    ("predictor_blocks.blocks.", "blocks."),
    ("W_P.", "patch_embed."),
    ("predictor_", ""),
)
"""Released parameter names → ours, replaced in this order."""


class ECGJEPAEncoder(nn.Module):
    """Patches of every lead, transformer blocks with CroPA, and the position table added before each of them."""

    pos_embed: Tensor  # [rows, N, D]

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_dim: int = config.embed_dim
        self.input_spec: InputSpec = config.input
        self.rows: tuple[str, ...] = tuple(config.input.leads)  # names of the table's rows
        self.patch_embed = nn.Linear(config.patch_size, config.embed_dim)
        _set_positions(self, config.pos_embed, len(self.rows), config.num_patches, config.embed_dim)
        self.blocks = _blocks(config.embed_dim, config.depth, config.num_heads, config.mlp_ratio, config.drop_path)
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
        patches, positions = self._grid(ecg, leads)  # [B, L, N, P], [L, N, D]
        if visible is None:
            table = positions.flatten(0, 1)[None]  # [1, S, D]
        else:
            visible = as_groups(visible, len(ecg)).to(ecg.device, non_blocking=True)
            table = positions[:, visible].transpose(0, 1).flatten(1, 2)  # [G, S, D]
            # Patches are picked before they are embedded: masked samples are never computed with.
            grouped = patches.unflatten(0, (len(visible), -1))  # [G, B/G, L, N, P]
            patches = grouped.take_along_dim(visible[:, None, None, :, None], dim=3).flatten(0, 1)
        x = self.patch_embed(patches).flatten(1, 2)  # [B, S, D]
        attend = self.attend(patches.shape[1])
        for block in self.blocks:
            x = block(_add_positions(x, table), attend)
        return self.norm(x)

    def embed(self, ecg: Tensor, leads: str | Sequence[str] | None = None) -> Tensor:
        """Represent records: the mean over all tokens after the final norm.

        Args:
            ecg: `[B, L, T]` in mV, preprocessed as `input_spec` says.
            leads: names of its rows; None: the model's own.

        Returns:
            `[B, D]`.
        """
        return self(ecg, leads).mean(dim=1)

    def attend(self, num_leads: int) -> Attend:
        """CroPA over a flat sequence `[B, H, S, head_dim]` of `num_leads` rows."""

        def over_grid(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            q, k, v = (tokens.unflatten(2, (num_leads, -1)) for tokens in (q, k, v))
            return cropa_attention(q, k, v).flatten(2, 3)

        return over_grid

    def _grid(self, ecg: Tensor, leads: str | Sequence[str] | None) -> tuple[Tensor, Tensor]:
        """Patches `[B, L, N, P]` and their rows of the position table `[L, N, D]`, found by lead name."""
        if ecg.ndim != 3 or not ecg.is_floating_point():
            raise UserError(f"ecg must be a float [batch, lead, sample]; got {ecg.dtype} {list(ecg.shape)}.")
        size, longest = self.config.patch_size, self.config.input.num_samples
        if not 0 < ecg.shape[2] <= longest or ecg.shape[2] % size:
            raise UserError(
                f"ecg has {ecg.shape[2]} samples; this model takes {longest}, or fewer in multiples of {size} "
                f"({self.config.input.fs:g} Hz). Crop or resample the records."
            )
        names = self.rows if leads is None else self._names(leads)
        if ecg.shape[1] != len(names):
            raise UserError(
                f"ecg has {ecg.shape[1]} leads but {len(names)} are named: {', '.join(names)}. "
                "Select these leads, or pass leads=[...] with the name of each row."
            )
        patches = ecg.unflatten(2, (-1, size))
        table = self.pos_embed[:, : patches.shape[2]]
        return patches, table if names == self.rows else table[[self.rows.index(name) for name in names]]

    def _names(self, leads: str | Sequence[str]) -> tuple[str, ...]:
        """The named rows in the model's spelling; its own names come first, as a row need not be an ECG lead."""
        if isinstance(leads, str) and leads.strip().lower() in GROUPS:
            # A group means those of its leads that the model has: `limb` is I and II for the eight independent leads.
            return tuple(name for name in GROUPS[leads.strip().lower()] if name in self.rows)
        parts = leads.split(",") if isinstance(leads, str) else leads
        own = {name.lower(): name for name in self.rows}
        names = tuple(own.get(str(name).strip().lower()) or canonical_lead(name) for name in parts)
        lacking = [name for name in names if name not in self.rows]
        if lacking:
            raise LeadError(
                f"this model lacks {', '.join(lacking)}; it knows {', '.join(self.rows)}. Select among these."
            )
        if not names or len(set(names)) != len(names):
            raise LeadError(f"each lead must be named once, and at least one; got {', '.join(names) or 'none'}.")
        return names


class Predictor(nn.Module):
    """Predicts the targets at the masked times of a lead from that lead's context tokens."""

    pos_embed: Tensor  # [1, N, width]: the 2-D recipe with a single lead row

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.predictor_dim
        self.embed = nn.Linear(config.embed_dim, width)
        self.mask_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, width), std=0.02))
        _set_positions(self, config.pos_embed, 1, config.num_patches, width)
        self.blocks = _blocks(width, config.predictor_depth, config.predictor_heads, config.mlp_ratio, drop_path=0.0)
        self.norm = nn.LayerNorm(width)
        self.proj = nn.Linear(width, config.embed_dim)
        self.apply(init_trunc_normal)
        rescale_blocks(self.blocks)

    def forward(self, context: Tensor, num_leads: int, visible: Tensor, masked: Tensor) -> Tensor:
        """Every lead on its own, all leads and records as one batch.

        Args:
            context: `[B, L·Nvis, D]`.
            num_leads: L.
            visible, masked: times `[G, Nvis]` and `[G, Nmask]`, each in order.

        Returns:
            Predictions at the masked times, `[B, L·Nmask, D]`.
        """
        x = self.embed(context).unflatten(1, (num_leads, -1)).flatten(0, 1)  # [B·L, Nvis, width]
        x = torch.cat([x, self.mask_token.expand(x.shape[0], masked.shape[1], -1)], dim=1)
        table = self.pos_embed[0][torch.cat([visible, masked], dim=1)]  # [G, N, width]
        for block in self.blocks:
            x = block(_add_positions(x, table))
        x = self.proj(self.norm(x[:, visible.shape[1] :]))  # only what the loss needs
        return x.unflatten(0, (-1, num_leads)).flatten(1, 2)


class ECGJEPA(nn.Module):
    """The pretraining model: encoder, its EMA copy as the teacher, and the predictor.

    The teacher is always in eval mode, without drop-path, so that a target depends on the record alone. It takes no
    gradient; `update_target` moves it after each optimizer step.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ECGJEPAEncoder(config)
        self.predictor = Predictor(config)
        self.target_encoder = copy.deepcopy(self.encoder).requires_grad_(False).eval()

    def forward(self, ecg: Tensor, mask: Tensor, leads: str | Sequence[str] | None = None) -> Terms:
        """Predict the teacher's tokens at the masked times from the visible ones.

        Args:
            ecg: `[B, L, T]` in mV.
            mask: bool `[N]`, True = masked, for all records and leads; or `[G, N]`, one for each of G equal contiguous
                parts of the batch, all with the same count. Best on the CPU, where it is read.
            leads: names of the rows; None: the model's own.

        Returns:
            Terms: `loss` (scalar); `pred_std` and `target_std`, detached: the mean over features of the standard
            deviation over tokens. Both near zero mean collapse.

        Raises:
            UserError: an ecg the encoder cannot take, or a mask of the wrong length, dtype or content.

        Source: ECG-JEPA, section 3.3. Smooth L1 and the LayerNorm of the targets are the released code's; the text has
        L1 without it (`loss: l1`, `target_norm: none`).
        """
        # 1. Targets: the teacher sees every patch.
        with torch.no_grad():
            tokens = self.target_encoder(ecg, leads).unflatten(1, (ecg.shape[1], -1))  # [B, L, N, D]
        visible, masked = (
            ids.to(ecg.device, non_blocking=True) for ids in split_times(mask, tokens.shape[2], len(ecg))
        )
        tokens = tokens.unflatten(0, (len(masked), -1)).take_along_dim(masked[:, None, None, :, None], dim=3)
        target = tokens.flatten(0, 1).flatten(1, 2).float()  # [B, L·Nmask, D]
        if self.config.target_norm == "layer":
            target = F.layer_norm(target, target.shape[-1:])
        # 2. Predictions: the student sees the visible ones.
        context = self.encoder(ecg, leads, visible)  # [B, L·Nvis, D]
        prediction = self.predictor(context, ecg.shape[1], visible, masked).float()
        # 3. Their distance.
        distance = F.smooth_l1_loss if self.config.loss == "smooth_l1" else F.l1_loss
        return Terms(
            loss=distance(prediction, target),
            pred_std=prediction.detach().flatten(0, 1).std(dim=0).mean(),
            target_std=target.flatten(0, 1).std(dim=0).mean(),
        )

    def ema_momentum(self, step: int, total: int) -> float:
        """Momentum of the update after optimizer step `step` of `total`: linear from the first value to the last."""
        first, last = self.config.ema_momentum
        return first + (last - first) * min(step / max(total, 1), 1.0)

    @torch.no_grad()
    def update_target(self, momentum: float) -> None:
        """teacher ← momentum·teacher + (1 − momentum)·student, all parameters in one foreach operation."""
        torch._foreach_lerp_(list(self.target_encoder.parameters()), list(self.encoder.parameters()), 1.0 - momentum)

    def train(self, mode: bool = True) -> ECGJEPA:
        """Set the mode of student and predictor; the teacher stays in eval mode."""
        super().train(mode)
        self.target_encoder.eval()
        return self


def load_official(path: str | Path, num_heads: int = 16, pos_embed: str = "sincos") -> ECGJEPAEncoder:
    """Read a released ECG-JEPA encoder; sizes come from the tensors' shapes.

    Args:
        path: a file `{"encoder": state_dict, …}` or the state dict alone; nothing in it is executed.
        num_heads: attention heads, the one size that no shape tells (published: 16).
        pos_embed: how the position table is kept: `sincos` fixed, `learnable` as a parameter. The file's values are
            taken either way; a note is printed where a fixed one is not the sin-cos table.

    Returns:
        The encoder, in eval mode.

    Raises:
        CheckpointError: no such file, another model's checkpoint, or any tensor missing, left over or of another shape.
    """
    released = read_released(path)
    state = {official_name(key): tensor for key, tensor in released.items()}
    lacking = {"patch_embed.weight", "pos_embed", "blocks.0.mlp.fc1.weight"} - state.keys()
    if lacking:
        kind = "an ST-MEM checkpoint" if any("to_patch_embedding" in key for key in state) else "another model's"
        raise CheckpointError(
            f"{path} is no ECG-JEPA encoder but {kind}: W_P, pos_embed and encoder_blocks.* are needed, "
            f"it holds {', '.join([*released][:4])}, …."
        )
    dim, patch_size = state["patch_embed.weight"].shape
    rows, num_patches = len(INPUT["leads"]), INPUT["num_samples"] // patch_size
    table = state["pos_embed"]
    if table.numel() != rows * num_patches * dim:
        raise CheckpointError(
            f"{path} has a position table {list(table.shape)}; the plain model needs {rows} leads × {num_patches} "
            f"patches = {rows * num_patches} rows. A hybrid checkpoint needs the hybrid model."
        )
    state["pos_embed"] = table.reshape(rows, num_patches, dim)
    config = ModelConfig.model_validate({
        "embed_dim": dim, "num_heads": num_heads, "patch_size": patch_size, "pos_embed": pos_embed,
        "depth": 1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks.")),
        "mlp_ratio": len(state["blocks.0.mlp.fc1.weight"]) / dim,
    })  # fmt: skip
    model = ECGJEPAEncoder(config)
    away = (model.pos_embed - state["pos_embed"]).abs().max().item()
    load_state(model, state, path, verbose=True)
    if pos_embed == "sincos" and not away < 1e-5:
        print(f"{path}: its position table is {away:.2g} away from sin-cos and is used as it is")
    return model.eval()


def official_name(key: str) -> str:
    """Our name of a released parameter."""
    for theirs, ours in OFFICIAL_NAMES:
        key = key.replace(theirs, ours)
    return key


def _set_positions(module: nn.Module, kind: str, rows: int, num_patches: int, dim: int) -> None:
    """Give the module `pos_embed [rows, N, dim]`: a constant, or a parameter that is trained."""
    if kind == "learnable":
        module.pos_embed = nn.Parameter(nn.init.trunc_normal_(torch.empty(rows, num_patches, dim), std=0.02))
    else:
        module.register_buffer("pos_embed", sincos_2d(rows, num_patches, dim))


def _blocks(dim: int, depth: int, num_heads: int, mlp_ratio: float, drop_path: float) -> nn.ModuleList:
    rates = [drop_path * i / max(depth - 1, 1) for i in range(depth)]  # 0 at the first block
    return nn.ModuleList(Block(dim, num_heads, mlp_ratio=mlp_ratio, qkv_bias=False, drop_path=rate) for rate in rates)


def _add_positions(x: Tensor, table: Tensor) -> Tensor:
    """`x [B, S, D]` plus `table [G, S, D]`, each table for its B/G consecutive entries."""
    if table.shape[0] == 1:
        return x + table
    return (x.unflatten(0, (table.shape[0], -1)) + table[:, None]).flatten(0, 1)
