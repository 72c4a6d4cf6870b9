"""The evaluation protocols. To add one: its file and a line in `PROTOCOLS`; both methods have it at once."""

from __future__ import annotations

from collections.abc import Callable

from shared.evaluation.context import Context, Result
from shared.evaluation.protocols.attentive_probe import attentive_probe
from shared.evaluation.protocols.biometrics import biometrics
from shared.evaluation.protocols.clusters import clusters
from shared.evaluation.protocols.knn import knn, knn_cosine
from shared.evaluation.protocols.label_fractions import label_fractions
from shared.evaluation.protocols.linear_probe import linear_probe
from shared.evaluation.protocols.quality import quality
from shared.evaluation.protocols.reduced_leads import reduced_leads
from shared.evaluation.protocols.regression import regression
from shared.evaluation.protocols.robustness import robustness
from shared.evaluation.protocols.survival import survival

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
