"""How the labels lie as clusters, and how k-means agrees with them."""

from __future__ import annotations

from shared.evaluation.context import Context, Protocol, Result
from shared.evaluation.scoring import score_rows


def clusters(context: Context) -> Result:
    """Labels as clusters (as the seed did) and k-means against labels, on the test records with exactly one label."""
    from shared.statistics.clusters import cluster_intervals, cluster_values, difference_clusters

    test, config = context.split.test, context.config
    labels, patients = context.labels[test], context.patients[test]
    values, counts = {}, {}
    for row, embeddings in context.rows.items():
        values[row], counts[row] = cluster_values(
            embeddings[test], labels, patients, num_resamples=config.resamples, seed=config.seed
        )
    result = score_rows(
        context,
        values,
        lambda row: cluster_intervals(values[row], counts[row]),
        lambda row, baseline: difference_clusters(values[row], values[baseline], counts[row]),
    )
    single = int((labels.sum(axis=1) == 1).sum())
    result.notes = [f"{single} of {len(test)} test records have exactly one label and take part"]
    return result


TITLES = {
    "labels/silhouette": "silhouette of the labels ↑",
    "labels/davies_bouldin": "Davies–Bouldin of the labels ↓",
    "labels/calinski_harabasz": "Calinski–Harabasz of the labels ↑",
    "kmeans/silhouette": "silhouette of k-means ↑",
    "kmeans/davies_bouldin": "Davies–Bouldin of k-means ↓",
    "kmeans/calinski_harabasz": "Calinski–Harabasz of k-means ↑",
    "kmeans/nmi": "NMI, k-means against labels",
    "kmeans/ami": "AMI, k-means against labels",
    "kmeans/ari": "ARI, k-means against labels",
}
CLUSTERS = Protocol(
    clusters,
    titles=TITLES,
    main=tuple(m for m in TITLES if m not in ("kmeans/davies_bouldin", "kmeans/calinski_harabasz")),
    headlines=("labels/silhouette", "labels/davies_bouldin", "labels/calinski_harabasz", "kmeans/nmi"),
)
