"""Cluster scores against scikit-learn, also with weights, on chance and truth, and with bad input."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from shared.statistics import clusters
from shared.statistics.clusters import cluster_intervals, cluster_values, difference_clusters


def score_clusters(x, labels, patients, **options):
    return cluster_intervals(*cluster_values(x, labels, patients, **options))


def make_case(num=300, num_classes=4, spread=1.0, seed=0):
    """Embeddings `[n, D]`, one-hot labels `[n, C]` and patients `[n]`."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(num_classes, size=num)
    centres = rng.normal(size=(num_classes, 6))
    return centres[classes] + spread * rng.normal(size=(num, 6)), np.eye(num_classes)[classes], np.arange(num) // 2


@pytest.fixture
def case():
    """Centred embeddings, classes, k-means clusters, and weights `[3, n]` with a class missing in row 2."""
    x, labels, _ = make_case()
    classes = labels.argmax(axis=1)
    found = clusters.assign_kmeans(x, 4)
    weights = np.random.default_rng(1).poisson(1, (3, len(x))).astype(np.uint8)
    weights[2, classes == 1] = 0
    return x - x.mean(axis=0), classes, found, weights


def test_silhouettes_equal_sklearn(case):
    x, classes, found, _ = case
    classes = classes.copy()
    classes[0] = 4  # alone in its cluster
    widths = clusters.silhouette_samples(x, {"a": classes, "b": found})
    np.testing.assert_allclose(widths["a"], reference.silhouette_samples(x, classes), atol=1e-12)
    np.testing.assert_allclose(widths["b"], reference.silhouette_samples(x, found), atol=1e-12)


def test_silhouettes_in_blocks_and_float32(case, monkeypatch):
    x, classes, _, _ = case
    monkeypatch.setattr(clusters, "WORKING_MEMORY_MIB", 0.05)
    widths = clusters.silhouette_samples(x.astype(np.float32), {"a": classes})["a"]
    np.testing.assert_allclose(widths, reference.silhouette_samples(x, classes), atol=1e-5)


def test_scatter_equals_sklearn_on_repeated_records(case):
    x, classes, _, weights = case
    bouldin, harabasz = clusters.scatter_scores(x, classes, weights)
    for r, row in enumerate(weights):
        rows = np.repeat(np.arange(len(x)), row)
        assert bouldin[r] == pytest.approx(reference.davies_bouldin_score(x[rows], classes[rows]), rel=1e-9)
        assert harabasz[r] == pytest.approx(reference.calinski_harabasz_score(x[rows], classes[rows]), rel=1e-9)


def test_agreement_equals_sklearn_on_repeated_records(case):
    _, classes, found, weights = case
    scores = clusters.agreement_scores(classes, found, weights)
    theirs = {
        "nmi": reference.normalized_mutual_info_score,
        "ami": reference.adjusted_mutual_info_score,
        "ari": reference.adjusted_rand_score,
    }
    for r, row in enumerate(weights):
        rows = np.repeat(np.arange(len(row)), row)
        for name, score in theirs.items():
            assert scores[name][r] == pytest.approx(score(classes[rows], found[rows]), abs=1e-9), name


def test_chance_agreement_of_many_records_is_computed_once(case, monkeypatch):
    _, classes, found, weights = case
    exact = clusters.agreement_scores(classes, found, weights[:2])
    monkeypatch.setattr(clusters, "EXACT_CHANCE", 10)
    once = clusters.agreement_scores(classes, found, weights[:2])
    np.testing.assert_allclose(once["ami"], exact["ami"], atol=5e-3)


def test_one_class_left_in_a_resample():
    classes, found = np.array([0, 0, 0, 1]), np.array([0, 0, 0, 1])
    weights = np.array([[1, 1, 2, 0]], dtype=np.uint8)
    assert {name: v[0] for name, v in clusters.agreement_scores(classes, found, weights).items()} == {
        "nmi": 1.0,
        "ami": 1.0,
        "ari": 1.0,
    }
    assert np.isnan(clusters.scatter_scores(np.eye(4), classes, weights)).all()


def test_observed_scores_equal_sklearn():
    x, labels, patients = make_case()
    classes = labels.argmax(axis=1)
    found = clusters.assign_kmeans(x, 4)
    scores = score_clusters(x, labels, patients, num_resamples=100)
    expected = {
        "labels/silhouette": reference.silhouette_score(x, classes),
        "labels/davies_bouldin": reference.davies_bouldin_score(x, classes),
        "labels/calinski_harabasz": reference.calinski_harabasz_score(x, classes),
        "kmeans/silhouette": reference.silhouette_score(x, found),
        "kmeans/davies_bouldin": reference.davies_bouldin_score(x, found),
        "kmeans/calinski_harabasz": reference.calinski_harabasz_score(x, found),
        "kmeans/nmi": reference.normalized_mutual_info_score(classes, found),
        "kmeans/ami": reference.adjusted_mutual_info_score(classes, found),
        "kmeans/ari": reference.adjusted_rand_score(classes, found),
    }
    assert scores.keys() == expected.keys()
    for name, value in expected.items():
        assert scores[name]["value"] == pytest.approx(value, rel=1e-9), name
        assert scores[name]["low"] < value < scores[name]["high"], name
        assert scores[name]["n"] == 300


def test_same_seed_gives_the_same_bits():
    x, labels, patients = make_case()
    first, second = (score_clusters(x, labels, patients, num_resamples=50, seed=4) for _ in range(2))
    assert first == second


def test_only_single_label_records_take_part():
    x, labels, patients = make_case()
    labels[:20, :2] = 1
    labels[20:30] = 0
    used = labels.sum(axis=1) == 1
    found = score_clusters(x, labels, patients, num_resamples=20)
    alone = score_clusters(x[used], labels[used], patients[used], num_resamples=20)
    assert found == alone
    assert found["kmeans/nmi"]["n"] == used.sum() <= 280


def test_subsample_of_the_silhouette_is_stated():
    x, labels, patients = make_case(1000)
    found = score_clusters(x, labels, patients, num_resamples=20, max_points=400)
    assert (found["labels/silhouette"]["n"], found["labels/davies_bouldin"]["n"]) == (400, 1000)
    whole = score_clusters(x, labels, patients, num_resamples=20)
    assert found["labels/silhouette"]["value"] == pytest.approx(whole["labels/silhouette"]["value"], abs=0.05)


def test_chance_on_noise_and_best_on_truth():
    x, labels, patients = make_case(800, spread=1e-4)
    best = score_clusters(x, labels, patients, num_resamples=20)
    for name in ("kmeans/nmi", "kmeans/ami", "kmeans/ari"):
        assert best[name]["value"] == pytest.approx(1)
    assert best["labels/silhouette"]["value"] > 0.99 and best["labels/davies_bouldin"]["value"] < 0.01
    noise = np.random.default_rng(5).normal(size=x.shape)
    chance = score_clusters(noise, labels, patients, num_resamples=200)
    for name in ("kmeans/ami", "kmeans/ari", "labels/silhouette"):
        assert chance[name]["value"] == pytest.approx(0, abs=0.03), name
        assert chance[name]["low"] <= chance[name]["value"] <= chance[name]["high"]


def test_difference_of_two_encoders():
    x, labels, patients = make_case()
    noise = np.random.default_rng(5).normal(size=x.shape)
    (a, counts), (b, _) = (cluster_values(e, labels, patients, num_resamples=100) for e in (x, noise))
    found = difference_clusters(a, b, counts)
    assert found["kmeans/nmi"]["low"] > 0 and found["labels/davies_bouldin"]["high"] < 0
    assert difference_clusters(a, a, counts)["kmeans/ari"]["high"] == 0


def test_bad_input_is_named():
    x, labels, patients = make_case(40)
    one = np.zeros_like(labels)
    one[:, 1] = 1
    with pytest.raises(ValueError, match="1 classes among the 40 of 40 records with exactly one label"):
        score_clusters(x, one, patients)
    with pytest.raises(ValueError, match="0 classes among the 0 of 40 records"):
        score_clusters(x, np.ones_like(labels), patients)
    with pytest.raises(ValueError, match="2 records with exactly one label given for 2 classes"):
        score_clusters(x[:2], np.eye(2), patients[:2])
    with pytest.raises(ValueError, match=r"expected \[n, D\] and \[n, C\]"):
        score_clusters(x[:5], labels, patients)
    with pytest.raises(ValueError, match="all 40 embeddings are equal"):
        score_clusters(np.ones_like(x), labels, patients)
    with pytest.raises(ValueError, match="a silhouette expects at least 2 clusters"):
        score_clusters(x, labels, patients, max_points=3)
    x[4, 0] = np.nan
    with pytest.raises(ValueError, match="embeddings hold NaN or infinity in 1 of 40 rows, first in row 4"):
        score_clusters(x, labels, patients)
