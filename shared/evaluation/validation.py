"""The validation records of an evaluation: what a choice between runs may look at, and whether two runs had the same."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pandas as pd

from shared.data.splits import Labelled
from shared.statistics.interval import Scores

VALIDATION_FILE = "metrics_val.json"
"""Of a report folder: `metrics.json` of the validation records, without differences."""


def mark_optimistic(scores: Scores, chosen: str) -> None:
    """Say beside each validation score what was chosen on the same records, after what is said already."""
    for score in scores.values():
        score["optimistic"] = f"{score['optimistic']} and {chosen}" if "optimistic" in score else chosen


def describe_validation(data: Labelled) -> dict[str, Any]:
    """How many validation records and patients there are, and a digest of the records and their labels."""
    val = data.split.val
    patients = int(data.store.records.patient.iloc[data.indices[val]].nunique())
    return {"records": len(val), "patients": patients, "digest": digest_records(data, val)}


def digest_records(data: Labelled, positions: np.ndarray, more: bytes = b"") -> str:
    """A digest of some of the records and their labels, by which two evaluations tell whether they had the same; and of `more`."""
    records = data.store.records.iloc[data.indices[positions]][["source", "record", "segment", "patient"]]
    rows = pd.util.hash_pandas_object(records, index=False).to_numpy(np.uint64)
    labels = np.packbits(data.labels[positions] != 0)
    return hashlib.sha256(rows.tobytes() + labels.tobytes() + more).hexdigest()[:16]
