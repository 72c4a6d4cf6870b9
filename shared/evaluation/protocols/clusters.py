"""How the labels lie as clusters, and how k-means agrees with them."""

from __future__ import annotations

from shared.evaluation.context import RANDOM, Context, Result
from shared.statistics.clusters import cluster_intervals, cluster_values, difference_clusters
from shared.statistics.interval import Scores


def clusters(context: Context) -> Result:
    """Labels as clusters (as the seed did) and k-means against labels, on the test records with exactly one label."""
    test = context.split.test
    values = {
        name: cluster_values(
            e[test],
            context.labels[test],
            context.patients[test],
            num_resamples=context.config.resamples,
            seed=context.config.seed,
        )
        for name, e in context.rows.items()
    }
    scores: dict[str, Scores] = {
        row: cluster_intervals(row_values, counts) for row, (row_values, counts) in values.items()
    }
    differences = {
        row: difference_clusters(row_values, values[RANDOM][0], counts)
        for row, (row_values, counts) in values.items()
        if row != RANDOM and RANDOM in values
    }
    single = int((context.labels[test].sum(axis=1) == 1).sum())
    return Result(
        scores, differences, notes=[f"{single} of {len(test)} test records have exactly one label and take part"]
    )
