"""What preparing found: records read and left out, duplicates, lead residuals, label counts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shared.data.copy_groups import CopyGroups
from shared.data.quality import FLAGS, LIMB_MV
from shared.measurements.catalog import VALUES

SHOWN = 5
"""Records that are named of a kind; audit.json names all."""


class Audit:
    """Counts over the parts of a table, so that the whole need not be in memory.

    Args:
        labels: label columns of the table.
        features: channels that were measured.
    """

    def __init__(self, labels: Sequence[str], features: Sequence[str] = ()) -> None:
        self.labels, self.features = labels, features
        self.segments = self.clipped = self.flat = self.derived = 0
        self.flags: dict[str, list[str]] = {name: [] for name in FLAGS}
        self.folds: Counter[int] = Counter()
        self.counted: dict[str, Counter[str]] = {name: Counter() for name in labels}
        self.unlabelled: Counter[str] = Counter()
        self.residuals: list[np.ndarray] = []
        self.missing: Counter[str] = Counter()
        self.missing_values: Counter[str] = Counter()
        self.measured_in: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()

    def add(self, records: pd.DataFrame) -> None:
        """Count the rows of one part."""
        self.segments += len(records)
        self.clipped += int(records.clipped.sum())
        self.flat += int(records.flat_lead.sum())
        self.derived += int((records.derived_leads.str.len() > 0).sum())
        for name, found in self.flags.items():
            found += records.record[records[name]].tolist()
        self.folds.update(records.fold.tolist())
        self.residuals.append(records.limb_residual_mv.to_numpy(float))
        for name in self.labels:
            self.counted[name].update(x for row in records[name] for x in row)
            self.unlabelled[name] += int((records[name].str.len() == 0).sum())
        if self.features:
            self.missing.update(name for names in records.feature_missing for name in names)
            # "clipped in 2 of 9 beats" and "clipped in 3 of 8 beats" are one kind of note.
            self.notes.update(re.sub(r"\d+", "n", note) for noted in records.feature_notes for note in noted)
            self.measured_in.update(str(lead) or "none" for lead in records.feature_lead)
            for name in VALUES:
                self.missing_values[name] += int(records[f"feature_{name}"].isna().sum())

    def result(
        self,
        left_out: Sequence[dict[str, str]],
        num_records: int,
        num_patients: int,
        duplicates: list[list[str]],
        copies: CopyGroups,
        seconds: float,
    ) -> dict[str, Any]:
        """Summary of one preparation, ready for JSON.

        Args:
            left_out: `record`, `reason`, `detail` of everything that is not in the store.
            num_records: records in the index, usable or not.
            num_patients: in the store.
            duplicates: records of each group of sample-identical segments.
            copies: of any kind, these among them.
            seconds: wall time.
        """
        residual = np.concatenate(self.residuals)
        known = residual[np.isfinite(residual)]
        counted = {name: dict(sorted(counts.items())) for name, counts in self.counted.items() if counts}
        return {
            "records": num_records,
            "segments": self.segments,
            "patients": num_patients,
            "seconds": round(seconds, 2),
            "records_per_second": round(num_records / seconds, 1),
            "left_out": dict(Counter(item["reason"] for item in left_out)),
            "left_out_records": list(left_out),
            "duplicates": duplicates,
            "copies": {
                "groups": copies.groups,
                "in_several_folds": copies.apart,
                "moved_segments": copies.moved,
                "unseen": copies.unseen,
            },
            "clipped_segments": self.clipped,
            "flat_segments": self.flat,
            "flags": self.flags,
            "derived_lead_segments": self.derived,
            "limb_residual_mv": {
                "checked": len(known),
                "median": float(np.median(known)) if len(known) else None,
                "max": float(known.max()) if len(known) else None,
                "above_0.1_mv": int((known > LIMB_MV).sum()),
            },
            "folds": {str(fold): self.folds[fold] for fold in sorted(self.folds)},
            "labels": counted,
            "without_label": {name: self.unlabelled[name] for name in counted},
            **({"features": self._features()} if self.features else {}),
        }

    def _features(self) -> dict[str, Any]:
        """How many segments lack a channel or a value altogether, which leads were measured in, and what was noted."""
        return {
            "missing": {name: self.missing[name] for name in self.features},
            "missing_values": {name: self.missing_values[name] for name in VALUES},
            "leads": dict(self.measured_in.most_common()),
            "notes": dict(self.notes.most_common()),
        }


def print_audit(audit: dict[str, Any], out: Path) -> None:
    """The audit in a few lines; `audit.json` in the store has all of it."""
    lines = [
        f"store        {out}",
        f"read         {audit['records']} records of {audit['patients']} patients in {audit['seconds']} s "
        f"({audit['records_per_second']} records/s) -> {audit['segments']} segments",
    ]
    reasons = ", ".join(f"{count} {reason}" for reason, count in audit["left_out"].items())
    lines.append(f"left out     {reasons or 'none'}")
    lines += [f"               {item['record']}: {item['detail']}" for item in audit["left_out_records"][:5]]
    if len(audit["left_out_records"]) > 5:
        lines.append(f"               … {len(audit['left_out_records']) - 5} more in audit.json")
    lines.append(f"duplicates   {_say_groups(audit['duplicates'], 'of sample-identical segments')}")
    lines.append(f"copies       {_copies(audit['copies'])}")
    residual = audit["limb_residual_mv"]
    if residual["checked"]:
        lines.append(
            f"limb leads   residual median {residual['median']:.4f} mV, max {residual['max']:.4f} mV, "
            f"{residual['above_0.1_mv']} above 0.1 mV (checked {residual['checked']})"
        )
    lines.append(
        f"flags        {audit['clipped_segments']} clipped, {audit['flat_segments']} with a flat lead, "
        f"{audit['derived_lead_segments']} with derived leads"
    )
    for name, names in audit["flags"].items():
        if names:
            more = f", … {len(names) - SHOWN} more in audit.json" if len(names) > SHOWN else ""
            lines.append(f"             {len(names)} with {name}: {', '.join(names[:SHOWN])}{more}")
    for name, counts in audit["labels"].items():
        shown = ", ".join(f"{label} {count}" for label, count in sorted(counts.items(), key=lambda x: -x[1])[:8])
        more = f", … ({len(counts)} in all)" if len(counts) > 8 else ""
        lines.append(f"{name:<12} {shown}{more}; without any: {audit['without_label'][name]}")
    if "features" in audit:
        found = audit["features"]
        lacking = {**found["missing"], **found["missing_values"]}
        shown = ", ".join(f"{name} {count}" for name, count in lacking.items() if count)
        leads = ", ".join(f"{count} in {lead}" for lead, count in found["leads"].items())
        lines.append(f"features     measured: {leads}; segments without: {shown or 'none'}")
    print("\n".join(lines))


def _say_groups(groups: Sequence[Sequence[str]], what: str) -> str:
    """How many, and the first few of the first few."""
    shown = [
        " = ".join(names[:SHOWN]) + (f" = … {len(names) - SHOWN} more" if len(names) > SHOWN else "")
        for names in groups[:SHOWN]
    ]
    more = f"; … {len(groups) - SHOWN} more in audit.json" if len(groups) > SHOWN else ""
    return f"{len(groups)} groups {what}{': ' if shown else ''}{'; '.join(shown)}{more}"


def _copies(found: dict[str, Any]) -> str:
    """Groups of copies, what became of their folds, and what was not looked for."""
    groups, several, moved = found["groups"], found["in_several_folds"], found["moved_segments"]
    told = _say_groups(groups, "of recordings that are the same, be it shifted, cut or rescaled")
    if several:
        fate = f"{moved} segments went along" if moved else "left as published; copies=one_fold gives each group one"
        told += f". {several} stood in several folds: {fate}"
    return told + (f". Not looked for: {found['unseen']}" if found["unseen"] else "")
