"""Miners: which triplets (or pairs) of a batch count. Each says which losses it serves and whether it knows graded labels.

To add one: its class, a line in `MINERS`, and its name in `MinerName`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

Triplets = tuple[Tensor, Tensor, Tensor]
"""Anchors, positives, negatives: positions in the batch."""
Pairs = tuple[Tensor, Tensor, Tensor, Tensor]
"""Anchors and their positives, anchors and their negatives: positions in the batch."""


@dataclass(frozen=True)
class Batch:
    """What a miner of triplets chooses from.

    Attributes:
        embeddings: `[B, E]`.
        classes: `[B]` int, the class of each record; of no meaning where labels are graded.
        triplets: every valid one, three `[M]`.
        gap: `[M]`, d(a, n) − d(a, p) of each.
        margin: below which a gap is a loss.
    """

    embeddings: Tensor
    classes: Tensor
    triplets: Triplets
    gap: Tensor
    margin: float


class Miner:
    """The interface.

    Args:
        distance: pytorch-metric-learning's, between embeddings.

    Attributes:
        serves: names of the losses it can choose for.
        graded: whether it can choose where labels overlap in part (`positives: jaccard`).
    """

    serves: ClassVar[tuple[str, ...]] = ("triplet",)
    graded: ClassVar[bool] = True

    def __init__(self, distance: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.distance = distance

    @classmethod
    def fits(cls, loss: str) -> bool:
        """Whether the loss of this name can take what this miner leaves."""
        return loss in cls.serves

    def triplets(self, batch: Batch) -> Triplets:
        """The triplets that count."""
        raise NotImplementedError

    def pairs(self, embeddings: Tensor, classes: Tensor) -> Pairs | None:
        """The pairs that count; None: all of them."""
        raise NotImplementedError


class All(Miner):
    """`all`: nothing is left out."""

    @classmethod
    def fits(cls, loss: str) -> bool:
        """Every loss, those added later too."""
        return True

    def triplets(self, batch: Batch) -> Triplets:
        """Every one."""
        return batch.triplets

    def pairs(self, embeddings: Tensor, classes: Tensor) -> None:
        """Every one."""


class OneEach(Miner):
    """`random`: one random triplet for each anchor–positive pair."""

    def triplets(self, batch: Batch) -> Triplets:
        """One each."""
        triplets, gap = batch.triplets, batch.gap
        order = torch.randperm(len(gap), device=gap.device)
        pair = triplets[0] * (int(triplets[0].max()) + int(triplets[1].max()) + 1) + triplets[1]
        _, pair = pair[order].unique(return_inverse=True)
        first = torch.full((int(pair.max()) + 1,), len(order), device=gap.device)
        first.scatter_reduce_(0, pair, torch.arange(len(order), device=gap.device), "amin")
        return keep(triplets, order[first])


class SemiHard(Miner):
    """`semihard`: the negative is farther than the positive, but within the margin (Schroff et al. 2015, section 3.2)."""

    def triplets(self, batch: Batch) -> Triplets:
        """By the gap."""
        return keep(batch.triplets, (batch.gap > 0) & (batch.gap <= batch.margin))


class Hard(Miner):
    """`hard`: the negative is nearer than the positive."""

    def triplets(self, batch: Batch) -> Triplets:
        """By the gap."""
        return keep(batch.triplets, batch.gap <= 0)


class BatchHard(Miner):
    """`batch_hard`: each anchor with its farthest positive and nearest negative (Hermans et al. 2017)."""

    graded = False

    def __init__(self, distance: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__(distance)
        from pytorch_metric_learning.miners import BatchHardMiner

        self.inner = BatchHardMiner(distance=distance)

    def triplets(self, batch: Batch) -> Triplets:
        """One for each anchor."""
        return self.inner(batch.embeddings, batch.classes)


class MultiSimilarity(Miner):
    """`multi_similarity`: pairs that are no worse than the hardest of the other kind (Wang et al. 2019, section 3.2.1)."""

    serves = ("multi_similarity",)
    graded = False

    def __init__(self, distance: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__(distance)
        from pytorch_metric_learning.miners import MultiSimilarityMiner

        self.inner = MultiSimilarityMiner()  # by cosine, as the loss

    def pairs(self, embeddings: Tensor, classes: Tensor) -> Pairs:
        """By similarity."""
        return self.inner(embeddings, classes)


MinerName = Literal["all", "random", "semihard", "hard", "batch_hard", "multi_similarity"]

MINERS: dict[MinerName, type[Miner]] = {
    "all": All,
    "random": OneEach,
    "semihard": SemiHard,
    "hard": Hard,
    "batch_hard": BatchHard,
    "multi_similarity": MultiSimilarity,
}


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


def keep(triplets: Triplets, which: Tensor) -> Triplets:
    """Those of the triplets: a mask or positions `[m]`."""
    return triplets[0][which], triplets[1][which], triplets[2][which]
