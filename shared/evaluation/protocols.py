"""The evaluation protocols. To add one: a function and a line in `PROTOCOLS`; both methods have it at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from shared.evaluation.attentive import attentive_probe
from shared.evaluation.biometrics import biometrics
from shared.evaluation.clusters import cluster_intervals, cluster_values, difference_clusters
from shared.evaluation.context import RANDOM, Context, Result, Scores, score_predictions
from shared.evaluation.knn import knn_scores
from shared.evaluation.label_fractions import label_fractions
from shared.evaluation.probe import linear_probe
from shared.evaluation.quality import quality
from shared.evaluation.reduced_leads import reduced_leads
from shared.evaluation.regression import regression
from shared.evaluation.robustness import robustness
from shared.evaluation.survival import survival


def knn(context: Context) -> Result:
    """k = 20 Euclidean neighbours, each one vote (the seed project's evaluation)."""
    return _knn(context, "euclidean")


def knn_cosine(context: Context) -> Result:
    """Cosine neighbours, votes weighted by exp(similarity / temperature) (Wu et al. 2018)."""
    return _knn(context, "cosine")


def _knn(context: Context, metric: str) -> Result:
    split, labels, settings = context.split, context.labels, context.config.knn

    def predict(embeddings: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return knn_scores(
            embeddings[split.train],
            labels[split.train],
            embeddings[rows],
            settings.k,
            metric,
            settings.temperature,
            device=context.device,
        )

    predictions = {name: (predict(e, split.val), predict(e, split.test)) for name, e in context.rows.items()}
    return score_predictions(context, predictions)


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


PROTOCOLS: dict[str, Callable[[Context], Result]] = {
    "knn": knn,
    "knn_cosine": knn_cosine,
    "clusters": clusters,
    "linear_probe": linear_probe,
    "attentive_probe": attentive_probe,
    "label_fractions": label_fractions,
    "reduced_leads": reduced_leads,
    "robustness": robustness,
    "regression": regression,
    "biometrics": biometrics,
    "survival": survival,
    "quality": quality,
}
