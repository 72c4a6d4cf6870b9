"""ECG-JEPA (arXiv 2410.08559): context encoder, EMA target encoder, per-lead predictor and the loss between them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecg_jepa_modified.config import ModelConfig
from ecg_jepa_modified.encoder import ECGJEPAEncoder, add_positions, make_blocks, set_positions
from ecg_jepa_modified.masking import split_times
from shared.nn import Terms, init_trunc_normal, rescale_blocks


def make_encoder(config: ModelConfig) -> ECGJEPAEncoder:
    """The encoder that the config describes: of signals, or of signals and features."""
    if not config.input.features:
        return ECGJEPAEncoder(config)
    from ecg_jepa_modified.hybrid import HybridEncoder  # with what measures ECG, which a plain model never needs

    return HybridEncoder(config)


class Predictor(nn.Module):
    """Predicts the targets at the masked times of a lead from that lead's context tokens."""

    pos_embed: Tensor  # [1, N, width]: the 2-D recipe with a single lead row

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.predictor_dim
        self.embed = nn.Linear(config.embed_dim, width)
        self.mask_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, width), std=0.02))
        set_positions(self, config.pos_embed, 1, config.num_patches, width)
        self.blocks = make_blocks(
            width, config.predictor_depth, config.predictor_heads, config.mlp_ratio, drop_path=0.0
        )
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
            x = block(add_positions(x, table))
        x = self.proj(self.norm(x[:, visible.shape[1] :]))  # only what the loss needs
        return x.unflatten(0, (-1, num_leads)).flatten(1, 2)


class ECGJEPA(nn.Module):
    """The pretraining model: encoder, its EMA copy as the teacher, and the predictor.

    The teacher is always in eval mode, without drop-path, so that a target depends on the record alone. It takes no
    gradient; `update_target` moves it after each optimizer step.
    """

    compiles = True

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = make_encoder(config)
        self.predictor = Predictor(config)
        self.target_encoder = copy.deepcopy(self.encoder).requires_grad_(False).eval()

    def forward(self, ecg: Tensor, mask: Tensor, leads: str | Sequence[str] | None = None) -> Terms:
        """Predict the teacher's tokens at the masked times from the visible ones.

        Args:
            ecg: `[B, L, T]` in mV; with features `[B, L + F, T]`.
            mask: bool `[N]`, True = masked, for all records and leads; or `[G, N]`, one for each of G equal contiguous
                parts of the batch, all with the same count. Best on the CPU, where it is read.
            leads: names of the rows; None: the model's own.

        Returns:
            Terms: `loss` (scalar); `record_loss [B]`; `pred_std`, `target_std`, all detached: the mean over features of the
            standard deviation over tokens. Both near zero mean collapse.

        Raises:
            UserError: an ecg the encoder cannot take, or a mask of the wrong length, dtype or content.

        Source: ECG-JEPA, section 3.3. Smooth L1 and the LayerNorm of the targets are the released code's; the text has
        L1 without it (`loss: l1`, `target_norm: none`).
        """
        # 1. Targets: the teacher sees every patch.
        with torch.no_grad():
            tokens = self.target_encoder.tokens(ecg, leads)  # [B, L, N, D]
        num_rows = self.encoder.num_predicted(tokens.shape[1])
        tokens = tokens[:, :num_rows]
        visible, masked = split_times(mask, tokens.shape[2], len(ecg), ecg.device)
        tokens = tokens.unflatten(0, (len(masked), -1)).take_along_dim(masked[:, None, None, :, None], dim=3)
        target = tokens.flatten(0, 1).flatten(1, 2).float()  # [B, L·Nmask, D]
        if self.config.target_norm == "layer":
            target = F.layer_norm(target, target.shape[-1:])
        # 2. Predictions: the student sees the visible ones.
        context = self.encoder(ecg, leads, visible)[:, : num_rows * visible.shape[1]]  # [B, L·Nvis, D]
        prediction = self.predictor(context, num_rows, visible, masked).float()
        # 3. Their distance.
        distance = F.smooth_l1_loss if self.config.loss == "smooth_l1" else F.l1_loss
        return Terms(
            loss=distance(prediction, target),
            record_loss=distance(prediction.detach(), target, reduction="none").mean((1, 2)),
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
    """A released ECG-JEPA encoder, see `ecg_jepa_modified.released`."""
    from ecg_jepa_modified import released  # no training reads one

    return released.load_official(path, num_heads, pos_embed)
