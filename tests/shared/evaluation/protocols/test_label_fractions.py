"""Draws of patients, and scores over shares of the training set."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from shared.data.splits import stratified
from shared.errors import UserError
from shared.evaluation.conditions import score_conditions
from shared.evaluation.context import RANDOM
from shared.evaluation.protocols.label_fractions import draw_shares, label_fractions, share_name
from shared.evaluation.report.tables import metric_title
from tests.shared.evaluation.contexts import NAME, make_context, make_store, truth_and_noise


def test_draws_whole_patients_in_proportion(tmp_path):
    store, labels = make_store(tmp_path / "store", num=900, per_patient=3)
    context = make_context(tmp_path, store, labels, truth_and_noise(labels))
    draws = draw_shares(context, 0.1)
    again = draw_shares(context, 0.1)
    assert len(draws) == 3 and not np.array_equal(draws[0], draws[1])
    for draw, same in zip(draws, again, strict=True):
        np.testing.assert_array_equal(draw, same)
        assert len(draw) == 54  # 18 of 180 patients, three records each
        assert np.isin(draw, context.split.train).all()
        inside = set(context.patients[draw])
        assert not inside & set(context.patients[np.setdiff1d(context.split.train, draw)])
        np.testing.assert_allclose(labels[draw].mean(0), labels[context.split.train].mean(0), atol=0.17)
    (whole,) = draw_shares(context, 1.0)
    np.testing.assert_array_equal(whole, context.split.train)


def test_stratified_quota():
    stratum = np.repeat([0, 1, 2], [60, 30, 10])
    for seed in range(5):
        picked = stratified(stratum, 10, np.random.default_rng(seed))
        assert np.bincount(stratum[picked]).tolist() == [6, 3, 1]
    assert len(set(stratified(stratum, 33, np.random.default_rng(0)))) == 33
    with pytest.raises(UserError, match="101 of 100 patients asked for"):
        stratified(stratum, 101, np.random.default_rng(0))


def test_mean_and_deviation_over_draws(tmp_path):
    store, labels = make_store(tmp_path / "store", num=300)
    context = make_context(tmp_path, store, labels, truth_and_noise(labels))
    truth = labels[context.split.test]
    draws = [np.random.default_rng(i).random(truth.shape) + 0.3 * truth for i in range(3)]
    result = score_conditions(context, {NAME: {"x": draws}, RANDOM: {"x": draws[:1]}}, "p/")
    aurocs = [roc_auc_score(truth, scores) for scores in draws]
    score = result.scores[NAME]["p/auroc_macro@x"]
    assert score["value"] == pytest.approx(np.mean(aurocs))
    assert score["low"] < score["value"] < score["high"]
    assert result.scores[NAME]["p/auroc_macro_std@x"]["value"] == pytest.approx(np.std(aurocs, ddof=1))
    assert "p/auroc_macro_std@x" not in result.scores[RANDOM]
    assert result.differences[RANDOM][NAME]["p/auroc_macro@x"]["value"] == pytest.approx(np.mean(aurocs) - aurocs[0])


def test_protocol_on_truth_and_noise(tmp_path):
    store, labels = make_store(tmp_path / "store", num=500)
    context = make_context(tmp_path, store, labels, truth_and_noise(labels), label_fractions=(0.05, 1.0), label_draws=2)
    result = label_fractions(context)
    assert result.scores[NAME]["auroc_macro@100%"]["value"] > 0.999
    assert result.scores[NAME]["auroc_macro@5%"]["value"] > 0.8
    assert result.scores[NAME]["knn/auroc_macro@100%"]["value"] > 0.99
    assert result.scores[RANDOM]["auroc_macro@100%"]["value"] == pytest.approx(0.5, abs=0.12)
    assert "auroc_macro_std@5%" in result.scores[NAME] and "auroc_macro_std@100%" not in result.scores[NAME]
    assert result.figures[0].path.stat().st_size > 1_500
    assert any("kNN: k = 4 at 5%" in note for note in result.notes)


def test_share_names():
    assert [share_name(f) for f in (0.005, 0.01, 0.1, 1.0)] == ["0.5%", "1%", "10%", "100%"]


def test_titles_on_the_page():
    assert metric_title("auroc_macro@5%") == "AUROC macro @ 5%"
    assert metric_title("knn/auroc_macro_std@1%") == "knn/AUROC macro, sd over draws @ 1%"
    assert metric_title("true_heart_rate/mae") == "true heart rate/mean absolute error ↓"
    assert metric_title("labels/silhouette") == "silhouette of the labels ↑"
