"""k nearest neighbours of the training records, Euclidean as the seed project and cosine."""

from __future__ import annotations

import numpy as np

from shared.evaluation.context import Context, Result, score_predictions
from shared.statistics.knn import knn_scores


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
