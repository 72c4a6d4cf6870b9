"""Figures of scores with their intervals: all runs at a glance, by class and by condition."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from shared.plots.charts import GREYS, colours_of, legend_below, panels, save
from shared.statistics.interval import Interval, Scores


def plot_overview(
    path: Path,
    panels_of: Mapping[str, Mapping[str, Interval]],
    muted: Collection[str] = (),
    chance: Collection[str] = (),
) -> None:
    """Scores with intervals of all rows at a glance: rows are lines, one panel per score.

    Args:
        path: PNG to write.
        panels_of: title of the score to row to interval; rows keep the order of their first appearance.
        muted: rows in grey, open circles.
        chance: titles of the scores for which 0.5 is chance.
    """
    rows = list(dict.fromkeys(row for scores in panels_of.values() for row in scores))
    colours, room = colours_of(rows, muted), min(0.072 * max(map(len, rows)), 3.2)
    figure = Figure(figsize=(room + 2.6 * len(panels_of) + 0.3, 0.36 * len(rows) + 1.0), layout="constrained")
    grid = figure.subplots(1, len(panels_of), squeeze=False, sharey=True)[0]
    for axes, (title, scores) in zip(grid, panels_of.items(), strict=True):
        for y, row in enumerate(rows):
            if row not in scores:
                continue
            value, low, high = (scores[row][key] for key in ("value", "low", "high"))
            errors = np.clip([[value - low], [high - value]], 0, None)
            face, size, width = ("white", 5.5, 1.2) if row in muted else (colours[row], 7.0, 2.0)
            axes.errorbar(
                value, y, xerr=errors, fmt="o", color=colours[row], capsize=3, mfc=face, ms=size, elinewidth=width
            )
        if title in chance:
            axes.axvline(0.5, color="#888888", ls="--", lw=0.8)
        axes.set_title(title, fontsize=10)
        axes.grid(axis="x", color="#e8e8e8", lw=0.6)
        axes.set_axisbelow(True)
        axes.margins(x=0.08)
        axes.tick_params(labelsize=9, left=False)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
    # Scores of a kind stand on one scale.
    of_chance = [axes for axes, title in zip(grid, panels_of, strict=True) if title in chance]
    ends = np.array([axes.get_xlim() for axes in of_chance]).reshape(-1, 2)
    for axes in of_chance:
        axes.set_xlim(ends[:, 0].min(), ends[:, 1].max())
    grid[0].set_yticks(range(len(rows)), rows, fontsize=10)
    grid[0].set_ylim(len(rows) - 0.5, -0.5)
    for text, row in zip(grid[0].get_yticklabels(), rows, strict=True):
        text.set_color(GREYS[0] if row in muted else "#1d2530")
    save(figure, path)


def plot_conditions(path: Path, title: str, xlabel: str, rows: Mapping[str, Scores]) -> bool:
    """Macro AUROC of every run over the conditions of a protocol that has one score per condition.

    Args:
        path: PNG to write.
        title: of the curve.
        xlabel: what the conditions are.
        rows: run to its scores, `metric@condition`.

    Returns:
        Whether there was something to draw.
    """
    groups = {}
    for group, metric in ((title, "auroc_macro@"), (f"{title}, kNN", "knn/auroc_macro@")):
        curves = {
            row: [
                (name.removeprefix(metric), score["value"], score["low"], score["high"])
                for name, score in scores.items()
                if name.startswith(metric)
            ]
            for row, scores in rows.items()
        }
        curves = {row: points for row, points in curves.items() if points}
        if curves:
            groups[group] = curves
    if groups:
        plot_curves(path, groups, dict.fromkeys(groups, xlabel))
    return bool(groups)


def plot_scores(
    path: Path,
    results: Mapping[str, Mapping[str, Mapping[str, Interval]]],
    classes: Sequence[str],
    muted: Collection[str] = (),
) -> None:
    """AUROC per class with intervals, one panel per protocol, one colour per row.

    Args:
        path: PNG to write.
        results: protocol to row to metric to interval.
        classes: their names; those without a score are passed over.
        muted: rows in grey.
    """
    some = next(iter(next(iter(results.values())).values()))
    metrics = ["auroc_macro", *(f"auroc/{c}" for c in classes if f"auroc/{c}" in some)][:25]
    names = ["macro", *(m.removeprefix("auroc/") for m in metrics[1:])]
    columns = min(len(results), 3 if len(metrics) < 8 else 2)
    width = max(4.2, 0.12 * len(metrics) * max(4, len(next(iter(results.values())))) + 1.2)
    figure = Figure(figsize=(width * columns, 3.6 * -(-len(results) // columns)), layout="constrained")
    grid = panels(figure, len(results), columns, sharey=True)
    for axes, (protocol, rows) in zip(grid, results.items(), strict=True):
        colours = colours_of(rows, muted)
        for i, (row, scores) in enumerate(rows.items()):
            x = np.arange(len(metrics)) + (i - (len(rows) - 1) / 2) * 0.7 / len(rows)
            present = [j for j, m in enumerate(metrics) if m in scores]
            value, low, high = (
                np.array([scores[metrics[j]][key] for j in present]) for key in ("value", "low", "high")
            )
            errors = np.abs(np.stack([value - low, high - value]))
            axes.errorbar(x[present], value, errors, fmt="o", ms=5, capsize=2.5, color=colours[row], label=row)
        axes.axhline(0.5, color="#888888", ls="--", lw=0.8)
        axes.axvline(0.5, color="#cccccc", lw=0.8)
        axes.set_xticks(range(len(metrics)), names, rotation=0 if len(metrics) < 9 else 60, fontsize=9)
        axes.set_title(protocol.replace("_", " "), fontsize=11)
        axes.set_ylim(top=1.02)
    for axes in grid[::columns]:
        axes.set_ylabel("AUROC", fontsize=9)
    legend_below(figure, grid[0])
    save(figure, path)


Curve = Sequence[tuple[str, float, float, float]]


def plot_curves(
    path: Path, groups: Mapping[str, Mapping[str, Curve]], xlabels: Mapping[str, str], ylabel: str = "AUROC macro"
) -> None:
    """Scores over conditions with intervals, one panel per group of conditions, one colour per row.

    Args:
        path: PNG to write.
        groups: title to row to `(condition, value, low, high)` in the order to show.
        xlabels: title to what the conditions are; may miss some.
        ylabel: what the scores are.
    """
    columns = min(len(groups), 3)
    lines = -(-len(groups) // columns)
    figure = Figure(figsize=(max(4.2 * columns, 6.0), 3.5 * lines + 0.4), layout="constrained")
    grid = panels(figure, len(groups), columns, sharey=True)
    for axes, (title, rows) in zip(grid, groups.items(), strict=True):
        ticks = list(dict.fromkeys(point[0] for points in rows.values() for point in points))
        colours = colours_of(rows)
        for i, (row, points) in enumerate(rows.items()):
            x = np.array([ticks.index(point[0]) for point in points]) + (i - (len(rows) - 1) / 2) * 0.1
            value, low, high = np.array([point[1:] for point in points]).T
            errors = np.clip([value - low, high - value], 0, None)
            axes.errorbar(x, value, errors, fmt="o-", ms=5, lw=1.4, capsize=2.5, color=colours[row], label=row)
        axes.axhline(0.5, color="#888888", ls="--", lw=0.8)
        long = max(map(len, ticks)) * len(ticks) > 34
        axes.set_xticks(
            range(len(ticks)), ticks, fontsize=9, rotation=30 if long else 0, ha="right" if long else "center"
        )
        axes.set_title(title, fontsize=11)
        axes.set_xlabel(xlabels.get(title, ""), fontsize=9)
    for axes in grid[::columns]:
        axes.set_ylabel(ylabel, fontsize=9)
    legend_below(figure, grid[0])
    save(figure, path)
