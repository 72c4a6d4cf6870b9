"""How well embeddings fall into the classes: labels taken as clusters, and k-means compared with labels.

Only records with exactly one label take part; their number is the `n` of every score. Intervals come from resampling
patients while distances and k-means assignments stay fixed: they say how much the scores depend on who was recorded.
Resampled scores of this kind are shifted (repeated records look like agreement), so the intervals are recentred.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import config_context
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances_chunked
from sklearn.metrics.cluster import expected_mutual_information
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from shared.errors import UserError
from shared.statistics.bootstrap import Resamples
from shared.statistics.interval import Interval, bootstrap_interval, paired_difference
from shared.statistics.metrics import Array, check_finite

MAX_POINTS = 100_000
WORKING_MEMORY_MIB = 256
EXACT_CHANCE = 20_000  # up to so many records chance agreement is computed anew for every resample
BOUNDS: dict[str, tuple[float, float]] = {
    "silhouette": (-1.0, 1.0),
    "davies_bouldin": (0.0, np.inf),
    "calinski_harabasz": (0.0, np.inf),
    "nmi": (0.0, 1.0),
    "ami": (-1.0, 1.0),
    "ari": (-1.0, 1.0),
}


def cluster_intervals(values: dict[str, Array], counts: dict[str, int]) -> dict[str, Interval]:
    """Summarise what `cluster_values` gives: name to value, low, high, n."""
    return {
        name: bootstrap_interval(v, counts[name], recentre=True, bounds=BOUNDS[name.rpartition("/")[2]])
        for name, v in values.items()
    }


def difference_clusters(
    values_a: dict[str, Array], values_b: dict[str, Array], counts: dict[str, int]
) -> dict[str, Interval]:
    """Score A − B from the `cluster_values` of two encoders on the same records, labels, patients and seed."""
    return {name: paired_difference(values_a[name], values_b[name], counts[name], recentre=True) for name in values_a}


def cluster_values(
    embeddings: npt.ArrayLike,
    labels: npt.ArrayLike,
    patients: npt.ArrayLike,
    *,
    num_resamples: int = 1000,
    seed: int = 0,
    max_points: int = MAX_POINTS,
) -> tuple[dict[str, Array], dict[str, int]]:
    """Score labels as clusters and k-means against labels on every resample of patients.

    Args:
        embeddings: `[n, D]`, used as they are.
        labels: `[n, C]` in {0, 1}; records with no or several labels are left out.
        patients: `[n]`.
        num_resamples: draws of patients.
        seed: of the draws, of k-means and of the silhouette's subsample.
        max_points: the silhouette is computed on at most so many records (its cost grows with their square).

    Returns:
        `labels/silhouette`, `labels/davies_bouldin`, `labels/calinski_harabasz`, the same three of `kmeans/`, and
        `kmeans/nmi`, `kmeans/ami`, `kmeans/ari`: each to `[1 + num_resamples]`, the observed score first; and each to the
        number of records that were scored.

    Raises:
        UserError: fewer than two classes, NaN, infinite or equal embeddings, too few records.
        ValueError: shapes that disagree.
    """
    x, classes, used = _select(np.asarray(embeddings), np.asarray(labels))
    num_classes = int(classes.max()) + 1
    resamples = Resamples(np.asarray(patients)[used], num_resamples, seed)
    found = assign_kmeans(x, num_classes, seed)
    sample = np.arange(len(x))
    if len(x) > max_points:
        sample = np.sort(np.random.default_rng(seed).choice(len(x), max_points, replace=False))
    widths = silhouette_samples(x[sample], {"labels": classes[sample], "kmeans": found[sample]})

    def score(weights: Array) -> dict[str, Array]:
        result: dict[str, Array] = {}
        picked = weights[:, sample].astype(np.float64)
        for name, clusters in (("labels", classes), ("kmeans", found)):
            total = picked.sum(axis=1)
            result[f"{name}/silhouette"] = np.divide(
                picked @ widths[name], total, out=np.full(len(total), np.nan), where=total > 0
            )
            result[f"{name}/davies_bouldin"], result[f"{name}/calinski_harabasz"] = scatter_scores(x, clusters, weights)
        return result | {f"kmeans/{name}": v for name, v in agreement_scores(classes, found, weights).items()}

    values = resamples.evaluate(score)
    return values, {name: len(sample) if name.endswith("silhouette") else len(x) for name in values}


def _select(x: Array, labels: Array) -> tuple[Array, Array, Array]:
    """Return centred embeddings `[s, D]`, classes int `[s]` (no number unused) and rows of single-label records."""
    if x.ndim != 2 or labels.ndim != 2 or len(x) != len(labels):
        raise ValueError(
            f"embeddings {x.shape} and labels {labels.shape} given; expected [n, D] and [n, C] of the same n"
        )
    check_finite(x, "embeddings")
    used = np.flatnonzero((labels != 0).sum(axis=1) == 1)
    present, classes = np.unique((labels[used] != 0).argmax(axis=1), return_inverse=True)
    if len(present) < 2:
        raise UserError(
            f"{len(present)} classes among the {len(used)} of {len(labels)} records with exactly one label; clusters "
            "need at least two. Choose another task or more records."
        )
    if len(used) <= len(present):
        raise UserError(
            f"{len(used)} records with exactly one label given for {len(present)} classes; clusters need more "
            "records than classes"
        )
    x = x[used].astype(np.result_type(x.dtype, np.float32))  # [s, D], a copy
    x -= x.mean(axis=0, dtype=np.float64).astype(x.dtype)  # no score depends on it; distances keep their digits
    return x, classes, used


def assign_kmeans(x: Array, num_clusters: int, seed: int = 0) -> Array:
    """Return k-means clusters int `[n]`, numbered without gaps, the best of ten starts."""
    if (x == x[0]).all():
        raise UserError(
            f"all {len(x)} embeddings are equal; expected at least two different ones. The encoder has collapsed, or "
            "it was given constant input."
        )
    # One thread: several add their partial sums in any order, and the same seed would not give the same bits.
    with threadpool_limits(limits=1, user_api="openmp"):
        found = KMeans(num_clusters, n_init=10, random_state=seed).fit_predict(x)
    return np.asarray(np.unique(found, return_inverse=True)[1])


def silhouette_samples(x: Array, partitions: dict[str, Array]) -> dict[str, Array]:
    """Give the silhouette width of each record for several partitions, from one pass over the distances.

    Args:
        x: `[n, D]`.
        partitions: name to clusters, int `[n]`, numbered from 0.

    Returns:
        name to float64 `[n]`; 0 for a record that is alone in its cluster. Blocks of 256 MiB, never `[n, n]`.

    Raises:
        UserError: a partition with one cluster, or with as many as records.

    Source: Rousseeuw 1987; equal to `sklearn.metrics.silhouette_samples`.
    """
    members = {}
    for name, clusters in partitions.items():
        members[name] = np.eye(int(clusters.max()) + 1)[clusters]  # [n, K]
        num_clusters = int((members[name].sum(axis=0) > 0).sum())
        if not 2 <= num_clusters < len(x):
            raise UserError(
                f"{num_clusters} clusters of {len(x)} records given ({name}); a silhouette expects at least 2 "
                "clusters and fewer clusters than records. Raise max_points or choose another task."
            )
    edges = np.cumsum([0, *(m.shape[1] for m in members.values())])
    stacked = np.concatenate(list(members.values()), axis=1)  # [n, sum of K]

    def sum_by_cluster(block: Array, start: int) -> Array:
        return np.asarray(block @ stacked.astype(block.dtype))

    with config_context(working_memory=WORKING_MEMORY_MIB):
        sums = np.concatenate(list(pairwise_distances_chunked(x, reduce_func=sum_by_cluster))).astype(np.float64)
    return {
        name: _silhouette_from_sums(sums[:, edges[i] : edges[i + 1]], members[name] > 0)
        for i, name in enumerate(members)
    }


def _silhouette_from_sums(sums: Array, member: Array) -> Array:
    """Turn summed distances to each cluster `[n, K]` into silhouette widths `[n]`; `member` is bool `[n, K]`."""
    sizes = member.sum(axis=0)
    own_size = (member * sizes).sum(axis=1)
    inner = np.where(member, sums, 0.0).sum(axis=1) / np.maximum(own_size - 1, 1)
    others = np.divide(sums, sizes, out=np.full(sums.shape, np.inf), where=~member & (sizes > 0))
    outer = others.min(axis=1)
    largest = np.maximum(inner, outer)
    widths = np.divide(outer - inner, largest, out=np.zeros(len(sums)), where=largest > 0)
    return np.where(own_size > 1, widths, 0.0)


def scatter_scores(x: Array, clusters: Array, weights: Array) -> tuple[Array, Array]:
    """Davies–Bouldin and Calinski–Harabasz scores for every row of weights.

    Args:
        x: `[n, D]`, centred.
        clusters: int `[n]`, numbered from 0.
        weights: `[R, n]`; a cluster without weight in a row takes no part there.

    Returns:
        Two float64 `[R]`: lower is better, higher is better. NaN where fewer than two clusters are left.

    Source: Davies and Bouldin 1979; Caliński and Harabasz 1974; equal to scikit-learn's where all weights are 1.
    """
    num_clusters, num_rows = int(clusters.max()) + 1, len(weights)
    sizes = np.zeros((num_rows, num_clusters))
    centroids = np.zeros((num_rows, num_clusters, x.shape[1]))
    spread = np.zeros((num_rows, num_clusters))  # mean distance to the centroid
    within = np.zeros(num_rows)  # summed squared distance to the centroids
    for k in range(num_clusters):
        points, shares = (
            a.astype(np.float64) for a in (x[clusters == k], weights[:, clusters == k])
        )  # [n_k, D], [R, n_k]
        sizes[:, k] = shares.sum(axis=1)
        shares /= np.where(sizes[:, k] > 0, sizes[:, k], 1)[:, None]
        centroids[:, k] = shares @ points
        squares = (points**2).sum(axis=1) - 2 * centroids[:, k] @ points.T  # [R, n_k]
        squares += (centroids[:, k] ** 2).sum(axis=1, keepdims=True)
        np.maximum(squares, 0, out=squares)
        within += sizes[:, k] * np.einsum("rn,rn->r", shares, squares)
        spread[:, k] = np.einsum("rn,rn->r", shares, np.sqrt(squares))
    present, total = sizes > 0, sizes.sum(axis=1)
    num_present = present.sum(axis=1)
    centre = (sizes[:, :, None] * centroids).sum(axis=1) / np.maximum(total, 1e-300)[:, None]
    between = (sizes * ((centroids - centre[:, None]) ** 2).sum(axis=2)).sum(axis=1)
    enough = (num_present >= 2) & (total > num_present)
    freedom = np.divide(total - num_present, num_present - 1, out=np.full(num_rows, np.nan), where=enough)
    harabasz = np.divide(between, within, out=np.full(num_rows, np.nan), where=within > 0) * freedom
    harabasz = np.where(enough & (within == 0), 1.0, harabasz)  # scikit-learn's convention
    return np.where(num_present >= 2, _davies_bouldin(centroids, spread, present), np.nan), harabasz


def _davies_bouldin(centroids: Array, spread: Array, present: Array) -> Array:
    """Mean over clusters of the worst (spread + spread) / distance; `[R, K, D]`, `[R, K]`, bool `[R, K]` to `[R]`."""
    num_clusters = spread.shape[1]
    worst = np.zeros(spread.shape)
    for j in range(num_clusters):
        for k in range(j + 1, num_clusters):
            distance = np.sqrt(((centroids[:, j] - centroids[:, k]) ** 2).sum(axis=1))
            both = present[:, j] & present[:, k] & (distance > 0)
            ratio = np.divide(spread[:, j] + spread[:, k], distance, out=np.zeros(len(distance)), where=both)
            worst[:, j], worst[:, k] = np.maximum(worst[:, j], ratio), np.maximum(worst[:, k], ratio)
    return np.asarray(worst.sum(axis=1) / np.maximum(present.sum(axis=1), 1))


def agreement_scores(classes: Array, clusters: Array, weights: Array) -> dict[str, Array]:
    """Agreement of two partitions for every row of weights.

    Args:
        classes: int `[n]`, numbered from 0.
        clusters: int `[n]`, numbered from 0.
        weights: `[R, n]`, whole numbers.

    Returns:
        `nmi`, `ami` (both normalised by the mean entropy) and `ari`, float64 `[R]`.

    Source: Vinh, Epps and Bailey 2010; Hubert and Arabie 1985; equal to scikit-learn's where all weights are 1.
    """
    rows, columns = int(classes.max()) + 1, int(clusters.max()) + 1
    cells = np.eye(rows * columns)[classes * columns + clusters]  # [n, rows * columns]
    tables = np.rint(weights.astype(np.float64) @ cells).reshape(-1, rows, columns)
    of_class, of_cluster, total = tables.sum(axis=2), tables.sum(axis=1), tables.sum(axis=(1, 2))
    entropy_class, entropy_cluster = _entropy(of_class, total), _entropy(of_cluster, total)
    mutual = np.maximum(entropy_class + entropy_cluster - _entropy(tables.reshape(len(tables), -1), total), 0)
    mean = (entropy_class + entropy_cluster) / 2
    if len(classes) > EXACT_CHANCE:  # the margins of resamples hardly differ, and the term is nearly 0
        expected = np.full(len(tables), _expected(cells.sum(axis=0).reshape(rows, columns)))
    else:
        expected = np.array([_expected(table) for table in tables])
    single = mean < 1e-12  # one class and one cluster agree perfectly
    nmi = np.divide(mutual, mean, out=np.ones(len(mean)), where=~single)
    room = mean - expected
    room = np.where(np.abs(room) < np.finfo(np.float64).eps, np.finfo(np.float64).eps, room)
    return {"nmi": nmi, "ami": np.where(single, 1.0, (mutual - expected) / room), "ari": _rand(tables, total)}


def _entropy(counts: Array, total: Array) -> Array:
    """Entropy in nats of `counts [R, K]` that sum to `total [R]`."""
    logs = np.log(counts, out=np.zeros(counts.shape), where=counts > 0)
    return np.asarray(np.log(total) - (counts * logs).sum(axis=1) / total)


def _expected(table: Array) -> float:
    """Mutual information expected by chance, given the margins of one contingency table."""
    full: Any = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0].astype(np.int64)
    return float(expected_mutual_information(full, int(full.sum())))


def _rand(tables: Array, total: Array) -> Array:
    """Adjusted Rand index `[R]` of contingency tables `[R, rows, columns]`."""

    def pairs(counts: Array) -> Array:
        return np.asarray(counts * (counts - 1) / 2)

    together = pairs(tables).sum(axis=(1, 2))
    of_class, of_cluster = pairs(tables.sum(axis=2)).sum(axis=1), pairs(tables.sum(axis=1)).sum(axis=1)
    expected = of_class * of_cluster / np.maximum(pairs(total), 1)
    room = (of_class + of_cluster) / 2 - expected
    return np.asarray(np.divide(together - expected, room, out=np.ones(len(tables)), where=np.abs(room) > 1e-12))
