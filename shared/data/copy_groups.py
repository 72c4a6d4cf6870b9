"""Copies within one database as it is prepared: their groups, and one fold for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from shared.data.copies import find_copies_within
from shared.data.sources.base import PrepareConfig

MANY = 30_000
"""Segments up to which copies that are not sample-identical are looked for unasked: the time grows with the square, and is
some four minutes of one core here."""


@dataclass(frozen=True)
class Shards:
    """The signals of a store that is still being written, as fingerprints read them."""

    arrays: Sequence[np.ndarray]
    leads: tuple[str, ...]
    fs: float
    scale: float
    num_samples: int

    @classmethod
    def open(cls, files: Sequence[Path], config: PrepareConfig) -> Shards:
        """The finished shards of what `config` prepares."""
        arrays = [np.load(file, mmap_mode="r", allow_pickle=False) for file in files]
        return cls(arrays, config.leads, config.fs, config.step, round(config.seconds * config.fs))

    def read_windows(self, indices: np.ndarray, starts: np.ndarray, length: int, rows: Sequence[int]) -> np.ndarray:
        """`[n, len(rows), length]` int16; arguments as of `ECGStore.read_windows`."""
        firsts = np.cumsum([0, *map(len, self.arrays)])
        shard = np.searchsorted(firsts, indices, side="right") - 1
        windows = [
            self.arrays[s][index - firsts[s], list(rows), start : start + length]
            for s, index, start in zip(shard, indices, starts, strict=True)
        ]
        return np.stack(windows) if windows else np.empty((0, len(rows), length), np.int16)


class CopyGroups(NamedTuple):
    """What is a copy of what, and the folds.

    Attributes:
        copy_of: `[n]` the first record of each segment's group; empty where it has no copy.
        fold: `[n]`, one for each group and all of its patients' records, or as they were.
        groups: records of each group.
        apart: groups of which the records were in several folds.
        moved: segments whose fold is another one now.
        unseen: what was not looked for, in words; empty if nothing.
    """

    copy_of: np.ndarray
    fold: np.ndarray
    groups: list[list[str]]
    apart: int
    moved: int
    unseen: str


def group_copies(rows: pd.DataFrame, shards: Shards, config: PrepareConfig) -> CopyGroups:
    """Find the copies among all segments of a store, and give each group one fold where the config says so.

    Args:
        rows: `record`, `patient`, `digest`, `fold`, `flat_leads` of all segments, in order.
        shards: their signals.
        config: `near_copies`, `copies`.
    """
    near = config.near_copies if config.near_copies is not None else len(rows) <= MANY
    pairs = np.empty((2, 0), dtype=int)
    unseen = "" if near else "copies that are shifted, cut, resampled, rescaled or filtered (near_copies=true looks)"
    # Silence is nobody's copy.
    same = rows.digest.where(rows.flat_leads.str.len() < len(config.leads), other="").to_numpy(str)
    if near:
        once = np.flatnonzero(~pd.Series(same).duplicated() | (same == ""))  # one for all that are identical
        found = find_copies_within(shards, once)
        record = rows.record.to_numpy(str)
        one, two = once[found.a], once[found.b]
        pairs = np.stack([one, two])[:, record[one] != record[two]]  # a steady rhythm repeats itself
        if not found.leads:
            unseen = "copies that are not sample-identical: no lead of the twelve is there to compare"
        elif found.mute[0]:
            unseen = f"copies of {found.mute[0]} segments without a heartbeat to compare, but for sample-identical ones"
    pairs = np.concatenate([pairs, _chain(same, same != "")], axis=1)
    group = _components(pairs, len(rows))
    copy_of = _first(rows.record.to_numpy(str), group)
    alone = np.bincount(group)[group] == 1
    fold = rows.fold.to_numpy()
    one_fold = not config.published_folds if config.copies is None else config.copies == "one_fold"
    settled = fold
    if one_fold:
        # All of a patient's records go along, so that no patient comes to stand in two folds.
        people = _chain(rows.patient.to_numpy(str), np.ones(len(rows), dtype=bool))
        whole = _components(np.concatenate([pairs, people], axis=1), len(rows))
        mixed = _num_folds(fold, whole) > 1
        settled = np.where(mixed, _first(fold, whole), fold)
    members = pd.Series(rows.record.to_numpy(str)[~alone]).groupby(group[~alone]).agg(list)
    apart = pd.Series(fold[~alone]).groupby(group[~alone]).nunique()
    return CopyGroups(
        np.where(alone, "", copy_of),
        settled,
        members.tolist(),
        int((apart > 1).sum()),
        int((settled != fold).sum()),
        unseen,
    )


def _chain(keys: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """`[2, k]`: each position with the next one of the same key, among those that count."""
    at = np.flatnonzero(counts)
    order = at[np.argsort(keys[at], kind="stable")]
    alike = keys[order[1:]] == keys[order[:-1]]
    return np.stack([order[:-1][alike], order[1:][alike]])


def _components(pairs: np.ndarray, number: int) -> np.ndarray:
    """`[n]`: which group each belongs to."""
    links = coo_array((np.ones(pairs.shape[1], dtype=bool), (pairs[0], pairs[1])), shape=(number, number))
    return np.asarray(connected_components(links, directed=False)[1])


def _first(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """`[n]`: the value of the first member of each one's group."""
    return values[np.unique(group, return_index=True)[1]][group]


def _num_folds(fold: np.ndarray, group: np.ndarray) -> np.ndarray:
    """`[n]`: how many folds each one's group stands in."""
    return pd.Series(fold).groupby(group).transform("nunique").to_numpy()
