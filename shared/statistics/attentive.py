"""Attentive probe: learned queries that look at all tokens of a frozen encoder, then a linear map.

Every learning rate asked for is trained on the same batches, in steps; the rate and the step with the lowest log loss on
validation are kept. Step 0, which says how frequent each class is, takes part: where tokens hold nothing, it is kept.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.errors import UserError
from shared.statistics.metrics import Array

BATCH_SIZE = 64
"""Records of a training step, whatever number the encoder is given at a time."""
CHECKS = 40
"""How often validation is scored."""
PATIENCE = 12
"""Checks without a better one after which a learning rate is given up."""
WARMUP = 0.1  # of the steps
WEIGHT_DECAY = 0.01
STATISTICS_RECORDS = 512
"""Tokens are standardised by the statistics of at most so many training records."""
NOT_FINITE = (
    "the encoder's tokens hold NaN, infinite or too large values (in float16, 65504 is the largest); expected finite ones. "
    "Check its weights and its input."
)


class AttentiveProbe(nn.Module):
    """Attention of one query per head over standardised tokens, values, batch norm, linear.

    It starts as a linear map of the mean token: queries are zero, and outputs say how frequent each class is. The batch
    norm matters: what differs between records is small in a mean token beside what all records share, and a layer norm
    leaves it small.

    Args:
        mean, scale: `[D]` of the training tokens.
        share: `[C]`, frequency of each class in training, above 0 and below 1.
        num_heads: heads of the attention.
        generator: of the initial values.

    Source: the attentive probe of V-JEPA (Bardes et al. 2024, arXiv 2404.08471, sec. 4), without its MLP block. With one
    query per head, key and query maps are one vector: q·(K x) = (Kᵀ q)·x; and values can be mapped after pooling. Both are
    done here, which costs 2 H D per token in place of 2 D².
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor, share: Tensor, num_heads: int, generator: torch.Generator) -> None:
        super().__init__()
        dim = len(mean)
        if dim % num_heads:
            raise ValueError(f"{num_heads} heads given for tokens of width {dim}; expected a divisor of the width.")
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.query = nn.Parameter(torch.zeros(num_heads, dim))
        self.value = nn.Parameter(dim**-0.5 * torch.randn(num_heads, dim, dim // num_heads, generator=generator))
        self.norm = nn.BatchNorm1d(dim, affine=False)
        self.weight = nn.Parameter(torch.zeros(dim, len(share)))
        self.bias = nn.Parameter(share.logit())

    def forward(self, tokens: Tensor) -> Tensor:
        """`tokens [B, S, D]` → logits `[B, C]`."""
        return self.head(pool(tokens, self.keys()))

    def keys(self) -> Tensor:
        """What tokens are compared with, `[H, D]`; a token's offset is the same for all and falls out of the softmax."""
        return self.query / self.scale * self.query.shape[1] ** -0.5

    def head(self, pooled: Tensor) -> Tensor:
        """Pooled tokens `[B, H, D]` → logits `[B, C]`."""
        values = torch.einsum("bhd,hde->bhe", (pooled - self.mean) / self.scale, self.value)
        return self.norm(values.flatten(1)) @ self.weight + self.bias


def pool(tokens: Tensor, keys: Tensor) -> Tensor:
    """Means `[B, K, D]` of tokens `[B, S, D]`, weighted by the softmax of their products with each key `[K, D]`."""
    return (tokens @ keys.T).softmax(dim=1).transpose(1, 2) @ tokens


Tokens = Callable[[Array], Iterator[tuple[Array, Tensor]]]
"""Positions to batches of `(positions [b], tokens [b, S, D])`, in any grouping, on the device."""


@dataclass
class Candidate:
    """A probe trained at one peak learning rate, and its best moment on validation.

    Attributes:
        lr: the peak.
        probe: as it is now.
        loss, step, state: the best validation loss, the step of it, and the probe's state then.
        since: checks since then.
    """

    lr: float
    probe: AttentiveProbe
    loss: float = float("inf")
    step: int = 0
    state: dict[str, Any] = field(default_factory=dict)
    since: int = 0

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.AdamW(self.probe.parameters(), lr=self.lr, weight_decay=WEIGHT_DECAY)

    def judge(self, loss: float, step: int) -> None:
        """Keep the state if its loss is the lowest so far."""
        self.since += 1
        if loss < self.loss:
            self.loss, self.step, self.state, self.since = loss, step, copy.deepcopy(self.probe.state_dict()), 0


def fit_attentive_probe(
    tokens: Tokens,
    labels: Array,
    train: Array,
    val: Array,
    *,
    steps: int,
    lrs: Sequence[float],
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Candidate:
    """Train with AdamW on the log loss of each class, at every learning rate at once; the best on validation is kept.

    Args:
        tokens: gives the tokens of positions.
        labels: `[n, C]` in {0, 1}, indexed by position.
        train, val: positions.
        steps: of 64 records; a rate is given up where its last 30 % of them brought nothing.
        lrs: peaks, reached in a tenth of the steps, after which a cosine falls to 0.
        seed: of the initialisation and the order of records.
        device: where to train.

    Returns:
        The candidate with the lowest validation loss, its probe in the state of that moment.

    Raises:
        UserError: tokens that are not finite, or fewer than two training records.
    """
    if len(train) < 2:
        raise UserError(f"{len(train)} training record given; the attentive probe needs at least two. Use more folds.")
    targets = torch.from_numpy(np.array(labels != 0)).float().to(device)
    rng = np.random.default_rng(seed)
    mean, scale = token_statistics(tokens, rng.permutation(train)[:STATISTICS_RECORDS])
    share = (targets[train].sum(0) + 0.5) / (len(train) + 1)
    heads = next(h for h in (4, 3, 2, 1) if len(mean) % h == 0)
    candidates = [
        Candidate(lr, AttentiveProbe(mean, scale, share, heads, torch.Generator().manual_seed(seed)).to(device))
        for lr in lrs
    ]
    check(candidates, tokens, targets, val, 0)
    if not np.isfinite(candidates[0].loss):
        raise UserError(NOT_FINITE)
    running, every = candidates, max(1, steps // CHECKS)
    for step, batch in enumerate(draw_batches(train, steps, rng), start=1):
        factor = min(step / max(1.0, WARMUP * steps), 0.5 * (1 + np.cos(np.pi * (step - 1) / steps)))
        learn(running, read_all(tokens, batch), targets[batch], factor)
        if step % every == 0 or step == steps:
            check(running, tokens, targets, val, step)
            running = [c for c in running if c.since < PATIENCE]
            if not running:
                break
    best = min(candidates, key=lambda c: c.loss)
    best.probe.load_state_dict(best.state)
    best.probe.eval()
    return best


def token_statistics(tokens: Tokens, positions: Array) -> tuple[Tensor, Tensor]:
    """Mean and deviation `[D]` over all tokens of these records; the deviation of a constant is 1.

    Raises:
        UserError: tokens that are not finite.
    """
    moments = [
        torch.stack([batch.double().mean((0, 1)), batch.double().square().mean((0, 1))]) * len(batch)
        for _, batch in tokens(positions)
    ]
    mean, square = torch.stack(moments).sum(0) / len(positions)
    variance = square - mean.square()
    if not torch.isfinite(variance).all():
        raise UserError(NOT_FINITE)
    constant = variance <= 1e-12 * mean.square()  # varies by rounding only
    return mean.float(), torch.where(constant, 1.0, variance.clamp_min(0).sqrt()).float()


def draw_batches(train: Array, steps: int, rng: np.random.Generator) -> Iterator[Array]:
    """Positions of each step: whole batches of one shuffle after another."""
    size = min(BATCH_SIZE, len(train))
    order = rng.permutation(train)
    for _ in range(steps):
        if len(order) < size:
            order = rng.permutation(train)
        yield order[:size]
        order = order[size:]


def read_all(tokens: Tokens, positions: Array) -> Tensor:
    """Tokens of a few positions in one piece, `[b, S, D]`."""
    return torch.cat([batch for _, batch in tokens(positions)])


def learn(candidates: Sequence[Candidate], batch: Tensor, targets: Tensor, factor: float) -> None:
    """One step of every candidate at `factor` of its peak; all look at the tokens in one pass."""
    keys = [c.probe.train().keys() for c in candidates]
    pooled = pool(batch, torch.cat(keys)).split([len(k) for k in keys], dim=1)
    losses = [
        F.binary_cross_entropy_with_logits(c.probe.head(p), targets) for c, p in zip(candidates, pooled, strict=True)
    ]
    torch.stack(losses).sum().backward()
    for c in candidates:
        c.optimizer.param_groups[0]["lr"] = c.lr * factor
        c.optimizer.step()
        c.optimizer.zero_grad()


@torch.no_grad()
def check(candidates: Sequence[Candidate], tokens: Tokens, targets: Tensor, val: Array, step: int) -> None:
    """Give every candidate its validation loss."""
    keys = [c.probe.eval().keys() for c in candidates]
    sums = [0.0] * len(candidates)
    for positions, batch in tokens(val):
        pooled = pool(batch, torch.cat(keys)).split([len(k) for k in keys], dim=1)
        for i, (c, p) in enumerate(zip(candidates, pooled, strict=True)):
            truth = targets[positions]
            sums[i] += float(F.binary_cross_entropy_with_logits(c.probe.head(p), truth, reduction="sum"))
    for c, total in zip(candidates, sums, strict=True):
        c.judge(total / (len(val) * targets.shape[1]), step)


@torch.no_grad()
def predict_attentive(probe: AttentiveProbe, tokens: Tokens, positions: Array) -> Array:
    """Probabilities float64 `[n, C]` of the positions, in their order."""
    parts = [probe(batch).double().sigmoid().cpu() for _, batch in tokens(positions)]
    return np.asarray(torch.cat(parts).numpy())
