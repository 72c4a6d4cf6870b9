"""What preparing found: records read and left out, duplicates, lead residuals, label counts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shared.data.quality import FLAGS, LIMB_MV
from shared.measurements.catalog import VALUES

SHOWN = 5
"""Records that are named of a kind; audit.json names all."""


def make_audit(
    records: pd.DataFrame,
    left_out: Sequence[dict[str, str]],
    num_records: int,
    seconds: float,
    labels: Sequence[str],
    features: Sequence[str] = (),
) -> dict[str, Any]:
    """Summary of one preparation, ready for JSON.

    Args:
        records: the store's table.
        left_out: `record`, `reason`, `detail` of everything that is not in the store.
        num_records: records in the index, usable or not.
        seconds: wall time.
        labels: label columns of the table.
        features: channels that were measured.
    """
    groups = records.groupby("digest").record.agg(list)
    residual = records.limb_residual_mv.to_numpy(float)
    counted = {name: Counter(x for row in records[name] for x in row) for name in labels}
    return {
        "records": num_records,
        "segments": len(records),
        "patients": int(records.patient.nunique()),
        "seconds": round(seconds, 2),
        "records_per_second": round(num_records / seconds, 1),
        "left_out": dict(Counter(item["reason"] for item in left_out)),
        "left_out_records": list(left_out),
        "duplicates": [names for names in groups if len(names) > 1],
        "clipped_segments": int(records.clipped.sum()),
        "flat_segments": int(records.flat_lead.sum()),
        "flags": {name: records.record[records[name]].tolist() for name in FLAGS},
        "derived_lead_segments": int((records.derived_leads.str.len() > 0).sum()),
        "limb_residual_mv": {
            "checked": int(np.isfinite(residual).sum()),
            "median": float(np.nanmedian(residual)) if np.isfinite(residual).any() else None,
            "max": float(np.nanmax(residual)) if np.isfinite(residual).any() else None,
            "above_0.1_mv": int((residual > LIMB_MV).sum()),
        },
        "folds": {str(k): int(v) for k, v in records.fold.value_counts().sort_index().items()},
        "labels": {name: dict(sorted(counts.items())) for name, counts in counted.items() if counts},
        "without_label": {name: int((records[name].str.len() == 0).sum()) for name in labels if counted[name]},
        **({"features": _count_missing(records, features)} if features else {}),
    }


def _count_missing(records: pd.DataFrame, features: Sequence[str]) -> dict[str, Any]:
    """How many segments lack a channel or a value altogether, which leads were measured in, and what was noted how often."""
    missing = Counter(name for names in records.feature_missing for name in names)
    # "clipped in 2 of 9 beats" and "clipped in 3 of 8 beats" are one kind of note.
    notes = Counter(re.sub(r"\d+", "n", note) for noted in records.feature_notes for note in noted)
    return {
        "missing": {name: missing[name] for name in features},
        "missing_values": {name: int(records[f"feature_{name}"].isna().sum()) for name in VALUES},
        "leads": {str(k) or "none": int(v) for k, v in records.feature_lead.value_counts().items()},
        "notes": dict(notes.most_common()),
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
    pairs = "; ".join(" = ".join(names) for names in audit["duplicates"][:8])
    lines.append(
        f"duplicates   {len(audit['duplicates'])} groups of sample-identical segments{': ' + pairs if pairs else ''}"
    )
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
