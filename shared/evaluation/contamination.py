"""Does the test split share patients or recordings with the pretraining store, or with its own training and validation?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shared.data.copies import MIN_COMMON, Copies, find_copies
from shared.data.splits import Split
from shared.data.store import ECGStore, StoreError
from shared.errors import UserError
from shared.evaluation.context import Context

FOLDER = "wfdb_folder"
"""The source of records whose database is not known: what two of its stores call alike may be two databases'."""


def check_contamination(
    trained_on: Mapping[str, Any] | None, store: ECGStore, test: np.ndarray, near: bool = True
) -> list[str]:
    """What a reader must know about overlaps between pretraining and test.

    Args:
        trained_on: the `data` section of the pretraining config (`store`, `folds`); None where it is not known.
        store: the evaluation's store.
        test: its test records.
        near: whether to look for disturbed copies too, not only for identical samples.

    Returns:
        One sentence per finding; the first says what was compared.
    """
    if trained_on is None:
        return ["pretraining data are not known: overlap with the test split could not be checked"]
    if isinstance(trained_on["store"], list | tuple):
        return [
            f"{one['path']}: {finding}"
            for one in trained_on["store"]
            for finding in check_contamination({**trained_on, "store": one["path"]}, store, test, near)
        ]
    path = Path(str(trained_on["store"]))
    try:
        other = store if path == store.path else ECGStore(path)
        rows = other.select(trained_on.get("folds"))
    except StoreError as error:
        return [f"overlap of pretraining and test could not be checked: {error}"]
    used, tested = other.records.iloc[rows], store.records.iloc[test]
    findings = [
        f"{len(used)} pretraining and {len(tested)} test records compared by patient, by name of the record and by samples"
    ]
    people = set(zip(tested.source, tested.patient, strict=True)) & set(zip(used.source, used.patient, strict=True))
    if people:
        findings.append(f"LEAK: {len(people)} test patients were in pretraining (e.g. {_some(p for _, p in people)})")
    findings += _same_names(tested, used, _one_folder(store, other))
    identical = tested.digest.isin(set(used.digest)).to_numpy()
    if identical.any():
        findings.append(f"LEAK: {identical.sum()} test records are sample-identical to a pretraining record")
    seen = _near_copies(store, test, other, rows, identical, "pretraining") if near else [_not_looked_for()]
    if not any(line.startswith("LEAK") for line in [*findings, *seen]):
        findings.append("no test patient and no test record was found in pretraining")
    return findings + seen


def check_copies(store: ECGStore, indices: np.ndarray, split: Split, near: bool = True) -> list[str]:
    """Test records that are a training or validation record under another name; patients never are in both.

    Args:
        store, indices: the records.
        split: positions among the indices.
        near: whether to look for disturbed copies too, not only for identical samples.

    Returns:
        A sentence per finding, and what was looked for.
    """
    records = store.records.iloc[indices]
    tested, findings = records.iloc[split.test], []
    identical = np.zeros(len(tested), dtype=bool)
    for name, positions in (("training", split.train), ("validation", split.val)):
        used = records.iloc[positions].drop_duplicates("digest").set_index("digest").record
        copied = tested.digest.isin(used.index).to_numpy()
        identical |= copied
        if copied.any():
            some = tested.record[copied][:3], tested.digest[copied][:3]
            pairs = ", ".join(f"{r} = {used[d]}" for r, d in zip(*some, strict=True))
            findings.append(f"LEAK: {copied.sum()} test records are sample-identical to a {name} record (e.g. {pairs})")
    if not near:
        return [*findings, _not_looked_for()]
    others = indices[np.concatenate([split.train, split.val])]
    return findings + _near_copies(
        store,
        indices[split.test],
        store,
        others,
        identical,
        "training or validation",
        ": leave_out_copies=true drops them",
    )


def settle_copies(context: Context) -> tuple[Context, list[str]]:
    """Report copies between the splits; with `leave_out_copies` take those out of training and validation, never of test.

    Raises:
        UserError: nothing is left to train on or to validate with.
    """
    config, store, split = context.config, context.store, context.split
    if not config.leave_out_copies:
        return context, check_copies(store, context.indices, split, config.near_copies)
    digests = store.records.digest.to_numpy()[context.indices]
    out = np.isin(digests, digests[split.test])
    if config.near_copies:
        rest = np.concatenate([split.train, split.val])
        found = find_copies(store, context.indices[split.test], store, context.indices[rest])
        out[rest[found.b]] = True
    kept = {part: positions[~out[positions]] for part, positions in (("train", split.train), ("val", split.val))}
    empty = [part for part, positions in kept.items() if not len(positions)]
    if empty:
        raise UserError(
            f"leave_out_copies=true leaves no record in {' and '.join(empty)}: all are copies of test records. "
            "Choose other folds."
        )
    lost = [len(split.train) - len(kept["train"]), len(split.val) - len(kept["val"])]
    note = f"{lost[0]} training and {lost[1]} validation records were left out: they are copies of test records"
    context = replace(context, split=replace(split, **kept))
    return context, [note, *check_copies(store, context.indices, context.split, near=False)[:-1]]


def _near_copies(
    store: ECGStore,
    test: np.ndarray,
    other: ECGStore,
    rows: np.ndarray,
    identical: np.ndarray,
    where: str,
    advice: str = "",
) -> list[str]:
    """What the comparison of the signals found, beyond records that are identical, and what it cannot see."""
    found = find_copies(store, test, other, rows)
    if not found.leads:
        return [
            f"test and {where} records have no lead in common: copies that are not sample-identical were not looked for"
        ]
    new = ~identical[found.a]
    copied, first = np.unique(found.a[new], return_index=True)
    findings = []
    if len(copied):
        names, others = store.records.record.to_numpy()[test], other.records.record.to_numpy()[rows]
        pairs = ", ".join(f"{names[found.a[new][k]]} = {others[found.b[new][k]]}" for k in first[:3])
        findings.append(
            f"LEAK: {len(copied)} test records are nearly identical to a {where} record: the same ECG shifted, cut, "
            f"resampled, rescaled or filtered (e.g. {pairs}){advice}"
        )
    return [*findings, _looked_for(found, len(test), where)]


def _looked_for(found: Copies, tested: int, where: str) -> str:
    sentence = (
        f"signals of test and {where} records were compared in {', '.join(found.leads)}; not seen are copies with less than "
        f"{MIN_COMMON + 1.2:.1f} s in common, with a lead lost, exchanged or inverted, or in strong noise"
    )
    if any(found.mute):
        sentence += (
            f", nor any of {found.mute[0]} of {tested} test and {found.mute[1]} {where} records without a usable beat"
        )
    return sentence


def _not_looked_for() -> str:
    return "near_copies=false: copies that are shifted, cut, resampled, rescaled or filtered were not looked for"


def _same_names(tested: pd.DataFrame, used: pd.DataFrame, one_folder: bool) -> list[str]:
    """Records of one database under one name, whatever folder it was read from."""
    known = {(source, _stem(record)) for source, record in zip(used.source, used.record, strict=True)}
    named = [
        (source, record)
        for source, record in zip(tested.source, tested.record, strict=True)
        if (source, _stem(record)) in known
    ]
    sure = [record for source, record in named if source != FOLDER or one_folder]
    unsure = [record for source, record in named if source == FOLDER and not one_folder]
    findings = []
    if sure:
        findings.append(f"LEAK: {len(sure)} test records were in pretraining by their name (e.g. {_some(sure)})")
    if unsure:
        findings.append(
            f"{len(unsure)} test records are called as a pretraining record of another folder (e.g. {_some(unsure)}): "
            "the same recordings, if both folders are of one database"
        )
    return findings


def _one_folder(a: ECGStore, b: ECGStore) -> bool:
    """Whether the two stores were made of one database's folder, as far as its name says, or one of a folder of the other."""
    roots = [Path(str(store.meta["made_by"].get("root") or store.path)) for store in (a, b)]
    return roots[0].name == roots[1].name or roots[0] in roots[1].parents or roots[1] in roots[0].parents


def _stem(record: object) -> str:
    """A record's name without the folders before it and WFDB's endings."""
    name = str(record).replace("\\", "/").rsplit("/", 1)[-1]
    for ending in (".hea", ".dat", ".mat"):
        name = name.removesuffix(ending)
    return name


def _some(names: Iterable[str]) -> str:
    return ", ".join(sorted(map(str, names))[:3])
