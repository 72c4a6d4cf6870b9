"""An encoder with a linear head, its layers told apart for layer-wise learning rates, and its predictions on a store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shared.data.loader import eval_batches
from shared.data.spec import InputSpec
from shared.data.store import ECGStore
from shared.data.transforms import Preprocess


class Classifier(nn.Module):
    """`head(norm(encoder.embed(ecg)))`.

    Args:
        encoder: offers `embed`, `embed_dim`, `input_spec`; `blocks` and `norm` are its layers.
        num_classes: outputs.
        head_norm: `batch` standardises every feature over the batch, so that a head learns as fast from features of small
            variance (as MAE's linear probe); `none` leaves them.
        frozen: the encoder takes no gradient and stays in evaluation mode; the head alone learns.
    """

    def __init__(self, encoder: nn.Module, num_classes: int, frozen: bool = False, head_norm: str = "none") -> None:
        super().__init__()
        self.encoder = encoder
        self.embed_dim: int = encoder.embed_dim  # type: ignore[assignment]
        self.input_spec: InputSpec = encoder.input_spec  # type: ignore[assignment]
        self.head_norm = nn.BatchNorm1d(self.embed_dim, affine=False) if head_norm == "batch" else nn.Identity()
        self.head = nn.Linear(self.embed_dim, num_classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        self.frozen = frozen
        if frozen:
            encoder.requires_grad_(False)

    def forward(self, ecg: Tensor, leads: Sequence[str] | None = None) -> Tensor:
        """`ecg [B, L, T]`, preprocessed as `input_spec` says, to logits `[B, C]`; `leads` names a subset of its rows."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            embedded = self.encoder.embed(ecg, leads)  # type: ignore[operator]
        return self.head(self.head_norm(embedded))

    def train(self, mode: bool = True) -> Classifier:
        """Set the mode; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """timm's table of layers: everything before the blocks, each block, the final norm with the last one, then the head."""
        return {
            "stem": r"^encoder\.(?!blocks\.|norm\.)",
            "blocks": [(r"^encoder\.blocks\.(\d+)", None), (r"^encoder\.norm", (99999,))],
        }


def with_drop_path(encoder: nn.Module, rate: float) -> nn.Module:
    """The same encoder and weights, its blocks left out at random in training: rates rise linearly to `rate`."""
    config = encoder.config.model_copy(update={"drop_path": rate})  # type: ignore[union-attr, operator]
    made: nn.Module = type(encoder)(config)
    made.load_state_dict(encoder.state_dict())
    return made


@torch.inference_mode()
def predict_store(
    model: Classifier,
    store: ECGStore,
    indices: np.ndarray,
    *,
    leads: Sequence[str] | None = None,
    num_crops: int = 1,
    batch_size: int = 64,
    device: torch.device,
    dtype: torch.dtype | None = None,
) -> np.ndarray:
    """Logits `[n, C]` float64 of these records, the mean over evenly spaced crops."""
    spec = model.input_spec if leads is None else model.input_spec.model_copy(update={"leads": tuple(leads)})
    preprocess = Preprocess(spec).to(device)
    model.eval()
    parts = []
    for crops in eval_batches(store, indices, spec, batch_size, num_crops):
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            logits = model(preprocess(crops.flatten(0, 1).to(device)), leads)
        parts.append(logits.double().unflatten(0, (len(crops), num_crops)).mean(1).cpu())
    return np.asarray(torch.cat(parts).numpy())
