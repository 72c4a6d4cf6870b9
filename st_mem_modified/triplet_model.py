"""Metric learning on an ST-MEM encoder: head, batches, and losses over triplets or pairs of a batch.

Losses and miners are pytorch-metric-learning's, chosen by name. Labels are multi-hot `[B, C]`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from pytorch_metric_learning import losses, miners
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.reducers import DoNothingReducer
from torch import Tensor, nn

from shared.errors import UserError
from shared.nn import Terms, init_xavier
from st_mem_modified.config import ModelConfig
from st_mem_modified.config_triplet import HeadConfig, LossConfig, TripletModelConfig
from st_mem_modified.model import STMEMEncoder

Triplets = tuple[Tensor, Tensor, Tensor]
"""Anchors, positives, negatives: positions in the batch."""


class TripletModel(nn.Module):
    """Encoder and projection head.

    Args:
        config: `model` and `head`.
        encoder: taken as it is; None builds one from `config.model`.
    """

    def __init__(self, config: TripletModelConfig | None = None, encoder: STMEMEncoder | None = None) -> None:
        super().__init__()
        self.config = config = config or TripletModelConfig()
        self.encoder = encoder or STMEMEncoder(config.model or ModelConfig())
        self.input_spec = self.encoder.input_spec
        self.head = make_head(self.encoder.embed_dim, config.head)
        self.embed_dim: int = config.head.dim if config.head.embed == "after" else self.encoder.embed_dim

    def forward(self, inputs: Tensor) -> Tensor:
        """Projections `[B, E]` of ECG `[B, L, T]`, or of the encoder's own embeddings `[B, D]` computed before."""
        return self.project(self.encoder.embed(inputs) if inputs.ndim == 3 else inputs)

    def project(self, features: Tensor) -> Tensor:
        """Head on pooled embeddings: `[B, D]` → `[B, E]`, of unit length where the config says so."""
        out = self.head(features).float()
        return F.normalize(out, dim=-1) if self.config.head.normalize else out

    def embed(self, ecg: Tensor, leads: Sequence[str] | None = None) -> Tensor:
        """Representation `[B, embed_dim]` after or before the head; `leads` names the rows where they are a subset."""
        features = self.encoder.embed(ecg, leads)
        return self.project(features) if self.config.head.embed == "after" else features

    def let_learn(self, what: str, last_blocks: int) -> None:
        """Gradients for the head only (`none`), the last blocks and the final norm too, or the whole encoder (`all`).

        Raises:
            UserError: more blocks than there are.
        """
        self.encoder.requires_grad_(what == "all")
        if what == "last_blocks":
            if last_blocks > len(self.encoder.blocks):
                raise UserError(
                    f"encoder.last_blocks {last_blocks}: the encoder has {len(self.encoder.blocks)} blocks."
                )
            for module in (*self.encoder.blocks[-last_blocks:], self.encoder.norm):
                module.requires_grad_(True)


def make_head(dim: int, config: HeadConfig) -> nn.Sequential:
    """Linear layers with ReLU between them, `dim` → hidden … → `config.dim`."""
    widths = [dim, *config.hidden, config.dim]
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        layers += [nn.Linear(width_in, width_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).apply(init_xavier)


# ---------------------------------------------------------------- batches


def check_classes(labels: np.ndarray, classes: Sequence[str], loss: LossConfig) -> None:
    """Refuse labels `[n, C]` that the loss cannot use.

    Raises:
        UserError: records with several labels where one is expected, one class only, or a class with a single record.
    """
    several = int((labels.sum(axis=1) > 1).sum())
    if several and loss.positives == "same":
        raise UserError(
            f"{several} of {len(labels)} records have several labels, and loss.positives=same compares single ones. "
            "Set single_label=true to leave them out, or loss.positives=jaccard to use them."
        )
    counts = {name: int(count) for name, count in zip(classes, labels.sum(axis=0), strict=True) if count}
    if len(counts) < 2:
        raise UserError(
            f"the training records hold one class ({', '.join(counts) or 'none'}); metric learning compares two or more. "
            "Use more folds or another task."
        )
    lonely = [name for name, count in counts.items() if count < 2]
    if lonely:
        raise UserError(
            f"class {', '.join(lonely)} has a single training record, so it has no positive pair. Use more folds, or "
            "another task."
        )


def draw_batches(labels: np.ndarray, batch_size: int, per_class: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Batches of one epoch.

    Args:
        labels: `[n, C]` multi-hot.
        batch_size: records a batch.
        per_class: records drawn from a class before the next one; classes take turns in random order, and a class's records
            come in shuffled rounds, so that rare ones repeat and none is passed over. 0 shuffles all records instead.
        rng: what the draw depends on.

    Returns:
        `max(1, n // batch_size)` arrays of positions in `labels`.

    Raises:
        UserError: fewer records than one shuffled batch.
    """
    count = len(labels) // batch_size
    if per_class == 0:
        if count == 0:
            raise UserError(f"{len(labels)} records are fewer than one batch of {batch_size}; lower optim.batch_size.")
        return list(rng.permutation(len(labels))[: count * batch_size].reshape(count, batch_size))
    members = [np.flatnonzero(column) for column in labels.T if column.any()]
    rounds: list[np.ndarray] = [np.empty(0, dtype=np.int64) for _ in members]
    turns: list[int] = []
    batches = []
    for _ in range(max(1, count)):
        batch = []
        for _ in range(batch_size // per_class):
            turns = turns or rng.permutation(len(members)).tolist()
            c = turns.pop()
            while len(rounds[c]) < per_class:
                rounds[c] = np.concatenate([rounds[c], rng.permutation(members[c])])
            batch.append(rounds[c][:per_class])
            rounds[c] = rounds[c][per_class:]
        batches.append(np.concatenate(batch))
    return batches


# ---------------------------------------------------------------- loss


class MetricLoss(nn.Module):
    """A loss over the triplets or pairs of a batch.

    Args:
        config: which loss, which miner, what makes a positive.
    """

    def __init__(self, config: LossConfig) -> None:
        super().__init__()
        self.config = config
        self.distance = LpDistance(normalize_embeddings=False, p=2, power=2 if config.squared else 1)
        self.loss = LOSSES[config.name](config, self.distance)
        own = config.positives == "same" and config.miner in MINERS
        self.miner: nn.Module | None = MINERS[config.miner](config, self.distance) if own else None

    def forward(self, embeddings: Tensor, labels: Tensor) -> Terms:
        """Compare the records of a batch.

        Args:
            embeddings: `[B, E]`.
            labels: `[B, C]` bool.

        Returns:
            Terms: `loss`; for triplets `active`, the share of all valid triplets of the batch that violate the margin.

        Raises:
            UserError: several labels where one is expected, or a batch without a positive or a negative pair.
        """
        embeddings = embeddings.float()
        overlap = label_overlap(labels)
        if self.config.positives == "same" and bool((labels.sum(1) != 1).any()):
            raise UserError("a record of the batch has not exactly one label; loss.positives=same expects one.")
        off_diagonal = ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        if not bool(((overlap > 0) & off_diagonal).any()) or not bool((overlap < 1).any()):
            raise UserError(
                f"a batch of {len(labels)} records has no {'negative' if bool((overlap > 0).all()) else 'positive'} pair "
                f"({int(labels.any(0).sum())} classes). Set per_class to 2 or more, or raise optim.batch_size."
            )
        if self.config.name == "triplet":
            return self._triplets(embeddings, labels, overlap)
        if self.config.positives == "jaccard":
            positive = (overlap > 0) & off_diagonal
            graded = (*torch.where(positive), *torch.where(overlap == 0))
            return Terms(loss=self.loss(embeddings, indices_tuple=graded))
        single = labels.int().argmax(1)
        pairs = self.miner(embeddings, single) if self.miner is not None else None
        return Terms(loss=self.loss(embeddings, single, pairs))

    def _triplets(self, embeddings: Tensor, labels: Tensor, overlap: Tensor) -> Terms:
        everything = graded_triplets(overlap)
        with torch.no_grad():
            distances = self.distance(embeddings, embeddings)
            gap = distances[everything[0], everything[2]] - distances[everything[0], everything[1]]
            active = (gap < self.config.margin).float().mean()
        if self.miner is not None:
            chosen = self.miner(embeddings, labels.int().argmax(1))
        else:
            chosen = SELECT[self.config.miner](everything, gap, self.config.margin)
        if not len(chosen[0]):  # nothing left to learn from this batch, but a graph for the backward
            return Terms(loss=embeddings.sum() * 0.0, active=active)
        values = self.loss(embeddings, indices_tuple=chosen)["loss"]["losses"]
        # A triplet weighs as much as its positive overlaps more than its negative: 1 throughout for single labels.
        weights = overlap[chosen[0], chosen[1]] - overlap[chosen[0], chosen[2]]
        if self.config.mean_over == "active":
            weights = weights * (values > 0)
        return Terms(loss=(values * weights).sum() / weights.sum().clamp_min(1e-12), active=active)


LOSSES: dict[str, Callable[[LossConfig, LpDistance], nn.Module]] = {
    "triplet": lambda c, d: losses.TripletMarginLoss(c.margin, distance=d, reducer=DoNothingReducer()),
    "multi_similarity": lambda c, d: losses.MultiSimilarityLoss(alpha=c.alpha, beta=c.beta, base=c.base),
    "supcon": lambda c, d: losses.SupConLoss(temperature=c.temperature),
}

MINERS: dict[str, Callable[[LossConfig, LpDistance], nn.Module]] = {
    "semihard": lambda c, d: miners.TripletMarginMiner(c.margin, "semihard", distance=d),
    "hard": lambda c, d: miners.TripletMarginMiner(c.margin, "hard", distance=d),
    "batch_hard": lambda c, d: miners.BatchHardMiner(distance=d),
    "multi_similarity": lambda c, d: miners.MultiSimilarityMiner(),
}
"""Miners for equal labels. For graded ones, and what needs no miner: `SELECT`."""


def label_overlap(labels: Tensor) -> Tensor:
    """Jaccard overlap of label sets: `[B, C]` bool → `[B, B]`, shared labels over all labels of the two."""
    labels = labels.float()
    shared = labels @ labels.T
    sizes = labels.sum(1)
    return shared / (sizes[:, None] + sizes - shared).clamp_min(1)


def graded_triplets(overlap: Tensor) -> Triplets:
    """Every (a, p, n) with p sharing a label with a, more than n does: `overlap [B, B]` → three `[M]`."""
    others = ~torch.eye(len(overlap), dtype=torch.bool, device=overlap.device)
    positive = (overlap > 0) & others  # [a, p]
    valid = positive[:, :, None] & others[:, None, :] & (overlap[:, :, None] > overlap[:, None, :])
    anchor, pos, neg = torch.where(valid)
    return anchor, pos, neg


def _keep(triplets: Triplets, which: Tensor) -> Triplets:
    return triplets[0][which], triplets[1][which], triplets[2][which]


def _one_each(triplets: Triplets, gap: Tensor, margin: float) -> Triplets:
    """One random triplet for each anchor–positive pair."""
    order = torch.randperm(len(gap), device=gap.device)
    pair = triplets[0] * (int(triplets[0].max()) + int(triplets[1].max()) + 1) + triplets[1]
    _, pair = pair[order].unique(return_inverse=True)
    first = torch.full((int(pair.max()) + 1,), len(order), device=gap.device)
    first.scatter_reduce_(0, pair, torch.arange(len(order), device=gap.device), "amin")
    return _keep(triplets, order[first])


SELECT: dict[str, Callable[[Triplets, Tensor, float], Triplets]] = {
    "all": lambda t, gap, margin: t,
    "random": _one_each,
    "semihard": lambda t, gap, margin: _keep(t, (gap > 0) & (gap <= margin)),
    "hard": lambda t, gap, margin: _keep(t, gap <= 0),
}
"""Miners by the gap d(a, n) − d(a, p) `[M]` of every triplet (Schroff et al. 2015, sec. 3.2)."""
