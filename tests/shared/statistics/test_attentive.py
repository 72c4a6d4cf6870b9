"""The attentive probe: attention by hand, what it finds and what it does not, and that validation chooses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from shared.errors import UserError
from shared.statistics.attentive import (
    AttentiveProbe,
    draw_batches,
    fit_attentive_probe,
    predict_attentive,
    token_statistics,
)

LRS = (3e-3, 3e-2)


def give(held, seen=None):
    """Tokens `[n, S, D]` as `fit_attentive_probe` wants them; positions asked for are added to `seen`."""
    data = torch.from_numpy(np.asarray(held)).float()

    def tokens(positions):
        for i in range(0, len(positions), 50):
            part = positions[i : i + 50]
            if seen is not None:
                seen.update(part.tolist())
            yield part, data[part]

    return tokens


def auroc(labels, predicted):
    return roc_auc_score(labels, predicted, average="macro")


def test_forward_equals_attention_by_hand():
    rng = torch.Generator().manual_seed(0)
    mean, scale = torch.randn(8, generator=rng), torch.rand(8, generator=rng) + 0.5
    probe = AttentiveProbe(mean, scale, torch.tensor([0.2, 0.5, 0.7]), 2, rng).eval()
    x = torch.randn(4, 5, 8, generator=rng)
    np.testing.assert_allclose(probe(x).sigmoid().detach(), [[0.2, 0.5, 0.7]] * 4, rtol=1e-5)  # as it starts
    with torch.no_grad():
        probe.query.normal_(generator=rng)
        probe.weight.normal_(generator=rng)
        probe.norm.running_mean.normal_(generator=rng)
    for record, logits in zip((x - mean) / scale, probe(x), strict=True):
        pooled = []
        for query, value in zip(probe.query, probe.value, strict=True):
            share = torch.stack([token @ query / 8**0.5 for token in record]).softmax(dim=0)
            pooled.append(sum(a * (token @ value) for a, token in zip(share, record, strict=True)))
        expected = (torch.cat(pooled) - probe.norm.running_mean) / (1 + 1e-5) ** 0.5 @ probe.weight + probe.bias
        torch.testing.assert_close(logits, expected)
    with pytest.raises(ValueError, match="3 heads given for tokens of width 8"):
        AttentiveProbe(mean, scale, torch.tensor([0.5]), 3, rng)


def test_finds_the_token_that_tells():
    rng = np.random.default_rng(0)
    labels = rng.random((1200, 2)) < 0.5
    held = rng.normal(size=(1200, 10, 8))
    place = rng.integers(10, size=1200)
    held[np.arange(1200), place, 0] = 6  # the mark of the token that holds the answer
    held[np.arange(1200), place, 1:3] = 4.0 * labels - 2
    train, val, test = np.split(np.arange(1200), (900, 1000))
    options = {"steps": 300, "lrs": LRS}
    best = fit_attentive_probe(give(held), labels, train, val, **options)
    assert ((predict_attentive(best.probe, give(held), test) > 0.5) == labels[test]).mean() > 0.95
    again = fit_attentive_probe(give(held), labels, train, val, **options)
    assert again.step == best.step
    assert all(torch.equal(a, b) for a, b in zip(best.state.values(), again.state.values(), strict=True))


@pytest.mark.parametrize("scale", [1e-2, 1e2])
def test_finds_what_is_small_beside_what_all_records_share(scale):
    rng = np.random.default_rng(0)
    labels = rng.random((240, 2)) < 0.5
    shared = rng.normal(size=(30, 16))  # positions tell tokens apart far more than records do
    held = shared + 0.03 * rng.normal(size=(240, 30, 16))
    held[..., :2] += 0.1 * labels[:, None]
    train, val, test = np.split(np.arange(240), (120, 160))
    tokens = give(scale * (held + 3))
    best = fit_attentive_probe(tokens, labels, train, val, steps=300, lrs=LRS)
    assert auroc(labels[test], predict_attentive(best.probe, tokens, test)) > 0.95


def test_test_records_are_not_asked_for_and_statistics_are_of_training():
    rng = np.random.default_rng(0)
    held, labels, seen = rng.normal(size=(100, 4, 6)), rng.random((100, 1)) < 0.5, set()
    held[:, :, 5] = 7
    train, val, test = np.split(np.arange(100), (60, 80))
    held[80:] = np.nan
    best = fit_attentive_probe(give(held, seen), labels, train, val, steps=5, lrs=LRS)
    assert seen == set(range(80))
    mean, deviation = held[:60].mean((0, 1)), held[:60].std((0, 1))
    deviation[5] = 1  # a constant
    np.testing.assert_allclose(best.probe.mean, mean, atol=1e-5)
    np.testing.assert_allclose(best.probe.scale, deviation, rtol=1e-5)
    with pytest.raises(UserError, match="tokens hold NaN, infinite or too large values"):
        token_statistics(give(held), test)
    with pytest.raises(UserError, match="tokens hold NaN, infinite or too large values"):
        fit_attentive_probe(give(held), labels, train, test, steps=5, lrs=LRS)
    with pytest.raises(UserError, match="1 training record given; the attentive probe needs at least two"):
        fit_attentive_probe(give(held), labels, train[:1], val, steps=5, lrs=LRS)


def test_validation_chooses_rate_and_step():
    rng = np.random.default_rng(0)
    labels = rng.random((300, 1)) < 0.5
    held = rng.normal(size=(300, 5, 8))
    held[..., 0] += labels
    train, val = np.arange(150), np.arange(150, 300)
    best = fit_attentive_probe(give(held), labels, train, val, steps=100, lrs=(1e-9, 1e-2, 100.0))
    assert best.lr == 1e-2 and best.step > 0
    wrong = labels.copy()
    wrong[val] = ~labels[val]  # what training teaches is wrong on validation
    constant = fit_attentive_probe(give(held), wrong, train, val, steps=100, lrs=(1e-2,))
    assert constant.step == 0
    np.testing.assert_allclose(
        predict_attentive(constant.probe, give(held), val)[:, 0], (labels[train].sum() + 0.5) / 151, rtol=1e-5
    )


def test_batches_are_whole_and_each_shuffle_is_used_up():
    batches = list(draw_batches(np.arange(150), 5, np.random.default_rng(0)))
    assert [len(b) for b in batches] == [64] * 5
    assert len(set(np.concatenate(batches[:2]))) == 128 and len(set(np.concatenate(batches[2:4]))) == 128
    assert len(set(next(draw_batches(np.arange(10), 1, np.random.default_rng(0))))) == 10
