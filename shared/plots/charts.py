"""Curves of a training run, and what all figures share: palette and writing."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

matplotlib.use("Agg")
# Inches between panels: a title stands clear of the axis above it.
matplotlib.rcParams |= {"figure.constrained_layout.h_pad": 0.09, "figure.constrained_layout.w_pad": 0.07}

DPI = 130
# Okabe and Ito's palette, distinguishable with colour-blind eyes; its yellow is darker here, to be seen on white.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#C9B900")


GREYS = ("#7d8590", "#a3abb5", "#c3c9d0")
"""What does not compete: random encoders."""


def save(figure: Figure, path: Path) -> None:
    """Write a PNG of at most 256 colours, a third of the bytes, and an SVG beside it, making their folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.set_facecolor("white")
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(256).save(path, optimize=True)
    figure.set_layout_engine("none")  # what is laid out stays so; it is half of the time of a figure
    # No date and no random names: the same figure is the same file.
    with matplotlib.rc_context({"svg.hashsalt": path.stem}):
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})


def colours_of(rows: Iterable[str], muted: Collection[str] = ()) -> dict[str, str]:
    """A colour for each row; a grey for those that are `muted`."""
    names = list(rows)
    loud, quiet = [n for n in names if n not in muted], [n for n in names if n in muted]
    return {
        name: palette[i % len(palette)]
        for group, palette in ((loud, COLOURS), (quiet, GREYS))
        for i, name in enumerate(group)
    }


def panels(figure: Figure, count: int, columns: int, sharey: bool = False) -> list[Axes]:
    """`count` panels line by line, `columns` in each."""
    grid = figure.subplots(-(-count // columns), columns, squeeze=False, sharey=sharey).flatten()
    for axes in grid[count:]:
        axes.set_visible(False)
    return list(grid[:count])


def legend_below(figure: Figure, axes: Axes) -> None:
    """One legend below the panels, which all have the same rows; as many columns as their names leave room for."""
    handles, texts = axes.get_legend_handles_labels()
    columns = max(1, min(len(texts), int(figure.get_figwidth() / (0.6 + 0.075 * max(map(len, texts))))))
    figure.legend(handles, texts, loc="outside lower center", ncols=columns, fontsize=9, frameon=False)


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
