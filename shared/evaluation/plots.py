"""Figures: ECG on paper, embedding maps, scores with intervals. Each writes one PNG."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from torch import Tensor

from shared.evaluation.bootstrap import Interval

matplotlib.use("Agg")

DPI = 130
MM = 1 / 25.4
PAPER, GRID_MAJOR, GRID_MINOR = "#fffaf7", "#efa9a0", "#f8dcd6"
TRACE, MODEL, MASK = "#1b1b1b", "#0057b8", "#0057b8"
# Okabe and Ito's palette: distinguishable with colour-blind eyes.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
TSNE_POINTS = 2000
MOST_PANELS = 4
"""Maps side by side; more go on further lines."""


def save(figure: Figure, path: Path) -> None:
    """Write a PNG, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, facecolor="white")


def plot_reconstruction(
    path: Path,
    ecg: Tensor | np.ndarray,
    reconstruction: Tensor | np.ndarray,
    mask: Tensor | np.ndarray,
    *,
    fs: float,
    leads: Sequence[str],
    title: str,
    seconds: float = 5.0,
) -> None:
    """A record and what a model made of its masked stretches, on ECG paper (25 mm/s, 10 mm/mV), two columns of leads.

    Args:
        path: PNG to write.
        ecg: `[L, T]`, mV.
        reconstruction: `[L, T]`, mV; drawn where masked.
        mask: `[L, T]` bool, True = masked.
        fs: Hz.
        leads: names of the rows.
        title: above the figure.
        seconds: how much of the record is drawn.
    """
    ecg, reconstruction, mask = (np.asarray(x) for x in (ecg, reconstruction, mask))
    shown = min(ecg.shape[1], round(seconds * fs))
    time = np.arange(shown) / fs
    columns = 2 if len(leads) > 3 else 1
    per_column = -(-len(leads) // columns)
    # One row is as high as the largest trace needs, and at least 2 mV.
    span = np.ceil(max(2.0, float(np.quantile(np.ptp(ecg[:, :shown], axis=1), 0.75)) * 1.15) * 2) / 2
    width, height = columns * (25 * shown / fs + 4), per_column * span * 10
    figure = Figure(figsize=((width + 6) * MM, (height + 22) * MM))
    figure.suptitle(title, fontsize=10, x=0.01, ha="left", y=1 - 3 * MM / figure.get_figheight())
    for column in range(columns):
        box = (
            (3 + column * (width / columns)) / (width + 6),
            12 / (height + 22),
            (25 * shown / fs) / (width + 6),
            height / (height + 22),
        )
        axes = figure.add_axes(box)
        draw_paper(axes, shown / fs, per_column * span)
        for row in range(per_column):
            lead = column * per_column + row
            if lead >= len(leads):
                continue
            base = (per_column - row - 0.5) * span
            middle = np.median(ecg[lead, :shown])
            hidden = mask[lead, :shown].astype(bool)
            low, high = base - span / 2, base + span / 2
            trace = ecg[lead, :shown] - middle + base  # tall beats reach into the next row, as on paper
            model = reconstruction[lead, :shown] - middle + base
            axes.fill_between(time, low, high, where=hidden, color=MASK, alpha=0.07, lw=0, step="mid")
            axes.plot(time, trace, color=TRACE, lw=0.8)
            axes.plot(time, np.where(hidden, model, np.nan), color=MODEL, lw=1.1)
            axes.text(0.04, high - 0.12, leads[lead], fontsize=8, va="top", weight="bold")
    handles = [
        matplotlib.lines.Line2D([], [], color=TRACE, lw=1, label="ECG"),
        matplotlib.lines.Line2D([], [], color=MODEL, lw=1.4, label="reconstruction of masked stretches (shaded)"),
    ]
    figure.legend(handles=handles, loc="lower left", ncols=2, fontsize=8, frameon=False)
    figure.text(0.99, 0.012, "25 mm/s, 10 mm/mV", fontsize=8, ha="right")
    save(figure, path)


def draw_paper(axes: matplotlib.axes.Axes, seconds: float, millivolts: float) -> None:
    """ECG paper: 1 mm and 5 mm lines at 25 mm/s and 10 mm/mV."""
    axes.set_xlim(0, seconds)
    axes.set_ylim(0, millivolts)
    axes.set_facecolor(PAPER)
    for axis, small, large in ((axes.xaxis, 0.04, 0.2), (axes.yaxis, 0.1, 0.5)):
        axis.set_minor_locator(MultipleLocator(small))
        axis.set_major_locator(MultipleLocator(large))
    axes.grid(which="minor", color=GRID_MINOR, lw=0.35)
    axes.grid(which="major", color=GRID_MAJOR, lw=0.6)
    axes.tick_params(which="both", length=0, labelbottom=False, labelleft=False)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_color(GRID_MAJOR)


def plot_embeddings(
    path: Path,
    rows: Mapping[str, np.ndarray],
    classes: np.ndarray,
    names: Sequence[str],
    method: str,
    seed: int = 0,
) -> None:
    """Two-dimensional maps of embeddings, one panel per row, coloured by class.

    Args:
        path: PNG to write.
        rows: encoder name to `[n, D]`.
        classes: `[n]` class numbers.
        names: of the classes.
        method: `pca` or `tsne` (at most 2000 points, drawn with the seed).
        seed: of t-SNE and of the subsample.
    """
    keep = np.arange(len(classes))
    if method == "tsne" and len(keep) > TSNE_POINTS:
        keep = np.sort(np.random.default_rng(seed).choice(len(keep), TSNE_POINTS, replace=False))
    lines = -(-len(rows) // MOST_PANELS)
    columns = -(-len(rows) // lines)
    figure = Figure(figsize=(4.6 * columns, 4.4 * lines + 0.2), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).flatten()
    for axes in panels[len(rows) :]:
        axes.set_visible(False)
    counts = np.bincount(classes[keep], minlength=len(names))
    shown = np.argsort(-counts, kind="stable")[: len(COLOURS)]
    shown = shown[counts[shown] > 0]
    for axes, (row, embeddings) in zip(panels, rows.items(), strict=False):
        points, labels = _project(embeddings[keep], method, seed)
        for colour, c in zip(COLOURS, shown, strict=False):
            mine = classes[keep] == c
            axes.scatter(*points[mine].T, s=9, color=colour, alpha=0.65, lw=0, label=f"{names[c]} ({mine.sum()})")
        axes.set_title(row, fontsize=11)
        axes.set_xlabel(labels[0], fontsize=9)
        axes.set_ylabel(labels[1], fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
    handles, texts = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, texts, loc="outside lower center", ncols=min(len(shown), 6), fontsize=9, markerscale=2, frameon=False
    )
    save(figure, path)


def _project(embeddings: np.ndarray, method: str, seed: int) -> tuple[np.ndarray, tuple[str, str]]:
    if method == "pca" or len(embeddings) < 10:
        pca = PCA(2, random_state=seed)
        points = pca.fit_transform(embeddings)
        first, second = pca.explained_variance_ratio_
        return points, (f"PC 1 ({first:.0%} of variance)", f"PC 2 ({second:.0%})")
    perplexity = min(30.0, (len(embeddings) - 1) / 3)
    points = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(embeddings)
    return points, ("t-SNE 1", "t-SNE 2")


def plot_scores(
    path: Path, results: Mapping[str, Mapping[str, Mapping[str, Interval]]], classes: Sequence[str]
) -> None:
    """AUROC per class with intervals, one panel per protocol, one colour per row.

    Args:
        path: PNG to write.
        results: protocol to row to metric to interval.
        classes: their names; those without a score are passed over.
    """
    some = next(iter(next(iter(results.values())).values()))
    metrics = ["auroc_macro", *(f"auroc/{c}" for c in classes if f"auroc/{c}" in some)][:25]
    names = ["macro", *(m.removeprefix("auroc/") for m in metrics[1:])]
    figure = Figure(
        figsize=(max(5.0, 0.75 * len(metrics) + 1.5) * min(len(results), 2), 3.6 * -(-len(results) // 2)),
        layout="constrained",
    )
    panels = figure.subplots(-(-len(results) // 2), min(len(results), 2), squeeze=False, sharey=True).flatten()
    for axes in panels[len(results) :]:
        axes.set_visible(False)
    for axes, (protocol, rows) in zip(panels, results.items(), strict=False):
        for i, (row, scores) in enumerate(rows.items()):
            x = np.arange(len(metrics)) + (i - (len(rows) - 1) / 2) * 0.7 / len(rows)
            present = [j for j, m in enumerate(metrics) if m in scores]
            value, low, high = (
                np.array([scores[metrics[j]][key] for j in present]) for key in ("value", "low", "high")
            )
            errors = np.abs(np.stack([value - low, high - value]))
            axes.errorbar(
                x[present], value, errors, fmt="o", ms=5, capsize=2.5, color=COLOURS[i % len(COLOURS)], label=row
            )
        axes.axhline(0.5, color="#888888", ls="--", lw=0.8)
        axes.axvline(0.5, color="#cccccc", lw=0.8)
        axes.set_xticks(range(len(metrics)), names, rotation=0 if len(metrics) < 9 else 60, fontsize=9)
        axes.set_title(protocol, fontsize=11)
        axes.set_ylabel("AUROC", fontsize=9)
        axes.set_ylim(top=1.02)
    handles, texts = panels[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=min(len(texts), 4), fontsize=9, frameon=False)
    save(figure, path)


Curve = Sequence[tuple[str, float, float, float]]


def plot_curves(
    path: Path, panels: Mapping[str, Mapping[str, Curve]], xlabels: Mapping[str, str], ylabel: str = "AUROC macro"
) -> None:
    """Scores over conditions with intervals, one panel per group of conditions, one colour per row.

    Args:
        path: PNG to write.
        panels: title to row to `(condition, value, low, high)` in the order to show.
        xlabels: title to what the conditions are; may miss some.
        ylabel: what the scores are.
    """
    columns = min(len(panels), 3)
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(max(4.2 * columns, 6.0), 3.5 * lines + 0.4), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for axes in grid.flatten()[len(panels) :]:
        axes.set_visible(False)
    for axes, (title, rows) in zip(grid.flatten(), panels.items(), strict=False):
        ticks = list(dict.fromkeys(point[0] for points in rows.values() for point in points))
        for i, (row, points) in enumerate(rows.items()):
            x = np.array([ticks.index(point[0]) for point in points]) + (i - (len(rows) - 1) / 2) * 0.1
            value, low, high = np.array([point[1:] for point in points]).T
            errors = np.clip([value - low, high - value], 0, None)
            axes.errorbar(
                x, value, errors, fmt="o-", ms=5, lw=1.4, capsize=2.5, color=COLOURS[i % len(COLOURS)], label=row
            )
        axes.axhline(0.5, color="#888888", ls="--", lw=0.8)
        long = max(map(len, ticks)) * len(ticks) > 34
        axes.set_xticks(
            range(len(ticks)), ticks, fontsize=9, rotation=30 if long else 0, ha="right" if long else "center"
        )
        axes.set_title(title, fontsize=11)
        axes.set_xlabel(xlabels.get(title, ""), fontsize=9)
    for axes in grid[:, 0]:
        axes.set_ylabel(ylabel, fontsize=9)
    handles, texts = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=min(len(texts), 4), fontsize=9, frameon=False)
    save(figure, path)


def plot_log(path: Path, log: Path, panels: Mapping[str, Sequence[str]]) -> None:
    """Curves of a run's `log.jsonl` against optimizer steps, one panel per quantity.

    Args:
        path: PNG to write.
        log: one JSON object a line, each with `step`.
        panels: title to the names drawn in it; names that were never logged are passed over.
    """
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    there = {title: [n for n in names if any(n in line for line in lines)] for title, names in panels.items()}
    there = {title: names for title, names in there.items() if names}
    columns = min(len(there), 3)
    rows = -(-len(there) // columns)
    figure = Figure(figsize=(3.9 * columns, 2.7 * rows), layout="constrained")
    axes_grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in axes_grid[len(there) :]:
        axes.set_visible(False)
    for axes, (title, names) in zip(axes_grid, there.items(), strict=False):
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
