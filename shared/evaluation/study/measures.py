"""What a study tests: the scores of a row with each seed, on the same draws of test patients, from what evaluations stored.

Nothing is embedded or fitted again. Metrics of predictions are scored from `predictions.parquet`; metrics of clusters from
`embeddings.parquet` and, for the other rows of an evaluation, from its cache of embeddings.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from shared.errors import UserError
from shared.evaluation.presets import FINETUNE
from shared.evaluation.protocols import PROTOCOLS
from shared.evaluation.report.tables import direction
from shared.evaluation.scoring import CLASSIFICATION
from shared.statistics.bootstrap import Resamples, is_recentred, resample_all
from shared.statistics.metrics import METRICS, Array

CLUSTERS = "clusters"
OF_PREDICTIONS = tuple(m for m, metric in METRICS.items() if not metric.takes_decisions)
SHOWN_OF_PREDICTIONS = ("auroc_macro", "auprc_macro")
SHOWN_OF_CLUSTERS = ("labels/silhouette", "labels/davies_bouldin", "labels/calinski_harabasz", "kmeans/nmi")
"""What the tables show without being asked; what a hypothesis names is added."""
KEYS = ["source", "record", "segment", "patient"]


def predicts(protocol: str) -> bool:
    """Whether a protocol stores predictions of the test records."""
    return protocol == FINETUNE or (protocol in PROTOCOLS and dict(PROTOCOLS[protocol].titles) == CLASSIFICATION)


def measures_of(protocol: str) -> list[str]:
    """`PROTOCOL/METRIC` of all that a study can test of a protocol; none of one that stores scores alone."""
    names = OF_PREDICTIONS if predicts(protocol) else tuple(PROTOCOLS[CLUSTERS].titles) if protocol == CLUSTERS else ()
    return [f"{protocol}/{name}" for name in names]


def shown_measures(protocols: Sequence[str], asked: Sequence[str]) -> list[str]:
    """`PROTOCOL/METRIC` of the tables: of each protocol the usual ones, then what hypotheses name."""
    found: list[str] = []
    for protocol in protocols:
        usual = SHOWN_OF_PREDICTIONS if predicts(protocol) else SHOWN_OF_CLUSTERS if protocol == CLUSTERS else ()
        found += [f"{protocol}/{metric}" for metric in usual]
        found += [m for m in dict.fromkeys(asked) if m.startswith(f"{protocol}/") and m not in found]
    return found


def higher_is_better(measure: str) -> bool:
    """As its title says."""
    return direction(measure.partition("/")[2]) >= 0


def recentres(measure: str) -> bool:
    """Whether resampling itself shifts the score, so that its interval is moved onto it."""
    protocol, _, metric = measure.partition("/")
    return protocol == CLUSTERS or is_recentred(metric)


@dataclass(frozen=True)
class Scored:
    """One finished evaluation of a job.

    Attributes:
        folder: of its report.
    """

    folder: Path

    @cached_property
    def summary(self) -> dict[str, object]:
        """Its `summary.json`."""
        found: dict[str, object] = json.loads((self.folder / "summary.json").read_text())
        return found

    @property
    def name(self) -> str:
        """How it calls its own row."""
        return str(self.summary["name"])

    @property
    def classes(self) -> list[str]:
        """Of its task."""
        classes = self.summary["classes"]
        assert isinstance(classes, list)
        return classes

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """Its test records with labels and predictions."""
        return pd.read_parquet(self.folder / "predictions.parquet")

    @cached_property
    def records(self) -> pd.DataFrame:
        """All its records with splits, labels and the embeddings of its own row."""
        return pd.read_parquet(self.folder / "embeddings.parquet")

    @property
    def rows(self) -> list[str]:
        """The rows it predicts for, its own first; none where no protocol predicts."""
        found = [c.split("|")[1] for c in self.predictions.columns if c.count("|") >= 2]
        return sorted(dict.fromkeys(found), key=lambda row: row != self.name)

    @property
    def test(self) -> pd.DataFrame:
        """Who the test records are, and their labels; what two evaluations must have in common."""
        return self.predictions[[*KEYS, *(f"label_{c}" for c in self.classes)]]

    def scores_of(self, protocol: str, row: str) -> Array | None:
        """Test predictions `[n, C]` of a row."""
        columns = [f"{protocol}|{row}|{c}" for c in self.classes]
        return self.predictions[columns].to_numpy() if set(columns) <= set(self.predictions.columns) else None

    def embeddings_of(self, row: str) -> Array | None:
        """Test embeddings `[n, D]` of a row; None where they are not stored, or not certainly this row's."""
        if not (self.folder / "embeddings.parquet").is_file():  # fine-tuning stores none
            return None
        test = (self.records.split == "test").to_numpy()
        if row == self.name:
            columns = [c for c in self.records.columns if re.fullmatch(r"e\d{4,}", c)]
            return self.records.loc[test, columns].to_numpy()
        files = [*(self.folder / "cache").glob(f"{row.replace(' ', '-')}-{'[0-9a-f]' * 24}.npy")]
        if len(files) != 1:
            return None
        found = np.load(files[0], allow_pickle=False)
        return found[test] if len(found) == len(test) else None


def values_of(
    scored: Scored, row: str, measures: Sequence[str], draws: int, seed: int, min_positives: int
) -> dict[str, Array]:
    """`PROTOCOL/METRIC` to `[1 + draws]`, the observed score first; what the evaluation does not hold of a row is left out."""
    test = scored.test
    labels = test[[f"label_{c}" for c in scored.classes]].to_numpy(bool)
    resamples = Resamples(test.patient.to_numpy(), draws, seed)
    found: dict[str, Array] = {}
    for protocol in dict.fromkeys(measure.partition("/")[0] for measure in measures):
        wanted = [m.partition("/")[2] for m in measures if m.partition("/")[0] == protocol]
        if protocol == CLUSTERS:
            values = _cluster_values(scored, row, labels, draws, seed)
        else:
            scores = scored.scores_of(protocol, row)
            values = (
                {} if scores is None else resample_all(labels, scores, resamples, scored.classes, wanted, min_positives)
            )
        found |= {f"{protocol}/{metric}": values[metric] for metric in wanted if metric in values}
    return found


def fingerprint(scored: Scored, row: str, measures: Sequence[str]) -> str:
    """A digest of what `values_of` reads of a row: rows of one digest have the same values, and need them once."""
    digest = hashlib.blake2b(digest_size=16)
    for protocol in dict.fromkeys(measure.partition("/")[0] for measure in measures):
        found = scored.embeddings_of(row) if protocol == CLUSTERS else scored.scores_of(protocol, row)
        digest.update(protocol.encode())
        if found is not None:
            digest.update(f"{found.shape} {found.dtype}".encode() + np.ascontiguousarray(found).tobytes())
    return digest.hexdigest()


def _cluster_values(scored: Scored, row: str, labels: Array, draws: int, seed: int) -> dict[str, Array]:
    from shared.statistics.clusters import cluster_values

    embeddings = scored.embeddings_of(row)
    if embeddings is None:
        return {}
    patients = scored.test.patient.to_numpy()
    try:
        return cluster_values(embeddings, labels, patients, num_resamples=draws, seed=seed)[0]
    except UserError:  # the evaluation's own page says why these records make no clusters
        return {}
