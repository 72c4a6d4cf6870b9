"""The evaluation protocols. To add one: its file and a line in `PROTOCOLS`; the config and both methods have it at once."""

from __future__ import annotations

from shared.evaluation.context import Protocol
from shared.evaluation.protocols import (
    attentive_probe,
    biometrics,
    clusters,
    knn,
    label_fractions,
    linear_probe,
    quality,
    reduced_leads,
    regression,
    robustness,
    survival,
)

PROTOCOLS: dict[str, Protocol] = {
    "knn": knn.KNN,
    "knn_cosine": knn.KNN_COSINE,
    "clusters": clusters.CLUSTERS,
    "linear_probe": linear_probe.LINEAR_PROBE,
    "attentive_probe": attentive_probe.ATTENTIVE_PROBE,
    "label_fractions": label_fractions.LABEL_FRACTIONS,
    "reduced_leads": reduced_leads.REDUCED_LEADS,
    "robustness": robustness.ROBUSTNESS,
    "regression": regression.REGRESSION,
    "biometrics": biometrics.BIOMETRICS,
    "survival": survival.SURVIVAL,
    "quality": quality.QUALITY,
}
