"""Check a store against its fingerprint: every signal, measurement and setting is what was written.

    python -m shared.data.verify STORE

Exit code 0: whole; 1: something of it changed, and which records; 2: it cannot be opened.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shared.config import asks_for_help, entry_point
from shared.data.store import BESIDE_META, PORTIONS, ECGStore
from shared.errors import UserError

USAGE = "usage: python -m shared.data.verify STORE   (0: whole, 1: damaged, 2: no store that could be opened)"
SHOWN = 8
"""Damaged records that are named; of the rest, the number."""


def verify(path: str | Path) -> list[str]:
    """What is wrong with a store, one sentence each; nothing where it is whole.

    Raises:
        StoreError: there is no store, or it cannot be opened.
    """
    store = ECGStore(path)
    problems = _damaged_records(store)
    if is_partly_checked(store):
        return problems
    if store.fingerprint not in _fingerprints(store, _hashed_meta(store.meta)):
        rest = f"its settings{' or its features' if store.features else ''}"
        what = "its signals" if problems or "digest" not in store.records else rest
        problems.append(f"the fingerprint {store.fingerprint} is not that of the files: {what} changed.")
    return problems


def is_partly_checked(store: ECGStore) -> bool:
    """Whether only the signals can be checked: a store with features from before their portions were noted.

    The fingerprint runs over signals and features by turns, and such a store does not say by which.
    """
    return bool(store.features) and PORTIONS not in store.meta


def _damaged_records(store: ECGStore) -> list[str]:
    """Signals that do not have the digest that their row of the table says."""
    if "digest" not in store.records:
        return []
    wrong = []
    for row, (record, digest) in enumerate(zip(store.records.record, store.records.digest, strict=True)):
        if hashlib.blake2b(np.ascontiguousarray(store[row]).data, digest_size=16).hexdigest() != digest:
            wrong.append(str(record))
    if not wrong:
        return []
    more = f", … {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    return [f"{len(wrong)} of {len(store)} signals are not what was written: {', '.join(wrong[:SHOWN])}{more}."]


def _fingerprints(store: ECGStore, metas: Sequence[dict[str, Any]]) -> set[str]:
    """As `StoreWriter` makes it, portion by portion the signals and then their features, at the end each of the descriptions."""
    digest = hashlib.blake2b(digest_size=16)
    for first, last in _portions(store):
        rows = np.arange(first, last)
        digest.update(np.ascontiguousarray(store.read(rows)).data)
        if store.features:
            digest.update(np.ascontiguousarray(store.read_features(rows)).data)
    found = set()
    for meta in metas:  # the signals are read once
        whole = digest.copy()
        whole.update(json.dumps(meta, sort_keys=True).encode())
        found.add(whole.hexdigest())
    return found


def _portions(store: ECGStore) -> Iterator[tuple[int, int]]:
    """First and last row of each; without features any will do."""
    ends = np.cumsum([0, *store.meta[PORTIONS]]) if store.features else [*range(0, len(store), 256), len(store)]
    yield from itertools.pairwise(ends)


def _hashed_meta(meta: dict[str, Any]) -> list[dict[str, Any]]:
    """The part of store.json that was hashed; `unit` and `scale` only where the store's maker gave them."""
    own = {key: value for key, value in meta.items() if key not in BESIDE_META}
    return [own, *([{**own, "unit": meta["unit"], "scale": meta["scale"]}] if {"unit", "scale"} <= meta.keys() else [])]


def main(argv: Sequence[str]) -> None:
    """Entry point."""
    if asks_for_help(argv):
        print(USAGE)
        return
    if len(argv) != 1:
        raise UserError(f"one store is expected, {len(argv)} given. {USAGE}")
    problems = verify(argv[0])
    if problems:
        print(f"{argv[0]} is damaged:\n  " + "\n  ".join(problems) + "\nPrepare it again (overwrite=true).")
        raise SystemExit(1)
    store = ECGStore(argv[0])
    if is_partly_checked(store):
        print(
            f"{store.path}: its {len(store)} signals are what was written; its features and settings cannot be checked "
            "in a store this old. Prepare it again to have them checked."
        )
        return
    print(f"{store.path} is whole: {len(store)} segments, fingerprint {store.fingerprint}.")


if __name__ == "__main__":
    entry_point(main)
