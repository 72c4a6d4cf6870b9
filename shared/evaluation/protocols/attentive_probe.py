"""Attentive probe: one learned query that looks at all tokens of a frozen encoder, then a linear map."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from shared.config import Section
from shared.data.loader import eval_batches
from shared.data.transforms import Preprocess
from shared.errors import UserError
from shared.evaluation.context import Context, Protocol, Result
from shared.evaluation.scoring import CLASSIFICATION, CLASSIFICATION_HEADLINES, score_predictions
from shared.leads import subset_leads
from shared.statistics.metrics import Array

PATIENCE = 5
WEIGHT_DECAY = 0.01
HELD_BYTES = 2**30
"""Tokens are kept in float16 up to this size; beyond it they are computed anew in every epoch."""


class AttentiveProbeSettings(Section):
    """The attentive probe."""

    attentive_epochs: int = Field(30, ge=1, description="at most; stops 5 epochs after the best on validation")
    attentive_lr: float = Field(1e-3, gt=0)


class AttentiveProbe(nn.Module):
    """Cross-attention of one query over tokens: norm, pool, norm, linear.

    Args:
        dim: of the tokens.
        num_classes: outputs.
        num_heads: heads of the attention.

    Source: the attentive probe of V-JEPA (Bardes et al. 2024, arXiv 2404.08471, sec. 4), without its MLP block.
    """

    def __init__(self, dim: int, num_classes: int, num_heads: int = 4) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"{num_heads} heads given for tokens of width {dim}; expected a divisor of the width.")
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(dim)
        self.query = nn.Parameter(0.02 * torch.randn(dim))
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Sequential(nn.Linear(dim, dim), nn.LayerNorm(dim), nn.Linear(dim, num_classes))

    def forward(self, tokens: Tensor) -> Tensor:
        """`tokens [B, S, D]` → logits `[B, C]`."""
        batch, _, dim = tokens.shape
        split = (batch, -1, self.num_heads, dim // self.num_heads)
        key, value = (x.view(split).transpose(1, 2) for x in self.key_value(self.norm(tokens)).chunk(2, dim=-1))
        query = self.query.view(1, self.num_heads, 1, -1).expand(batch, -1, -1, -1)
        pooled = F.scaled_dot_product_attention(query, key, value)  # [B, H, 1, D / H]
        return self.out(pooled.reshape(batch, dim))


Tokens = Callable[[Array], Iterator[tuple[Array, Tensor]]]
"""Positions to batches of `(positions [b], tokens [b, S, D])`, in any grouping, on the device."""


def fit_attentive_probe(
    tokens: Tokens,
    labels: Array,
    train: Array,
    val: Array,
    *,
    epochs: int,
    lr: float,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> AttentiveProbe:
    """Train with AdamW on the log loss of each class; keep the epoch with the lowest validation loss.

    Args:
        tokens: gives the tokens of positions.
        labels: `[n, C]` in {0, 1}, indexed by position.
        train, val: positions.
        epochs: at most; stops 5 epochs after the best.
        lr: peak, after which a cosine falls to 0.
        seed: of the initialisation and the order of records.
        device: where to train.
    """
    targets = torch.from_numpy(np.array(labels != 0)).float().to(device)
    rng = np.random.default_rng(seed)
    _, first = next(tokens(train[:1]))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        width = first.shape[2]
        heads = next(h for h in (4, 3, 2, 1) if width % h == 0)
        probe = AttentiveProbe(width, labels.shape[1], heads).to(device)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=lr, weight_decay=WEIGHT_DECAY)
    best, kept, since = float("inf"), copy.deepcopy(probe.state_dict()), 0
    for epoch in range(epochs):
        for group in optimizer.param_groups:
            group["lr"] = lr * 0.5 * (1 + np.cos(np.pi * epoch / epochs))
        for positions, batch in tokens(rng.permutation(train)):
            loss = F.binary_cross_entropy_with_logits(probe(batch), targets[positions])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        truth = labels[val] != 0
        p = np.clip(predict_attentive(probe, tokens, val), 1e-7, 1 - 1e-7)
        loss_val = float(-np.log(np.where(truth, p, 1 - p)).mean())
        since += 1
        if loss_val < best:
            best, kept, since = loss_val, copy.deepcopy(probe.state_dict()), 0
        if since >= PATIENCE:
            break
    probe.load_state_dict(kept)
    return probe.eval()


@torch.no_grad()
def predict_attentive(probe: AttentiveProbe, tokens: Tokens, positions: Array) -> Array:
    """Probabilities float64 `[n, C]` of the positions, in their order."""
    parts = [probe(batch).double().sigmoid().cpu() for _, batch in tokens(positions)]
    return np.asarray(torch.cat(parts).numpy())


def attentive_probe(context: Context) -> Result:
    """One attention query over the tokens of each encoder, trained on train and stopped on validation.

    Raises:
        UserError: an encoder that offers no `tokens(ecg, leads)`.
    """
    predictions = {}
    for row in context.rows:
        if not hasattr(context.encoders.get(row), "tokens"):
            raise UserError(
                f"attentive_probe needs an encoder with tokens(ecg, leads) -> [B, ..., D]; {row!r} has none. "
                "Use linear_probe, or add the method."
            )
        tokens = read_tokens(context, row)
        settings = context.config.settings(AttentiveProbeSettings)
        probe = fit_attentive_probe(
            tokens,
            context.labels,
            context.split.train,
            context.split.val,
            epochs=settings.attentive_epochs,
            lr=settings.attentive_lr,
            seed=context.config.seed,
            device=context.device,
        )
        predictions[row] = tuple(predict_attentive(probe, tokens, p) for p in (context.split.val, context.split.test))
    return score_predictions(context, predictions, chosen="the probe's epoch")  # type: ignore[arg-type]


def read_tokens(context: Context, row: str) -> Tokens:
    """Tokens of the context's records from the centred window, held in float16 where they fit into `HELD_BYTES`."""
    encoder, config = context.encoders[row], context.config
    leads: Sequence[str] | None = None
    if config.encoder.leads is not None:
        leads = subset_leads(config.encoder.leads, encoder.input_spec.leads)
    spec = encoder.input_spec.with_leads(leads)
    preprocess = Preprocess(spec, context.store.scale).to(context.device)
    encoder.to(context.device).eval()

    def compute(positions: Array) -> Iterator[tuple[Array, Tensor]]:
        done = 0
        for crops in eval_batches(context.store, context.indices[positions], spec, config.batch_size):
            with torch.no_grad():
                found = encoder.tokens(preprocess(crops[:, 0].to(context.device)), leads).flatten(1, -2)  # [b, S, D]
            yield positions[done : done + len(found)], found.float()
            done += len(found)

    everyone = np.arange(len(context.indices))
    _, first = next(compute(everyone[:1]))
    if len(everyone) * first.numel() * 2 > HELD_BYTES:
        return compute
    held = torch.cat([found.half() for _, found in compute(everyone)])

    def look_up(positions: Array) -> Iterator[tuple[Array, Tensor]]:
        for i in range(0, len(positions), config.batch_size):
            part = positions[i : i + config.batch_size]
            yield part, held[part].float()

    return look_up


ATTENTIVE_PROBE = Protocol(
    attentive_probe,
    AttentiveProbeSettings,
    "probe",
    CLASSIFICATION,
    tuple(CLASSIFICATION),
    CLASSIFICATION_HEADLINES,
    validates=True,
)
