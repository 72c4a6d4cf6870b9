"""Batches for metric learning, drawn by class, and labels that no batch could be drawn from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shared.errors import UserError
from shared.triplet.losses import LossConfig


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
