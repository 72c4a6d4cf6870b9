"""Verification against naive loops and scikit-learn, identity and noise, and stores without repeated patients."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from shared.errors import UserError
from shared.evaluation.context import RANDOM
from shared.evaluation.protocols.biometrics import biometrics, cosine, draw_pairs, verify, within_patient_map
from tests.shared.evaluation.contexts import NAME, make_context, make_store, truth_and_noise


def test_pairs():
    patients = np.array([0, 1, 0, 2, 1, 0])
    first, second, genuine = draw_pairs(patients, 1000, 0)
    assert {frozenset(p) for p in zip(first[genuine], second[genuine], strict=True)} == {
        frozenset(p) for p in ((0, 2), (0, 5), (2, 5), (1, 4))
    }
    others = [frozenset(p) for p in zip(first[~genuine], second[~genuine], strict=True)]
    assert len(others) == len(set(others)) == 15 - 4
    assert (patients[first[~genuine]] != patients[second[~genuine]]).all()
    assert (~draw_pairs(np.arange(500), 50, 0)[2]).sum() == 50


def test_verify_equals_repeated_pairs():
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(12), 3)
    first, second, genuine = draw_pairs(patients, 200, 0)
    scores = np.round(rng.normal(size=len(first)) + genuine, 1)  # ties
    weights = rng.integers(0, 4, (6, 12))[:, patients].astype(np.uint8)
    weights[0] = 1
    found = verify(scores, genuine, first, second, weights)
    for r, w in enumerate(weights.astype(int)):
        copies = np.repeat(np.arange(len(first)), np.where(genuine, w[first], w[first] * w[second]))
        s, g = scores[copies], genuine[copies]
        assert found["auroc"][r] == pytest.approx(roc_auc_score(g, s))
        levels = np.concatenate([[np.inf], np.unique(s)[::-1]])
        far = np.array([(s[~g] >= level).mean() for level in levels])
        frr = np.array([(s[g] < level).mean() for level in levels])
        assert found["tar_at_1_far"][r] == pytest.approx(1 - frr[far <= 0.01].min())
        fine = np.linspace(0, len(levels) - 1, 200_001)
        gap = np.abs(np.interp(fine, range(len(far)), far) - np.interp(fine, range(len(frr)), frr))
        assert found["eer"][r] == pytest.approx(np.interp(fine, range(len(far)), far)[gap.argmin()], abs=1e-3)


def test_cosine_and_zero_vectors():
    x = np.array([[1.0, 0], [1, 1], [0, 0]])
    np.testing.assert_allclose(cosine(x, np.array([0, 0]), np.array([1, 2])), [np.sqrt(0.5), 0])


def test_map_levels_what_varies_within_patients():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(200), 4)
    x = rng.normal(size=(200, 3))[groups] + rng.normal(size=(800, 3)) * (5, 1, 0.5)
    mapped = x @ within_patient_map(x, groups, 0.0)
    means = mapped.reshape(200, 4, 3).mean(axis=1, keepdims=True)
    within = (mapped.reshape(200, 4, 3) - means).reshape(-1, 3)
    np.testing.assert_allclose(within.T @ within / 800, np.eye(3), atol=1e-8)


def make_case(tmp_path, nuisance=0.0, **columns):
    """The encoder's row holds who the patient is, and a direction that says nothing about it."""
    store, labels = make_store(tmp_path / "store", num=500, per_patient=5, **columns)
    rng = np.random.default_rng(2)
    rows = truth_and_noise(labels)
    rows[NAME] = (rng.normal(size=(100, 8))[np.arange(500) // 5] + 0.1 * rows[RANDOM]).astype(np.float32)
    rows[NAME][:, 0] = nuisance * rng.normal(size=500)
    return make_context(tmp_path, store, labels, rows)


def test_identity_and_noise(tmp_path):
    result = biometrics(make_case(tmp_path))
    found, noise = result.scores[NAME], result.scores[RANDOM]
    assert found["auroc"]["value"] > 0.999 and found["eer"]["value"] < 0.01
    assert found["tar_at_1_far"]["value"] > 0.99 and found["rank_1"]["value"] == 1
    assert noise["auroc"]["value"] == pytest.approx(0.5, abs=0.1) and noise["eer"]["value"] == pytest.approx(
        0.5, abs=0.1
    )
    assert noise["rank_1"]["value"] < 0.2
    assert found["rank_1"]["n"] == 100 and result.differences[RANDOM][NAME]["eer"]["high"] < 0
    assert result.figures[0].path.stat().st_size > 1_500
    assert "200 genuine pairs of 20 test patients" in result.notes[0]


def test_learned_map_removes_the_nuisance(tmp_path):
    scores = biometrics(make_case(tmp_path, nuisance=30.0)).scores[NAME]
    assert scores["eer"]["value"] > 0.3
    assert scores["wccn/eer"]["value"] < 0.02


def test_needs_repeated_patients_and_no_copies(tmp_path):
    store, labels = make_store(tmp_path / "a")
    with pytest.raises(UserError, match="0 test patients have two or more different records"):
        biometrics(make_context(tmp_path, store, labels, truth_and_noise(labels)))
    copies = [f"d{i // 5}" for i in range(500)]
    with pytest.raises(UserError, match="0 test patients have two or more different records"):
        biometrics(make_case(tmp_path / "b", digest=copies))
