"""Losses over the triplets or pairs of a batch, each beside its config. Labels are multi-hot `[B, C]`.

To add one: its config, its class with `compare`, and a line in `LOSSES`. pytorch-metric-learning is imported by the loss that is
built, so that a config or a checkpoint can be read without it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from shared.config import Section
from shared.config_keys import OneOf
from shared.errors import UserError
from shared.nn import Terms
from shared.triplet.miners import MINERS, Batch, MinerName, graded_triplets, label_overlap


class LossConfig(Section):
    """What pulls records together, and on which triplets or pairs; `name` says which loss."""

    name: str
    miner: MinerName = Field("all", description="which triplets (or, for multi_similarity, pairs) of the batch count")
    positives: Literal["same", "jaccard"] = Field(
        "same",
        description="same: one label per record; jaccard: records with several labels, graded by the overlap of label sets",
    )

    @model_validator(mode="after")
    def _check(self) -> LossConfig:
        if not MINERS[self.miner].fits(self.name):
            fitting = [miner for miner, found in MINERS.items() if found.fits(self.name)]
            raise ValueError(f"miner {self.miner} is not for the loss {self.name}; expected {' or '.join(fitting)}")
        if self.positives == "jaccard" and not MINERS[self.miner].graded:
            raise ValueError(f"miner {self.miner} knows equal labels only; with positives=jaccard use all")
        return self


class MetricLoss(nn.Module):
    """The interface: checks of a batch, then what a loss makes of it."""

    config: LossConfig

    def __init__(self, config: LossConfig, squared: bool = True) -> None:
        super().__init__()
        from pytorch_metric_learning.distances import LpDistance

        self.config = config
        self.distance = LpDistance(normalize_embeddings=False, p=2, power=2 if squared else 1)
        self.miner = MINERS[config.miner](self.distance)

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
        overlap = label_overlap(labels)
        if self.config.positives == "same" and bool((labels.sum(1) != 1).any()):
            raise UserError("a record of the batch has not exactly one label; loss.positives=same expects one.")
        if not bool((overlap > 0).fill_diagonal_(False).any()) or not bool((overlap < 1).any()):
            raise UserError(
                f"a batch of {len(labels)} records has no {'negative' if bool((overlap > 0).all()) else 'positive'} pair "
                f"({int(labels.any(0).sum())} classes). Set per_class to 2 or more, or raise optim.batch_size."
            )
        return self.compare(embeddings.float(), labels.int().argmax(1), overlap)

    def compare(self, embeddings: Tensor, classes: Tensor, overlap: Tensor) -> Terms:
        """The terms of a batch that has positives and negatives.

        Args:
            embeddings: `[B, E]` float32.
            classes: `[B]`, each record's first label.
            overlap: `[B, B]`, see `label_overlap`.
        """
        raise NotImplementedError


class TripletLossConfig(LossConfig):
    """`triplet`: a positive is nearer than a negative, by a margin."""

    name: Literal["triplet"] = "triplet"
    margin: float = Field(0.2, gt=0, description="of unit-length projections, squared distances reach 4")
    squared: bool = Field(True, description="squared Euclidean distances")
    mean_over: Literal["active", "all"] = Field("active", description="triplets in the mean: with a loss, or all")


class TripletLoss(MetricLoss):
    """`triplet`: max(0, d(a, p) − d(a, n) + margin), the mean over the triplets that were mined (Schroff et al. 2015)."""

    config: TripletLossConfig

    def __init__(self, config: TripletLossConfig) -> None:
        super().__init__(config, config.squared)
        from pytorch_metric_learning.losses import TripletMarginLoss
        from pytorch_metric_learning.reducers import DoNothingReducer

        self.loss = TripletMarginLoss(config.margin, distance=self.distance, reducer=DoNothingReducer())

    def compare(self, embeddings: Tensor, classes: Tensor, overlap: Tensor) -> Terms:
        """As `MetricLoss.compare`."""
        everything = graded_triplets(overlap)
        with torch.no_grad():
            distances = self.distance(embeddings, embeddings)
            gap = distances[everything[0], everything[2]] - distances[everything[0], everything[1]]
            active = (gap < self.config.margin).float().mean()
        chosen = self.miner.triplets(Batch(embeddings, classes, everything, gap, self.config.margin))
        if not len(chosen[0]):  # nothing left to learn from this batch, but a graph for the backward
            return Terms(loss=embeddings.sum() * 0.0, active=active)
        values = self.loss(embeddings, indices_tuple=chosen)["loss"]["losses"]
        # A triplet weighs as much as its positive overlaps more than its negative: 1 throughout for single labels.
        weights = overlap[chosen[0], chosen[1]] - overlap[chosen[0], chosen[2]]
        if self.config.mean_over == "active":
            weights = weights * (values > 0)
        return Terms(loss=(values * weights).sum() / weights.sum().clamp_min(1e-12), active=active)


class PairLoss(MetricLoss):
    """What the losses over pairs have in common: `loss` is pytorch-metric-learning's."""

    loss: Any

    def compare(self, embeddings: Tensor, classes: Tensor, overlap: Tensor) -> Terms:
        """As `MetricLoss.compare`; records that share a label are a positive pair."""
        if self.config.positives == "jaccard":
            positive = (overlap > 0).fill_diagonal_(False)
            graded = (*torch.where(positive), *torch.where(overlap == 0))
            return Terms(loss=self.loss(embeddings, indices_tuple=graded))
        return Terms(loss=self.loss(embeddings, classes, self.miner.pairs(embeddings, classes)))


class MultiSimilarityConfig(LossConfig):
    """`multi_similarity`: pairs weighed by their similarity and that of the others."""

    name: Literal["multi_similarity"] = "multi_similarity"
    alpha: float = Field(2.0, gt=0)
    beta: float = Field(50.0, gt=0)
    base: float = 0.5


class MultiSimilarityLoss(PairLoss):
    """`multi_similarity` (Wang et al. 2019, equation 15)."""

    def __init__(self, config: MultiSimilarityConfig) -> None:
        super().__init__(config)
        from pytorch_metric_learning import losses

        self.loss = losses.MultiSimilarityLoss(alpha=config.alpha, beta=config.beta, base=config.base)


class SupConConfig(LossConfig):
    """`supcon`: supervised contrast."""

    name: Literal["supcon"] = "supcon"
    temperature: float = Field(0.1, gt=0)


class SupConLoss(PairLoss):
    """`supcon` (Khosla et al. 2020, equation 2)."""

    def __init__(self, config: SupConConfig) -> None:
        super().__init__(config)
        from pytorch_metric_learning import losses

        self.loss = losses.SupConLoss(temperature=config.temperature)


LOSSES: dict[str, tuple[type[LossConfig], type[MetricLoss]]] = {
    "triplet": (TripletLossConfig, TripletLoss),
    "multi_similarity": (MultiSimilarityConfig, MultiSimilarityLoss),
    "supcon": (SupConConfig, SupConLoss),
}
"""Name → its config and its class; the first is the default."""

SAVED_TOGETHER = ("miner", "positives", "margin", "squared", "mean_over", "alpha", "beta", "base", "temperature")
"""Keys that runs once saved for every loss, read or not."""

AnyLoss = Annotated[LossConfig, OneOf({name: config for name, (config, _) in LOSSES.items()}, SAVED_TOGETHER)]


def make_loss(config: LossConfig) -> MetricLoss:
    """The loss that the config describes."""
    return LOSSES[config.name][1](config)
