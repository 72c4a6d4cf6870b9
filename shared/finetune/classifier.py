"""An encoder with a linear head, its layers told apart for layer-wise learning rates, and its predictions on a store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from shared.data.spec import InputSpec
from shared.data.store import ECGStore
from shared.embeddings import embed_store
from shared.ranks import place


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


Pool = Literal["mean_logits", "mean_probabilities", "max"]


class Outputs(nn.Module):
    """A classifier whose outputs stand in the place of an embedding, which is averaged over a record's crops.

    Args:
        model: the classifier.
        pool: `mean_logits` gives logits, `mean_probabilities` gives probabilities, and `max` the largest probability of each
            class over a record's crops, for each of them.
        softmax: whether probabilities sum to 1, else every class is a question of its own.
        num_crops: crops of a record, which follow one another.
    """

    def __init__(
        self, model: Classifier, pool: Pool = "mean_logits", softmax: bool = False, num_crops: int = 1
    ) -> None:
        super().__init__()
        self.model, self.pool, self.softmax, self.num_crops = model, pool, softmax, num_crops
        self.input_spec, self.embed_dim = model.input_spec, model.head.out_features

    def embed(self, ecg: Tensor, leads: Sequence[str] | None = None) -> Tensor:
        """`[B, L, T]` to `[B, C]`."""
        found: Tensor = self.model(ecg, leads)
        if self.pool == "mean_logits":
            return found
        found = found.float().softmax(1) if self.softmax else found.float().sigmoid()
        if self.pool == "max":
            of_record = found.view(-1, self.num_crops, self.embed_dim).amax(1, keepdim=True)
            found = of_record.expand(-1, self.num_crops, -1).flatten(0, 1)
        return found


def predict_store(
    model: Classifier,
    store: ECGStore,
    indices: np.ndarray,
    pool: Pool = "mean_logits",
    softmax: bool = False,
    num_crops: int = 1,
    **options: Any,
) -> np.ndarray:
    """Logits `[n, C]` float64 of these records, or their probabilities, as `pool` says, over evenly spaced crops.

    Args:
        model, store, indices: whose outputs for which records.
        pool, softmax: as of `Outputs`.
        num_crops: windows per record.
        **options: as `embed_store`'s.
    """
    outputs = Outputs(model, pool, softmax, num_crops)
    if options.get("ranks") and place()[1] > 1:
        for statistic in model.head_norm.buffers():
            dist.broadcast(statistic, 0)  # each rank has counted its own part of the batches
    return embed_store(outputs, store, indices, num_crops=num_crops, name="predict", **options).astype(np.float64)
