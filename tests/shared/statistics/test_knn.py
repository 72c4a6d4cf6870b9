"""k nearest neighbours against a naive loop, in small blocks, with exclusions and bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from shared.statistics.knn import knn_scores, nearest_neighbours

SMALL = 2**14  # bytes: forces many blocks


def make_case(num_train=300, num_query=40, dim=8, seed=0):
    """Train `[n, D]`, multi-hot labels `[n, 3]`, query `[m, D]`."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((num_train, 3)) < 0.4).astype(np.uint8)
    return rng.normal(size=(num_train, dim)), labels, rng.normal(size=(num_query, dim))


def vote_naively(train, labels, query, k, metric, temperature=0.07):
    """Score one query at a time in float64."""
    scores = np.zeros((len(query), labels.shape[1]))
    for i, q in enumerate(query):
        if metric == "euclidean":
            near = ((train - q) ** 2).sum(axis=1)
        else:
            near = -(train @ q) / np.linalg.norm(train, axis=1) / np.linalg.norm(q)
        order = np.argsort(near, kind="stable")[:k]
        votes = np.ones(k) if metric == "euclidean" else np.exp(-near[order] / temperature)
        scores[i] = (votes[:, None] * labels[order]).sum(axis=0) / votes.sum()
    return scores


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("max_bytes", [SMALL, 2**29])
@pytest.mark.parametrize("k", [1, 20, 300])
def test_equals_naive_loop(metric, max_bytes, k):
    train, labels, query = make_case()
    found = knn_scores(train, labels, query, k, metric, max_bytes=max_bytes)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, vote_naively(train, labels, query, k, metric), atol=1e-5)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_a_record_is_not_its_own_neighbour_where_that_is_asked(metric):
    train, _, _ = make_case()
    apart, found = nearest_neighbours(train, train, 5, metric, exclude_self=True, max_bytes=SMALL)
    with_self, _ = nearest_neighbours(train, train, 6, metric, max_bytes=SMALL)
    assert not (found == torch.arange(len(train))[:, None]).any()
    torch.testing.assert_close(apart, with_self[:, 1:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("max_bytes", [SMALL, 2**29])
def test_of_equally_near_records_the_first_are_taken(max_bytes):
    train = np.tile(np.array([[1.0, 0.0], [0.0, 1.0]]), (200, 1))
    _, neighbours = nearest_neighbours(train, np.array([[1.0, 0.1]]), 7, max_bytes=max_bytes)
    assert neighbours.tolist() == [[0, 2, 4, 6, 8, 10, 12]]


def test_neighbours_survive_a_large_common_offset():
    train, labels, query = make_case()
    near = knn_scores(train, labels, query)
    np.testing.assert_array_equal(knn_scores(train * 1e-3 + 100, labels, query * 1e-3 + 100), near)


def test_arrays_tensors_and_memory_maps_agree(tmp_path):
    train, labels, query = (x.astype(np.float32) for x in make_case())
    np.save(tmp_path / "train.npy", train)
    mapped = np.load(tmp_path / "train.npy", mmap_mode="r")
    expected = knn_scores(train, labels, query)
    np.testing.assert_array_equal(knn_scores(mapped, labels, query), expected)
    tensors = (torch.from_numpy(train).requires_grad_(), torch.from_numpy(labels), torch.from_numpy(query))
    np.testing.assert_array_equal(knn_scores(*tensors), expected)


def test_precision_setting_is_restored():
    train, labels, query = make_case()
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        knn_scores(train, labels, query)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_chance_on_noise_and_best_on_truth(metric):
    rng = np.random.default_rng(0)
    classes = rng.integers(4, size=3000)
    labels = np.eye(4)[classes]
    noise = rng.normal(size=(3000, 16))
    told = noise * 0.01 + np.pad(labels, ((0, 0), (0, 12)))
    truth = labels[2000:]
    assert roc_auc_score(truth, knn_scores(noise[:2000], labels[:2000], noise[2000:], metric=metric)) == pytest.approx(
        0.5, abs=0.03
    )
    assert roc_auc_score(truth, knn_scores(told[:2000], labels[:2000], told[2000:], metric=metric)) == 1.0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_gpu_equals_cpu(metric):
    train, labels, query = make_case(5000, 500, 64)
    np.testing.assert_allclose(
        knn_scores(train, labels, query, metric=metric, device="cuda"),
        knn_scores(train, labels, query, metric=metric),
        atol=1e-4,
    )


def test_too_few_records_are_named():
    train, labels, query = make_case(10)
    with pytest.raises(ValueError, match="k=20 neighbours asked of 10 train records"):
        knn_scores(train, labels, query)
    with pytest.raises(ValueError, match="k=10 neighbours asked of 9 train records"):
        nearest_neighbours(train, train, 10, exclude_self=True)
    with pytest.raises(ValueError, match="10 train and 40 query records given with exclude_self"):
        nearest_neighbours(train, query, 5, exclude_self=True)


def test_bad_embeddings_are_named():
    train, labels, query = make_case()
    train[[7, 30], 2] = np.nan, np.inf
    with pytest.raises(ValueError, match="train embeddings hold NaN or infinity in 2 of 300 rows, first in row 7"):
        knn_scores(train, labels, query, max_bytes=SMALL)
    train, labels, query = make_case()
    query[3] = np.nan
    with pytest.raises(ValueError, match="query embeddings hold NaN or infinity in 1 of 40 rows, first in row 3"):
        knn_scores(train, labels, query)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "manhattan"}, "unknown metric 'manhattan'; expected one of euclidean, cosine"),
        ({"query": np.zeros((3, 5))}, "with the same D"),
        ({"query": np.zeros((0, 8))}, "expected non-empty"),
        ({"train_labels": np.zeros(300)}, r"train labels \(300,\) given for 300 train records"),
        ({"train_labels": np.full((300, 2), 3)}, "values other than 0 and 1"),
        ({"temperature": 0.0}, "temperature 0.0 given"),
    ],
)
def test_bad_arguments_are_named(change, message):
    train, labels, query = make_case()
    with pytest.raises(ValueError, match=message):
        knn_scores(**({"train": train, "train_labels": labels, "query": query} | change))
