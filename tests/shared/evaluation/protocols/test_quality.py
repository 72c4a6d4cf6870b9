"""Label-free quality: closed forms, naive loops, and both kinds of positives."""

from __future__ import annotations

import numpy as np
import pytest

from shared.evaluation.context import RANDOM
from shared.evaluation.protocols.quality import normalise, quality, squared_distances, uniformity
from tests.shared.evaluation.contexts import NAME, Powers, make_context, make_store, truth_and_noise


def test_uniformity_equals_naive_loop():
    rng = np.random.default_rng(0)
    x = normalise(rng.normal(size=(20, 4)).astype(np.float32))
    near = np.exp(-2 * squared_distances(x))
    np.fill_diagonal(near, 0)
    weights = rng.integers(0, 3, (4, 20)).astype(np.uint8)
    weights[0] = 1
    for w, found in zip(weights, uniformity(near, weights), strict=True):
        copies = np.repeat(np.arange(20), w)
        pairs = [np.exp(-2 * ((x[i] - x[j]) ** 2).sum()) for i in copies for j in copies if i != j]
        assert found == pytest.approx(np.log(np.mean(pairs)))


def test_protocol_with_embeddings_only(tmp_path):
    store, labels = make_store(tmp_path / "store", num=300)
    rows = truth_and_noise(labels, dim=32)
    rows[NAME] = np.ones((300, 32), dtype=np.float32)  # collapsed
    result = quality(make_context(tmp_path, store, labels, rows))
    collapsed, spread = result.scores[NAME], result.scores[RANDOM]
    assert collapsed["rankme"]["value"] == pytest.approx(1, abs=0.01)
    assert spread["rankme"]["value"] > 25 and spread["rankme"]["low"] < spread["rankme"]["value"]
    assert collapsed["uniformity"]["value"] == pytest.approx(0, abs=1e-6) and spread["uniformity"]["value"] < -3
    assert "alpha_req" in spread and "alpha_req" not in collapsed and "alignment" not in spread


@pytest.mark.parametrize(("num_samples", "how"), [(100, "first and the last window"), (120, "white noise at 20 dB")])
def test_alignment_of_two_views(tmp_path, num_samples, how):
    store, labels = make_store(tmp_path / "store", num=100)
    encoders = {NAME: Powers(num_samples), RANDOM: Powers(num_samples)}
    result = quality(make_context(tmp_path, store, labels, encoders=encoders))
    score = result.scores[NAME]["alignment"]
    assert 0 < score["low"] < score["value"] < score["high"] < 0.5
    assert how in " ".join(result.notes)
    assert result.differences[RANDOM][NAME]["alignment"]["value"] == 0
