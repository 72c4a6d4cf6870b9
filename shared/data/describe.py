"""What is in a store, as numbers: who, how many, which labels, how fast and how high; and what two stores share."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shared.data.quality import FLAGS
from shared.data.store import ECGStore
from shared.measurements.beats import find_beats, to_lattice
from shared.signals import typical_amplitude

MEASURED = 400
"""Segments, evenly drawn, in which the heart rate is measured where the store does not hold it."""
RATES = ("feature_heart_rate_bpm", "true_heart_rate")
"""Columns that hold the heart rate, the first that is there."""
SPLITS = {"train": range(1, 9), "validation": (9,), "test": (10,)}
SEXES = {0.0: "male", 1.0: "female"}


@dataclass(frozen=True)
class Description:
    """One opened store and what is read out of it.

    Attributes:
        name: what it is called.
        store: opened.
    """

    name: str
    store: ECGStore

    @property
    def records(self) -> pd.DataFrame:
        """Its table."""
        return self.store.records

    def column(self, name: str) -> np.ndarray:
        """A column of numbers; NaN where the store does not have it."""
        found = self.records.get(name)
        return (
            np.full(len(self.store), np.nan) if found is None else pd.to_numeric(found, errors="coerce").to_numpy(float)
        )

    @cached_property
    def labels(self) -> dict[str, dict[str, int]]:
        """Label column → label → segments, the most frequent first; columns of names before those of bare numbers (SNOMED)."""
        found = {}
        for column in self.store.meta.get("labels", {}):
            if column in self.records:
                counts = pd.Series(
                    [name for names in self.records[column] for name in names], dtype=object
                ).value_counts()
                found[column] = {str(name): int(count) for name, count in counts.items()}
        named = sorted(found, key=lambda column: all(name.isdigit() for name in found[column]))
        return {column: found[column] for column in named if found[column]}

    @cached_property
    def patients(self) -> pd.Series:
        """`source|patient` of every segment: the same number in two databases is two people."""
        source = self.records.source.astype(str) if "source" in self.records else ""
        patient = self.records.patient if "patient" in self.records else self.records.record
        return source + "|" + patient.astype(str)

    @cached_property
    def sexes(self) -> dict[str, int]:
        """Segments of each sex."""
        sex = pd.Series(self.column("sex")).map(SEXES).fillna("unknown")
        return {name: int((sex == name).sum()) for name in (*SEXES.values(), "unknown") if (sex == name).any()}

    @cached_property
    def amplitudes(self) -> np.ndarray:
        """Typical peak-to-peak amplitudes `[n, L]`, mV; of a sample where the store does not hold them."""
        if "amplitudes_mv" in self.records:
            return np.array(self.records.amplitudes_mv.tolist(), dtype=float)
        return typical_amplitude(self.store.read(self.sample) * self.store.scale, self.store.fs)

    @cached_property
    def sample(self) -> np.ndarray:
        """Segments, evenly drawn."""
        return np.unique(np.linspace(0, len(self.store) - 1, MEASURED).round().astype(int))

    @cached_property
    def heart_rate(self) -> tuple[np.ndarray, str]:
        """Beats a minute, NaN where there is none, and where they are from."""
        for name in RATES:
            if name in self.records:
                return self.column(name), f"column {name}"
        if self.store.unit != "mV":
            return np.empty(0), f"not measured in {self.store.unit}"
        lead = "II" if "II" in self.store.leads else self.store.leads[0]
        rows = self.store.read(self.sample)[:, self.store.leads.index(lead)] * self.store.scale
        rates = [_rate(row, self.store.fs) for row in rows]
        return np.array(rates), f"measured in lead {lead} of {len(rows)} segments"

    @cached_property
    def audit(self) -> dict[str, Any]:
        """What preparing found; nothing where the store does not say."""
        try:
            found = json.loads((self.store.path / "audit.json").read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    @cached_property
    def flags(self) -> dict[str, pd.Series]:
        """Quality flag → whether each segment carries it."""
        names = [name for name in ("flat_lead", "clipped", *FLAGS) if name in self.records]
        return {name: self.records[name].astype(bool) for name in names}

    @cached_property
    def copies(self) -> int:
        """Segments that are sample by sample an earlier one."""
        return int(self.records.digest.duplicated().sum()) if "digest" in self.records else 0

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return sum(path.stat().st_size for path in self.store.path.iterdir() if path.is_file())

    def in_split(self, split: str) -> np.ndarray:
        """Which segments are in the folds of train, validation or test; bool `[n]`."""
        return self.records.fold.isin(list(SPLITS[split])).to_numpy()

    def examples(self, num: int) -> Iterator[tuple[int, str]]:
        """Segments to be shown and what they show: unflagged, of usual amplitude, each for another of the frequent labels."""
        order = self._from_usual_to_odd()
        taken: list[int] = []
        for column, name in self._labels_to_show(num):
            carried = self.records[column]
            fits = [row for row in order if row not in taken and name in carried.iloc[row]]
            alone = [row for row in fits if len(carried.iloc[row]) == 1]
            if fits:
                taken.append((alone or fits)[0])
                yield taken[-1], self.caption(taken[-1], name)
        for row in order[: num if not taken else 0]:
            yield row, self.caption(row)

    def _labels_to_show(self, num: int) -> list[tuple[str, str]]:
        """Column and label: those of the first set, then of the others, the smallest first; each once, by frequency."""
        first, *others = list(self.labels) or [""]
        columns = [first, *sorted(others, key=lambda column: len(self.labels[column]))]
        found = {name: column for column in reversed(columns) for name in reversed(self.labels.get(column, {}))}
        wanted = dict.fromkeys(name for column in columns for name in self.labels.get(column, {}))
        return [(found[name], name) for name in wanted][:num]

    def _from_usual_to_odd(self) -> list[int]:
        """All segments, the unflagged first, then by how near their amplitude is to the middle of all."""
        flagged = np.zeros(len(self.store), dtype=bool)
        for flag in self.flags.values():
            flagged |= flag.to_numpy()
        apart = np.zeros(len(self.store))
        if "amplitudes_mv" in self.records:
            high = np.log(np.maximum(np.nan_to_num(self.amplitudes).mean(axis=1), 1e-3))
            apart = np.abs(high - np.median(high))
        return [int(row) for row in np.lexsort((apart, flagged))]

    def caption(self, row: int, name: str = "") -> str:
        """What a segment shows: a label that it is shown for, its further ones of the first set, age, sex and record."""
        line = self.records.iloc[row]
        first = next(iter(self.labels), None)
        labels = dict.fromkeys(filter(None, [name, *(line[first] if first else ())]))
        age, sex = line.get("age", np.nan), SEXES.get(line.get("sex", np.nan), "")
        years = f"{age:.0f} y" if pd.notna(age) else ""
        return " · ".join(
            filter(None, [", ".join(labels), ", ".join(filter(None, [years, sex])), f"record {line.record}"])
        )


def _rate(signal: np.ndarray, fs: float) -> float:
    """60 / the mean RR interval of a lead in mV; NaN without two beats."""
    times = find_beats(to_lattice(signal.astype(np.float64), fs)).times
    return 60.0 * (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else float("nan")


def shared_of(a: Description, b: Description) -> dict[str, int]:
    """Patients, records and sample-identical segments that two stores have in common."""
    record = [x.patients.str.partition("|")[0] + "|" + x.records.record.astype(str) for x in (a, b)]
    found = {
        "patients": len(set(a.patients) & set(b.patients)),
        "records": len(set(record[0]) & set(record[1])),
    }
    if "digest" in a.records and "digest" in b.records:
        found["identical segments"] = len(set(a.records.digest) & set(b.records.digest))
    return found


def settings_apart(a: Description, b: Description) -> dict[str, tuple[str, str]]:
    """Settings of the preparation that are not the same, as text; `-` where one has none."""
    left, right = a.store.meta["made_by"], b.store.meta["made_by"]
    keys = dict.fromkeys([*left, *right])
    return {
        key: (_text(left, key), _text(right, key))
        for key in keys
        if left.get(key) != right.get(key) or (key in left) != (key in right)
    }


def _text(settings: Mapping[str, Any], key: str) -> str:
    value = settings.get(key, "-")
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else "-" if value is None else str(value)


def describe_store(path: str | Path) -> Description:
    """A store by its path, called by the name of its folder.

    Raises:
        StoreError: it is none, or damaged.
    """
    store = ECGStore(path)
    return Description(store.path.name, store)
