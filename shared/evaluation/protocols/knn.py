"""k nearest neighbours of the training records, Euclidean as the seed project and cosine."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from shared.config import Section
from shared.evaluation.context import Context, Protocol, Result
from shared.evaluation.scoring import CLASSIFICATION, CLASSIFICATION_HEADLINES, CLASSIFICATION_MAIN, score_predictions
from shared.statistics.knn import knn_scores


class KNNSettings(Section):
    """k nearest neighbours."""

    k: int = Field(20, ge=1)
    temperature: float = Field(0.07, gt=0, description="of the cosine votes")


def knn(context: Context) -> Result:
    """k = 20 Euclidean neighbours, each one vote (the seed project's evaluation)."""
    return _knn(context, "euclidean")


def knn_cosine(context: Context) -> Result:
    """Cosine neighbours, votes weighted by exp(similarity / temperature) (Wu et al. 2018)."""
    return _knn(context, "cosine")


def _knn(context: Context, metric: str) -> Result:
    split, labels, settings = context.split, context.labels, context.config.settings(KNNSettings)

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


KNN = Protocol(knn, KNNSettings, "knn", CLASSIFICATION, CLASSIFICATION_MAIN, CLASSIFICATION_HEADLINES, validates=True)
KNN_COSINE = Protocol(
    knn_cosine, KNNSettings, "knn", CLASSIFICATION, CLASSIFICATION_MAIN, CLASSIFICATION_HEADLINES, validates=True
)
