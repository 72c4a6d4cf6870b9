"""How a fine-tuned classifier is tested: how the outputs of a record's windows are pooled, and which epoch is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shared.data.transforms import Preprocess
from shared.finetune.classifier import Classifier, Pool, predict_store
from shared.selection import Best
from tests.shared.evaluation.contexts import Powers, make_store


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("pool", ["mean_logits", "mean_probabilities", "max"])
def test_windows_are_pooled_as_in_a_naive_loop(pool: Pool, softmax: bool, tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "store", num=5)
    torch.manual_seed(0)
    model = Classifier(Powers(60), 3)
    nn.init.normal_(model.head.weight)
    records = np.array([4, 0, 3])
    found = predict_store(model, store, records, pool=pool, softmax=softmax, num_crops=3, batch_size=2)
    expected = []
    for record in records:
        outputs: list[Tensor] = []
        for start in (0, 30, 60):  # evenly spaced in 120 samples
            window = torch.from_numpy(store[record][:, start : start + 60])[None]
            logits = model(Preprocess(model.input_spec, store.scale)(window))[0].detach()
            outputs.append(logits if pool == "mean_logits" else logits.softmax(0) if softmax else logits.sigmoid())
        stacked = torch.stack(outputs)
        expected.append((stacked.amax(0) if pool == "max" else stacked.mean(0)).numpy())
    np.testing.assert_allclose(found, np.stack(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("last", "kept"), [(False, 2), (True, 4)])
def test_the_best_epoch_is_kept_or_the_last(last: bool, kept: int) -> None:
    best, model = Best(last), nn.Linear(1, 1)
    scores: Sequence[float] = (0.5, 0.9, 0.7, 0.8)
    for epoch, score in enumerate(scores, start=1):
        nn.init.constant_(model.weight, epoch)
        best.offer(score, epoch, model)
    assert best.epoch == kept and best.score == scores[kept - 1] and best.weights is not None
    assert float(best.weights["weight"]) == kept
    assert not last or not best.stale(4, 1)
