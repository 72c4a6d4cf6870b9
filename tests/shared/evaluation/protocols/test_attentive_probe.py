"""The attentive probe: attention by hand, learning where the answer stands, early stopping, both ways to read tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from shared.errors import UserError
from shared.evaluation.context import RANDOM
from shared.evaluation.protocols import attentive_probe as module
from shared.evaluation.protocols.attentive_probe import (
    AttentiveProbe,
    attentive_probe,
    fit_attentive_probe,
    predict_attentive,
)
from tests.shared.evaluation.contexts import NAME, Powers, make_context, make_store, truth_and_noise


def test_forward_equals_attention_by_hand():
    torch.manual_seed(0)
    probe, x = AttentiveProbe(8, 3, num_heads=2), torch.randn(4, 5, 8)
    key, value = probe.key_value(probe.norm(x)).chunk(2, dim=-1)
    pooled = []
    for head in (slice(0, 4), slice(4, 8)):
        share = (key[..., head] @ probe.query[head] / 2).softmax(dim=1)
        pooled.append((share[..., None] * value[..., head]).sum(1))
    torch.testing.assert_close(probe(x), probe.out(torch.cat(pooled, dim=1)))
    with pytest.raises(ValueError, match="3 heads given for tokens of width 8"):
        AttentiveProbe(8, 3, num_heads=3)


def test_finds_the_token_that_tells():
    rng = np.random.default_rng(0)
    labels = rng.random((1200, 2)) < 0.5
    held = rng.normal(size=(1200, 10, 8))
    place = rng.integers(10, size=1200)
    held[np.arange(1200), place, 0] = 6  # the mark of the token that holds the answer
    held[np.arange(1200), place, 1:3] = 4.0 * labels - 2
    data = torch.from_numpy(held).float()

    def tokens(positions):
        for i in range(0, len(positions), 32):
            yield positions[i : i + 32], data[positions[i : i + 32]]

    train, val, test = np.split(np.arange(1200), (900, 1000))
    options = {"epochs": 20, "lr": 1e-2}
    probe = fit_attentive_probe(tokens, labels, train, val, **options)
    assert ((predict_attentive(probe, tokens, test) > 0.5) == labels[test]).mean() > 0.95
    again = fit_attentive_probe(tokens, labels, train, val, **options)
    assert all(torch.equal(a, b) for a, b in zip(probe.state_dict().values(), again.state_dict().values(), strict=True))


def test_protocol_reads_tokens_either_way(tmp_path, monkeypatch):
    store, labels = make_store(tmp_path / "store", num=200)
    encoders = {NAME: Powers(), RANDOM: Powers()}
    context = make_context(tmp_path, store, labels, encoders=encoders, probe={"attentive_epochs": 2})
    held = attentive_probe(context)
    monkeypatch.setattr(module, "HELD_BYTES", 0)
    anew = attentive_probe(context)
    np.testing.assert_allclose(held.predictions[NAME], anew.predictions[NAME], atol=5e-3)
    assert held.scores[NAME]["auroc_macro"]["n"] == 40


def test_needs_tokens(tmp_path):
    store, labels = make_store(tmp_path / "store")
    with pytest.raises(UserError, match=r"needs an encoder with tokens\(ecg, leads\)"):
        attentive_probe(make_context(tmp_path, store, labels, truth_and_noise(labels)))
