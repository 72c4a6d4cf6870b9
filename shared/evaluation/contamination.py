"""Does the pretraining store share patients, or whole records, with the test split?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shared.data.store import ECGStore, StoreError


def check_contamination(trained_on: Mapping[str, Any] | None, store: ECGStore, test: np.ndarray) -> list[str]:
    """What a reader must know about overlaps between pretraining and test.

    Args:
        trained_on: the `data` section of the pretraining config (`store`, `folds`); None where it is not known.
        store: the evaluation's store.
        test: its test records.

    Returns:
        One sentence per finding; the first says what was compared.
    """
    if trained_on is None:
        return ["pretraining data are not known: overlap with the test split could not be checked"]
    path = Path(str(trained_on["store"]))
    try:
        other = store if path == store.path else ECGStore(path)
        used = other.records.iloc[other.select(trained_on.get("folds"))]
    except StoreError as error:
        return [f"overlap of pretraining and test could not be checked: {error}"]
    tested = store.records.iloc[test]
    people = set(zip(tested.source, tested.patient, strict=True)) & set(zip(used.source, used.patient, strict=True))
    copies = int(tested.digest.isin(set(used.digest)).sum())
    findings = [f"{len(used)} pretraining and {len(tested)} test records compared by patient and by samples"]
    if people:
        findings.append(
            f"LEAK: {len(people)} test patients were in pretraining (e.g. {', '.join(p for _, p in sorted(people)[:3])})"
        )
    if copies:
        findings.append(f"LEAK: {copies} test records are sample-identical to a pretraining record")
    if not people and not copies:
        findings.append("no test patient and no test record was in pretraining")
    return findings
