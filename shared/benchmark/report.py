"""What was measured, as JSON, a Markdown table and a figure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from shared.plots.charts import COLOURS, save
from shared.run_record import surroundings

JSON = "benchmark.json"
TABLES: dict[str, dict[str, tuple[str, str]]] = {
    "data": {
        "stage": ("stage", "{}"), "model": ("model", "{}"), "size": ("size", "{}"), "batch": ("batch", "{}"),
        "ecg_per_s": ("ECG/s", "{:.0f}"), "read_gb_per_s": ("GB/s read", "{:.2f}"),
        "waiting_share": ("waiting", "{:.2%}"),
    },
    "step": {
        "model": ("model", "{}"), "size": ("size", "{}"), "seconds": ("s", "{:g}"), "batch": ("batch", "{}"),
        "precision": ("precision", "{}"), "compiled": ("compiled", "{}"), "variant": ("variant", "{}"),
        "processes": ("processes", "{}"), "ecg_per_s": ("ECG/s", "{:.1f}"), "tflops": ("TFLOP/s", "{:.3g}"),
        "share_of_product": ("of the product", "{:.1%}"), "peak_gib": ("peak GiB", "{:.2f}"),
        "first_call_s": ("first call s", "{:.1f}"), "graphs": ("graphs", "{}"), "error": ("", "{}"),
    },
    "upstream": {
        "model": ("model", "{}"), "batch": ("batch", "{}"), "precision": ("precision", "{}"),
        "compiled": ("compiled", "{}"), "ecg_per_s": ("ours ECG/s", "{:.1f}"),
        "published_ecg_per_s": ("published ECG/s", "{:.1f}"), "times_published": ("ratio", "{:.2f}"),
    },
}  # fmt: skip
TABLES["encode"] = TABLES["step"]
TITLES = {
    "data": "Data path, one process",
    "step": "Training step",
    "encode": "Embedding",
    "upstream": "Beside the published implementations",
}


def machine(device: torch.device) -> dict[str, Any]:
    """What it ran on: code, libraries, device, and the processor's name."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return {**surroundings(device), "processor": name}


def write_report(out: Path, rows: Sequence[Mapping[str, Any]], on: Mapping[str, Any], processes: Sequence[int]) -> Path:
    """`benchmark.json`, `benchmark.md` and `benchmark.png` in the folder.

    Returns:
        The folder.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / JSON).write_text(json.dumps({"machine": dict(on), "rows": list(rows)}, indent=1) + "\n")
    head = (
        f"{on['device']} {on['processor']}, {on['threads']} threads, torch {on['packages']['torch']}, {on['started']}"
    )
    parts = [f"# Speed\n\n{head}\n\n`{on['command']}`"]
    for part, title in TITLES.items():
        found = [row for row in rows if row["part"] == part]
        if found:
            parts.append(f"## {title}\n\n{table(found, TABLES[part])}")
    (out / "benchmark.md").write_text("\n\n".join(parts) + "\n")
    draw(out / "benchmark.png", [row for row in rows if row["part"] in ("step", "encode") and "error" not in row])
    return out


def table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, tuple[str, str]]) -> str:
    """Markdown, without the columns that are empty in every row."""
    used = {key: what for key, what in columns.items() if any(row.get(key) is not None for row in rows)}
    lines = [[title for title, _ in used.values()], ["---"] * len(used)]
    for row in rows:
        lines.append(["" if row.get(key) is None else form.format(row[key]) for key, (_, form) in used.items()])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def draw(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """The share of the plain product's rate that each case reaches, a bar each, with its ECG/s."""
    if not rows:
        return
    figure = Figure(figsize=(9, 0.8 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots()
    parts = list(dict.fromkeys(row["part"] for row in rows))
    for place, row in enumerate(rows):
        colour = COLOURS[parts.index(row["part"])]
        axes.barh(place, row["share_of_product"], color=colour)
        axes.text(row["share_of_product"], place, f" {row['ecg_per_s']:.0f} ECG/s", va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), [label(row) for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, max(1.0, 1.2 * max(row["share_of_product"] for row in rows)))
    axes.set_xlabel("useful FLOP/s, share of the machine's own matrix product")
    save(figure, path)


def label(row: Mapping[str, Any]) -> str:
    """A case in a few words."""
    words = [row["part"], row["model"], row["size"], f"batch {row['batch']}", row["precision"]]
    words += ["compiled"] if row["compiled"] else []
    words += [row["variant"]] if row["variant"] != "plain" else []
    words += [f"{row['processes']} processes"] if row["processes"] > 1 else []
    return " ".join(str(word) for word in words)
