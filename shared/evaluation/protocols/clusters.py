"""How the labels lie as clusters, and how k-means agrees with them."""

from __future__ import annotations

from shared.errors import UserError
from shared.evaluation.context import Context, Protocol, Result
from shared.evaluation.scoring import score_rows
from shared.statistics.metrics import Array


def clusters(context: Context) -> Result:
    """Labels as clusters (as the seed did) and k-means against labels, on the test records with exactly one label."""
    from shared.statistics.clusters import cluster_intervals, cluster_values, difference_clusters

    config = context.config

    def score(row: str, positions: Array) -> tuple[dict[str, Array], dict[str, int]]:
        labels, patients = context.labels[positions], context.patients[positions]
        return cluster_values(
            context.rows[row][positions], labels, patients, num_resamples=config.resamples, seed=config.seed
        )

    values, counts = {}, {}
    for row in context.rows:
        values[row], counts[row] = score(row, context.split.test)
    result = score_rows(
        context,
        values,
        lambda row: cluster_intervals(values[row], counts[row]),
        lambda row, baseline: difference_clusters(values[row], values[baseline], counts[row]),
    )
    labels = context.labels[context.split.test]
    single = int((labels.sum(axis=1) == 1).sum())
    result.notes = [f"{single} of {len(labels)} test records have exactly one label and take part"]
    try:
        result.validation = {row: cluster_intervals(*score(row, context.split.val)) for row in context.rows}
    except UserError as error:
        result.notes.append(f"clusters: no scores on the validation records: {error}")
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
    validates=True,
)
