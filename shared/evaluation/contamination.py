"""Does the test split share patients, or whole records, with the pretraining store, or records with its own training split?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shared.data.splits import Split
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
    if isinstance(trained_on["store"], list | tuple):
        return [
            f"{one['path']}: {finding}"
            for one in trained_on["store"]
            for finding in check_contamination({**trained_on, "store": one["path"]}, store, test)
        ]
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


def check_copies(store: ECGStore, indices: np.ndarray, split: Split) -> list[str]:
    """Test records that are sample by sample a training or validation record under another name; patients never are in both.

    Args:
        store, indices: the records.
        split: positions among the indices.

    Returns:
        A sentence per finding; none where there is no copy. Copies that are cut, shifted or scaled are not seen.
    """
    records = store.records.iloc[indices]
    tested, findings = records.iloc[split.test], []
    for name, positions in (("training", split.train), ("validation", split.val)):
        used = records.iloc[positions].drop_duplicates("digest").set_index("digest").record
        copies = tested[tested.digest.isin(used.index)]
        if len(copies):
            pairs = ", ".join(
                f"{record} = {used[d]}" for record, d in zip(copies.record[:3], copies.digest[:3], strict=True)
            )
            findings.append(f"LEAK: {len(copies)} test records are sample-identical to a {name} record (e.g. {pairs})")
    return findings
