"""Batches by class, and labels that cannot be learned from."""

from __future__ import annotations

import numpy as np
import pytest

from shared.errors import UserError
from shared.triplet.batches import check_classes, draw_batches
from shared.triplet.losses import TripletLossConfig


def test_splits_that_cannot_be_learned_are_refused() -> None:
    names, same = ("A", "B", "C"), TripletLossConfig()
    with pytest.raises(UserError, match=r"hold one class \(B\)"):
        check_classes(np.tile([False, True, False], (5, 1)), names, same)
    with pytest.raises(UserError, match="class C has a single training record"):
        check_classes(np.eye(3, dtype=bool)[[0, 0, 1, 1, 2]], names, same)
    several = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]], dtype=bool)
    with pytest.raises(UserError, match=r"1 of 4 records have several labels.*single_label=true"):
        check_classes(several, names, same)
    check_classes(several, names, TripletLossConfig(positives="jaccard"))


def test_balanced_batches() -> None:
    labels = np.repeat(np.eye(3, dtype=bool), (50, 20, 3), axis=0)
    batches = draw_batches(labels, 24, 8, np.random.default_rng(0))
    assert len(batches) == 73 // 24
    for batch in batches:
        assert labels[batch].sum(0).tolist() == [8, 8, 8]
    seen = np.unique(np.concatenate(list(draw_batches(labels, 24, 8, np.random.default_rng(1)))))
    assert set(range(70, 73)) <= set(seen.tolist())
    again = draw_batches(labels, 24, 8, np.random.default_rng(0))
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))


def test_shuffled_batches() -> None:
    labels = np.eye(2, dtype=bool)[np.arange(30) % 2]
    batches = draw_batches(labels, 10, 0, np.random.default_rng(0))
    assert sorted(np.concatenate(batches).tolist()) == list(range(30))
    with pytest.raises(UserError, match="fewer than one batch of 40"):
        draw_batches(labels, 40, 0, np.random.default_rng(0))
