"""Metrics against scikit-learn (with ties and weights), on chance and truth, and with bad input."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from shared.statistics import metrics, regression


@pytest.fixture(params=[False, True], ids=["distinct", "ties"])
def case(request):
    """Labels and scores `[n, C]` and whole-number weights `[R, n]`."""
    rng = np.random.default_rng(0)
    labels = (rng.random((300, 4)) < [0.5, 0.2, 0.1, 0.9]).astype(int)
    scores = 1 / (1 + np.exp(-rng.normal(size=labels.shape) - labels))
    if request.param:
        scores = np.round(scores, 1)
    return labels, scores, rng.poisson(1, (3, 300)).astype(np.uint8)


def expect(score, labels, scores, weights):
    """Apply scikit-learn's `score` to each row of weights and class, `[R, C]`."""
    classes = range(labels.shape[1])
    return [[score(labels[:, c], scores[:, c], sample_weight=row) for c in classes] for row in weights]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(metrics.auroc, reference.roc_auc_score), (metrics.auprc, reference.average_precision_score)],
)
def test_ranking_scores_equal_sklearn(case, ours, theirs):
    labels, scores, weights = case
    np.testing.assert_allclose(ours(labels, scores, weights), expect(theirs, labels, scores, weights), atol=1e-12)
    fractions = weights * 0.37
    np.testing.assert_allclose(ours(labels, scores, fractions), expect(theirs, labels, scores, fractions), atol=1e-12)
    ones = np.ones((1, len(labels)))
    np.testing.assert_allclose(ours(labels, scores), expect(theirs, labels, scores, ones), atol=1e-12)


def test_sensitivity_equals_sklearn_roc_curve(case):
    labels, scores, weights = case

    def best(y, s, sample_weight):
        fpr, tpr, _ = reference.roc_curve(y, s, sample_weight=sample_weight, drop_intermediate=False)
        return tpr[fpr <= 0.05 + 1e-12].max()

    found = metrics.sensitivity_at_specificity(labels, scores, weights)
    np.testing.assert_allclose(found, expect(best, labels, scores, weights), atol=1e-12)


def test_five_false_of_a_hundred_negatives_are_allowed():
    labels = np.r_[np.zeros(95), np.ones(10), np.zeros(5)][:, None]
    scores = np.r_[np.zeros(95), np.full(10, 0.5), np.ones(5)][:, None]
    assert metrics.sensitivity_at_specificity(labels, scores)[0, 0] == 1.0


def test_f1_equals_sklearn(case):
    labels, scores, weights = case
    decisions = metrics.decide(scores, [0.5, 0.6, 0.7, 0.4]).astype(int)
    found = metrics.f1(labels, decisions, weights)
    np.testing.assert_allclose(found, expect(reference.f1_score, labels, decisions, weights), atol=1e-12)


@pytest.mark.parametrize("average", ["macro", "weighted"])
def test_averages_equal_sklearn(case, average):
    labels, scores, weights = case
    for name, theirs in (("auroc", reference.roc_auc_score), ("auprc", reference.average_precision_score)):
        found = metrics.METRICS[f"{name}_{average}"](labels, scores, weights)
        for row, value in zip(weights, found, strict=True):
            assert value == pytest.approx(theirs(labels, scores, average=average, sample_weight=row), abs=1e-12)
    decisions = metrics.decide(scores, np.full(4, 0.5)).astype(int)
    found = metrics.METRICS[f"f1_{average}"](labels, decisions, weights)
    for row, value in zip(weights, found, strict=True):
        expected = reference.f1_score(labels, decisions, average=average, sample_weight=row)
        assert value == pytest.approx(expected, abs=1e-12)


def test_single_label_scores_equal_sklearn(case):
    _, scores, weights = case
    classes = np.random.default_rng(1).integers(4, size=len(scores))
    labels, predicted = np.eye(4)[classes], scores.argmax(axis=1)
    for r, row in enumerate(weights):
        value = metrics.METRICS["accuracy"](labels, scores, weights)[r]
        assert value == pytest.approx(reference.accuracy_score(classes, predicted, sample_weight=row), abs=1e-12)
        for average in ("macro", "weighted"):
            value = metrics.METRICS[f"f1_argmax_{average}"](labels, scores, weights)[r]
            expected = reference.f1_score(classes, predicted, average=average, sample_weight=row)
            assert value == pytest.approx(expected, abs=1e-12)


def test_thresholds_equal_the_best_of_all_cuts(case):
    labels, scores, _ = case
    thresholds = metrics.choose_thresholds(labels, scores)
    for c in range(labels.shape[1]):
        cuts = [reference.f1_score(labels[:, c], scores[:, c] >= level) for level in np.unique(scores[:, c])]
        assert reference.f1_score(labels[:, c], scores[:, c] >= thresholds[c]) == pytest.approx(max(cuts), abs=1e-12)


def test_threshold_lies_midway_and_is_missing_without_positives():
    thresholds = metrics.choose_thresholds([[0, 0], [0, 0], [1, 0]], [[0.1, 0.3], [0.2, 0.2], [0.8, 0.1]])
    assert thresholds[0] == pytest.approx(0.5)
    assert np.isnan(thresholds[1])
    assert not metrics.decide(np.ones((3, 2)), thresholds)[:, 1].any()


def test_calibration_error_equals_naive_bins(case):
    labels, scores, weights = case
    found = metrics.calibration_error(labels, scores, weights)
    for r, row in enumerate(weights):
        for c in range(labels.shape[1]):
            total = 0.0
            for b in range(15):
                inside = (scores[:, c] > b / 15) & (scores[:, c] <= (b + 1) / 15)
                if row[inside].sum():
                    gap = np.average(labels[inside, c], weights=row[inside])
                    gap -= np.average(scores[inside, c], weights=row[inside])
                    total += abs(gap) * row[inside].sum() / row.sum()
            assert found[r, c] == pytest.approx(total, abs=1e-12)


def test_regression_equals_sklearn():
    rng = np.random.default_rng(0)
    truth = rng.normal(60, 10, 200)
    prediction = 0.5 * truth + rng.normal(0, 5, 200)
    weights = rng.poisson(1, (3, 200))
    for r, row in enumerate(weights):
        theirs = {
            "mae": reference.mean_absolute_error(truth, prediction, sample_weight=row),
            "rmse": reference.mean_squared_error(truth, prediction, sample_weight=row) ** 0.5,
            "r2": reference.r2_score(truth, prediction, sample_weight=row),
            "pearson": np.corrcoef(np.repeat(truth, row), np.repeat(prediction, row))[0, 1],
        }
        for name, value in theirs.items():
            assert regression.REGRESSION[name](truth, prediction, weights)[r] == pytest.approx(value, abs=1e-12)


def test_regression_without_spread_is_undefined():
    assert np.isnan(regression.r2(np.full(5, 3.1), np.arange(5))[0])
    assert np.isnan(regression.pearson(np.arange(5), np.full(5, 3.1))[0])
    assert regression.mae(np.full(5, 3.0), np.full(5, 4.0))[0] == 1.0


def test_weights_equal_repeated_records(case):
    labels, scores, weights = case
    for name, metric in metrics.METRICS.items():
        if name in ("accuracy", "f1_argmax_macro", "f1_argmax_weighted"):
            continue
        given = metrics.decide(scores, np.full(4, 0.5)) if metric.takes_decisions else scores
        repeated = np.repeat(labels, weights[0], axis=0), np.repeat(given, weights[0], axis=0)
        assert metric(labels, given, weights)[0] == pytest.approx(metric(*repeated)[0], abs=1e-12), name


def test_chance_on_noise_and_best_on_truth():
    rng = np.random.default_rng(0)
    labels = np.eye(5)[rng.integers(5, size=20_000)]
    noise = rng.random(labels.shape)
    chance = {"auroc": 0.5, "auprc": 0.2, "sensitivity_at_95": 0.05}
    for name, metric in metrics.METRICS.items():
        given = metrics.decide(labels, np.full(5, 0.5)) if metric.takes_decisions else labels
        assert metric(labels, given)[0] == (0.0 if name == "ece_macro" else 1.0), name
        for start, expected in chance.items():
            if name.startswith(start):
                assert metric(labels, noise)[0] == pytest.approx(expected, abs=0.02), name
    assert metrics.METRICS["accuracy"](labels, noise)[0] == pytest.approx(0.2, abs=0.02)


def test_row_without_positives_leaves_the_class_out_of_its_average():
    labels, scores = (
        np.array([[1, 1], [0, 0], [1, 0], [0, 0]]),
        np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.1, 0.4]]),
    )
    weights = np.array([[1, 1, 1, 1], [0, 1, 1, 1], [0, 1, 0, 1]])
    per_class = metrics.auroc(labels, scores, weights)
    np.testing.assert_allclose(per_class, [[0.75, 0.0], [0.5, np.nan], [np.nan, np.nan]])
    np.testing.assert_allclose(metrics.METRICS["auroc_macro"](labels, scores, weights), [0.375, 0.5, np.nan])
    np.testing.assert_allclose(metrics.METRICS["auroc_weighted"](labels, scores, weights), [0.5, 0.5, np.nan])


@pytest.mark.parametrize(
    ("labels", "scores", "weights", "message"),
    [
        ([[0], [2]], [[0.1], [0.2]], None, "labels hold 2; expected 0 and 1 only"),
        ([[0], [1]], [[0.1]], None, r"labels \(2, 1\) and scores \(1, 1\) given"),
        ([0, 1], [0.1, 0.2], None, "expected the same non-empty"),
        ([[0], [1], [1]], [[0.1], [np.nan], [np.inf]], None, "in 2 of 3 rows, first in row 1"),
        ([[0], [1]], [[0.1], [0.2]], [[1.0, -1.0]], "negative or non-finite"),
        ([[0], [1]], [[0.1], [0.2]], [[1, 1, 1]], r"expected \[resamples, 2\]"),
    ],
)
def test_bad_input_is_named(labels, scores, weights, message):
    with pytest.raises(ValueError, match=message):
        metrics.auroc(labels, scores, weights)


def test_scores_of_another_kind_are_refused():
    labels, scores = np.array([[1, 0], [1, 1]]), np.array([[0.2, 1.4], [0.1, 0.2]])
    with pytest.raises(ValueError, match="expects probabilities from 0 to 1"):
        metrics.calibration_error(labels, scores)
    with pytest.raises(ValueError, match="expected decisions 0 or 1"):
        metrics.f1(labels, scores)
    with pytest.raises(ValueError, match="1 of 2 records carry no or several labels, first row 1"):
        metrics.accuracy(labels, scores)
    with pytest.raises(ValueError, match="expected one per class"):
        metrics.decide(scores, [0.5])
    with pytest.raises(ValueError, match="expected the same non-empty"):
        regression.mae([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="predictions hold NaN or infinity in 1 of 2 rows"):
        regression.mae([1.0, 2.0], [1.0, np.nan])


def test_decisions_equal_sklearn(case):
    labels, scores, weights = case
    decisions = metrics.decide(scores, [0.5, 0.6, 0.7, 0.4]).astype(int)

    def specificity(y, called, sample_weight):
        return reference.recall_score(1 - y, 1 - called, sample_weight=sample_weight)

    theirs = (reference.recall_score, specificity, reference.precision_score)
    ours = (metrics.sensitivity, metrics.specificity, metrics.positive_predictive_value)
    for own, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(
            own(labels, decisions, weights), expect(other, labels, decisions, weights), atol=1e-12
        )
    nothing = metrics.positive_predictive_value(labels, np.zeros_like(labels))
    assert np.isnan(nothing).all() and (metrics.specificity(labels, np.zeros_like(labels)) == 1).all()
    with pytest.raises(ValueError, match="expected decisions 0 or 1"):
        metrics.sensitivity(labels, scores)
