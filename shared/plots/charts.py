"""Curves of a training run, and what all figures share: palette and writing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

matplotlib.use("Agg")

DPI = 130
# Okabe and Ito's palette: distinguishable with colour-blind eyes.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")


def save(figure: Figure, path: Path) -> None:
    """Write a PNG, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, facecolor="white")


def panels(figure: Figure, count: int, columns: int, sharey: bool = False) -> list[Axes]:
    """`count` panels line by line, `columns` in each."""
    grid = figure.subplots(-(-count // columns), columns, squeeze=False, sharey=sharey).flatten()
    for axes in grid[count:]:
        axes.set_visible(False)
    return list(grid[:count])


def plot_log(path: Path, log: Path, curves: Mapping[str, Sequence[str]]) -> None:
    """Curves of a run's `log.jsonl` against optimizer steps, one panel per quantity.

    Args:
        path: PNG to write.
        log: one JSON object a line, each with `step`.
        curves: title to the names drawn in it; names that were never logged are passed over.
    """
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    there = {title: [n for n in names if any(n in line for line in lines)] for title, names in curves.items()}
    there = {title: names for title, names in there.items() if names}
    columns = min(len(there), 3)
    rows = -(-len(there) // columns)
    figure = Figure(figsize=(3.9 * columns, 2.7 * rows), layout="constrained")
    for axes, (title, names) in zip(panels(figure, len(there), columns), there.items(), strict=True):
        for name, colour in zip(names, COLOURS, strict=False):
            points = [(line["step"], line[name]) for line in lines if name in line]
            axes.plot(*zip(*points, strict=True), color=colour, lw=1.5, marker=".", ms=4, label=name)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(color="#e8e8e8", lw=0.6)
        if len(names) > 1:
            axes.legend(fontsize=8, frameon=False)
    save(figure, path)
