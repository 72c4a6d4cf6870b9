"""Figures of what is in a store, or of two beside each other: distributions, label shares, and strips of ECG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shared.plots.charts import COLOURS, legend_below, panels, save
from shared.plots.paper import LABEL, MM, TRACE, draw_paper

INK, GRID = "#1d2530", "#e8e8e8"
Counts = Mapping[str, float]
MOST_LABELS = 24
"""Bars of a figure of labels."""


def plot_distributions(path: Path, histograms: Mapping[str, tuple[np.ndarray, Mapping[str, np.ndarray]]]) -> None:
    """Histograms, one panel each, as shares of a store's segments; several stores stand one over the other.

    Args:
        path: PNG to write.
        histograms: title (with the unit) to bin edges and, by store, the values; NaN is not counted.
    """
    figure = Figure(figsize=(9.2 * max(1, len(histograms)) / 2, 3.1), layout="constrained")
    grid = panels(figure, len(histograms), len(histograms))
    for axes, (title, (edges, stores)) in zip(grid, histograms.items(), strict=True):
        for (name, values), colour in zip(stores.items(), COLOURS, strict=False):
            known = values[np.isfinite(values)]
            if not len(known):
                continue
            shares = np.histogram(np.clip(known, edges[0], edges[-1]), edges)[0] / len(known) * 100
            axes.stairs(shares, edges, fill=True, color=colour, alpha=0.30 if len(stores) > 1 else 0.75)
            if len(stores) > 1:
                axes.stairs(shares, edges, color=colour, lw=1.6, label=name)
            axes.axvline(float(np.median(known)), color=colour if len(stores) > 1 else INK, ls="--", lw=1.2)
        _finish(axes, title, "% of segments")
    if any(len(stores) > 1 for _, stores in histograms.values()):
        legend_below(figure, grid[0])
    save(figure, path)


def plot_amplitudes(path: Path, leads: Sequence[str], stores: Mapping[str, np.ndarray]) -> None:
    """Amplitude of each lead: the middle half as a box, 5 to 95 % as whiskers.

    Args:
        path: PNG to write.
        leads: names of the columns.
        stores: by store, `[n, L]` mV; NaN is not counted.
    """
    figure = Figure(figsize=(9.2, 3.3), layout="constrained")
    axes = figure.subplots()
    width = 0.62 / len(stores)
    for i, ((name, values), colour) in enumerate(zip(stores.items(), COLOURS, strict=False)):
        columns = [column[np.isfinite(column)] for column in values.T]
        boxes = axes.boxplot(
            columns,
            positions=np.arange(len(leads)) + (i - (len(stores) - 1) / 2) * width * 1.15,
            widths=width,
            whis=(5, 95),
            showfliers=False,
            patch_artist=True,
            medianprops={"color": INK, "lw": 1.4},
            whiskerprops={"color": colour},
            capprops={"color": colour},
            boxprops={"facecolor": colour, "alpha": 0.6, "edgecolor": colour},
        )
        boxes["boxes"][0].set_label(name)
    axes.set_xticks(range(len(leads)), leads, fontsize=9)
    axes.set_ylim(bottom=0)
    _finish(axes, "Peak-to-peak amplitude in a typical second, mV", "mV")
    if len(stores) > 1:
        legend_below(figure, axes)
    save(figure, path)


def plot_counts(path: Path, groups: Mapping[str, Mapping[str, Counts]]) -> None:
    """Bars of shares, one panel per group.

    Args:
        path: PNG to write.
        groups: title to store to name to percent.
    """
    figure = Figure(figsize=(9.2 * len(groups) / 3, 2.8), layout="constrained")
    grid = panels(figure, len(groups), len(groups))
    for axes, (title, stores) in zip(grid, groups.items(), strict=True):
        names = list(dict.fromkeys(name for counts in stores.values() for name in counts))
        width = 0.76 / len(stores)
        for i, ((store, counts), colour) in enumerate(zip(stores.items(), COLOURS, strict=False)):
            at = np.arange(len(names)) + (i - (len(stores) - 1) / 2) * width
            axes.bar(at, [counts.get(name, 0) for name in names], width * 0.94, color=colour, alpha=0.85, label=store)
        axes.set_xticks(range(len(names)), names, fontsize=9)
        _finish(axes, title, "%")
    if any(len(stores) > 1 for stores in groups.values()):
        legend_below(figure, grid[0])
    save(figure, path)


def plot_labels(path: Path, stores: Mapping[str, Counts], title: str) -> None:
    """How much of each store carries each label: lines of bars, the most frequent of the first store first.

    Args:
        path: PNG to write.
        stores: by store, label to percent.
        title: above.
    """
    names = list(dict.fromkeys(name for counts in stores.values() for name in counts))
    names = sorted(names, key=lambda name: -max(counts.get(name, 0) for counts in stores.values()))[:MOST_LABELS]
    room = 0.075 * max(map(len, names))
    line = 0.22 + 0.09 * len(stores)
    figure = Figure(figsize=(6.4 + min(room, 3.5), line * len(names) + 1.0), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(stores)
    for i, ((store, counts), colour) in enumerate(zip(stores.items(), COLOURS, strict=False)):
        at = np.arange(len(names)) + (i - (len(stores) - 1) / 2) * height
        values = [counts.get(name, 0) for name in names]
        axes.barh(at, values, height * 0.92, color=colour, alpha=0.85, label=store)
        for y, value in zip(at, values if counts else (), strict=bool(counts)):
            axes.text(
                value, y, f" {value:.1f}" if value < 10 else f" {value:.0f}", va="center", fontsize=7.5, color=INK
            )
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.margins(x=0.08)
    _finish(axes, title, "", grid="x")
    axes.set_xlabel("% of segments", fontsize=9)
    if len(stores) > 1:
        legend_below(figure, axes)
    save(figure, path)


def plot_strips(
    path: Path, strips: Sequence[tuple[np.ndarray, str]], fs: float, lead: str, seconds: float = 5.0
) -> None:
    """One lead of several records on ECG paper, two columns, each under what it shows.

    Args:
        path: PNG to write.
        strips: `[T]` mV and its title.
        fs: Hz.
        lead: which lead it is.
        seconds: how much is drawn.
    """
    shown = min(len(strips[0][0]), round(seconds * fs))
    seconds = shown / fs
    signals = [signal[:shown] - np.median(signal[:shown]) for signal, _ in strips]
    below = max(0.5, *(float(-signal.min()) for signal in signals)) + 0.15
    height_mv = np.ceil(2 * (below + max(0.8, *(float(signal.max()) for signal in signals)) + 0.15)) / 2
    rows = -(-len(strips) // 2)
    cell_w, cell_h = 25 * seconds + 5, 10 * height_mv + 8  # mm
    width, height = 2 * cell_w + 3, rows * cell_h + 6
    figure = Figure(figsize=(width * MM, height * MM))
    for i, (signal, (_, title)) in enumerate(zip(signals, strips, strict=True)):
        left, top = 4 + (i % 2) * cell_w, height - 7 - (i // 2) * cell_h
        axes = figure.add_axes(
            (left / width, (top - 10 * height_mv) / height, 25 * seconds / width, 10 * height_mv / height)
        )
        draw_paper(axes, seconds, height_mv)
        axes.plot(np.arange(shown) / fs, signal + below, color=TRACE, lw=0.9)
        axes.text(0.04, height_mv - 0.08, lead, fontsize=8, va="top", weight="bold", bbox=LABEL, zorder=1.5)
        axes.set_title(title, fontsize=8.5, loc="left", pad=3, color=INK)
    figure.text(1 - 2 / width, 1.6 / height, "25 mm/s, 10 mm/mV", fontsize=8, ha="right")
    save(figure, path)


def _finish(axes: Axes, title: str, ylabel: str, grid: Literal["x", "y"] = "y") -> None:
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_ylabel(ylabel, fontsize=9)
    axes.grid(axis=grid, color=GRID, lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
