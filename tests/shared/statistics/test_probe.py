"""The linear probes against scikit-learn, on truth and on noise, and their bad input."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

from shared.evaluation.context import RANDOM
from shared.evaluation.protocols.linear_probe import linear_probe
from shared.statistics import probe
from shared.statistics.probe import fit_logistic, fit_ridge
from tests.shared.evaluation.contexts import NAME, make_context, make_store, truth_and_noise


def make_case(n=200, dim=12, seed=0):
    """Features far from zero with correlated columns, labels that depend on them weakly."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, dim)) @ rng.normal(size=(dim, dim)) * np.geomspace(0.01, 100, dim) + 50
    z = (x - x.mean(0)) / x.std(0)
    logits = z @ rng.normal(size=(dim, 3)) / 2 + rng.normal(size=(n, 3)) * 2 - 0.5
    return x.astype(np.float32), logits


@pytest.mark.parametrize("l2", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("n", [200, 10])
def test_sigmoid_equals_sklearn(l2, n):
    x, logits = make_case()
    y = logits > 0
    fitted = fit_logistic(x[:n], y[:n], x, y, [l2])
    z = (x - x[:n].mean(0, dtype=float)) / x[:n].std(0, dtype=float)
    for c in range(3):
        theirs = LogisticRegression(C=1 / (n * l2), max_iter=10_000, tol=1e-10).fit(z[:n], y[:n, c])
        np.testing.assert_allclose(fitted.predict(x)[:, c], theirs.predict_proba(z)[:, 1], atol=1e-3)


def test_softmax_equals_sklearn():
    x, logits = make_case()
    classes = logits.argmax(axis=1)
    y = np.eye(3)[classes]
    fitted = fit_logistic(x, y, x, y, [0.01], softmax=True)
    z = (x - x.mean(0, dtype=float)) / x.std(0, dtype=float)
    theirs = LogisticRegression(C=1 / (len(x) * 0.01), max_iter=10_000, tol=1e-10).fit(z, classes)
    np.testing.assert_allclose(fitted.predict(x), theirs.predict_proba(z), atol=1e-4)


@pytest.mark.parametrize("n", [200, 8])
def test_ridge_equals_sklearn(n):
    x, logits = make_case()
    y = 70 + 10 * logits[:, 0]
    fitted = fit_ridge(x[:n], y[:n], x, y, [0.1])
    z = (x - x[:n].mean(0, dtype=float)) / x[:n].std(0, dtype=float)
    theirs = Ridge(alpha=n * 0.1).fit(z[:n], y[:n])
    np.testing.assert_allclose(fitted.predict(x)[:, 0], theirs.predict(z), rtol=1e-5)


def test_float32_agrees_with_float64(monkeypatch):
    x, logits = make_case()
    exact = fit_logistic(x, logits > 0, x, logits > 0, [0.01])
    monkeypatch.setattr(probe, "FLOAT64_VALUES", 0)
    single = fit_logistic(x, logits > 0, x, logits > 0, [0.01])
    assert single.converged
    np.testing.assert_allclose(single.predict(x), exact.predict(x), atol=2e-3)


@pytest.mark.parametrize("softmax", [False, True])
def test_a_search_in_float32_ends_where_one_in_float64_does(monkeypatch, softmax):
    x, logits = make_case(n=400, dim=60)
    y = np.eye(3)[logits.argmax(axis=1)] if softmax else logits > 0
    y_val, strengths = y[200:], (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    exact = fit_logistic(x[:200], y[:200], x[200:], y_val, strengths, softmax=softmax)
    monkeypatch.setattr(probe, "SEARCH_FLOAT64", 0)
    searched = fit_logistic(x[:200], y[:200], x[200:], y_val, strengths, softmax=softmax)
    assert searched.l2 == exact.l2 and searched.converged
    np.testing.assert_allclose(searched.predict(x), exact.predict(x), atol=1e-6)


def test_strength_is_chosen_on_validation():
    x, logits = make_case(n=400, dim=60)
    train, val = slice(0, 40), slice(40, 400)
    y = logits > 0
    strengths = (1e-4, 1e-2, 1e-1, 1.0, 100.0)
    chosen = fit_logistic(x[train], y[train], x[val], y[val], strengths)

    def loss(l2):
        p = fit_logistic(x[train], y[train], x[val], y[val], [l2]).predict(x[val])
        return -(np.log(np.where(y[val], p, 1 - p))).mean()

    assert chosen.l2 == min(strengths, key=loss)
    assert chosen.l2 not in (1e-4, 100.0)


def test_constant_feature_and_absent_class():
    x, logits = make_case()
    x[:, 3] = 7.1
    y = logits > 0
    y[:, 1] = False
    moved = x.copy()
    moved[:, 3] = 1e6
    fitted = fit_logistic(x, y, x, y, [1e-3, 1e-1])
    np.testing.assert_allclose(fitted.predict(moved), fitted.predict(x))
    np.testing.assert_allclose(fitted.predict(x)[:, 1], 0.5 / 201)


def test_warns_without_convergence(monkeypatch):
    monkeypatch.setattr(probe, "MAX_PASSES", 1)
    x, logits = make_case()
    with pytest.warns(ConvergenceWarning, match="did not converge within 1 passes"):
        fitted = fit_logistic(x, logits > 0, x, logits > 0, [1e-5])
    assert not fitted.converged


def test_bad_input():
    x, logits = make_case(20)
    y = logits > 0
    with pytest.raises(ValueError, match=r"train features \(20, 12\) and targets \(19, 3\)"):
        fit_logistic(x, y[:19], x, y, [1])
    with pytest.raises(ValueError, match="Embed both with one encoder"):
        fit_logistic(x, y, x[:, :5], y, [1])
    with pytest.raises(ValueError, match="at least one number above 0"):
        fit_ridge(x, logits[:, 0], x, logits[:, 0], [])
    with pytest.raises(ValueError, match="expected exactly one each"):
        fit_logistic(x, np.ones((20, 3)), x, y, [1], softmax=True)
    x[3, 2] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity in 1 of 20 rows, first in row 3"):
        fit_logistic(x, y, x, y, [1])


def test_protocol_on_truth_and_noise(tmp_path):
    store, labels = make_store(tmp_path / "store", num=500)
    result = linear_probe(make_context(tmp_path, store, labels, truth_and_noise(labels)))
    assert result.scores[NAME]["auroc_macro"]["value"] > 0.999
    chance = result.scores[RANDOM]["auroc_macro"]
    assert chance["low"] < 0.5 < chance["high"]
    assert result.differences[RANDOM][NAME]["auroc_macro"]["low"] > 0.3
    assert any("l2 =" in note for note in result.notes)


def test_protocol_with_one_label_each(tmp_path):
    store, _ = make_store(tmp_path / "store", num=300)
    labels = np.eye(3, dtype=bool)[np.random.default_rng(0).integers(3, size=300)]
    context = make_context(tmp_path, store, labels, truth_and_noise(labels), single_label=True)
    result = linear_probe(context)
    np.testing.assert_allclose(result.predictions[NAME].sum(axis=1), 1)
    assert result.scores[NAME]["auroc_macro"]["value"] > 0.999
