"""Figures of scores: intervals by class and by condition, ROC curves, confusion matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import auc, confusion_matrix, roc_curve

from shared.plots.charts import COLOURS, panels, save
from shared.statistics.interval import Interval, Scores

MOST_CLASSES = 12
"""More classes than this make unreadable panels; the most frequent ones are drawn."""


def frequent_classes(truth: np.ndarray) -> list[int]:
    """Classes `[C]` that have both positives and negatives, at most `MOST_CLASSES`, in their own order."""
    counts = truth.sum(axis=0)
    both = np.flatnonzero((counts > 0) & (counts < len(truth)))
    return sorted(both[np.argsort(-counts[both], kind="stable")][:MOST_CLASSES].tolist())


def _panels(count: int, side: float, title: str) -> tuple[Figure, list[Axes]]:
    """A figure with `count` square panels of `side` inches, three in a row."""
    columns = min(3, count)
    lines = -(-count // columns)
    figure = Figure(figsize=(side * columns + 0.6, side * lines + 0.6), layout="constrained")
    figure.suptitle(title, fontsize=12)
    return figure, panels(figure, count, columns)


def _legend_below(figure: Figure, axes: Axes) -> None:
    """One legend below the panels, which all have the same rows; as many columns as their names leave room for."""
    handles, texts = axes.get_legend_handles_labels()
    columns = max(1, min(len(texts), int(figure.get_figwidth() / (0.6 + 0.075 * max(map(len, texts))))))
    figure.legend(handles, texts, loc="outside lower center", ncols=columns, fontsize=9, frameon=False)


def plot_roc(path: Path, truth: np.ndarray, rows: Mapping[str, np.ndarray], classes: Sequence[str], title: str) -> None:
    """ROC curves, one panel per class, one colour per run.

    Args:
        path: PNG to write.
        truth: `[n, C]` bool.
        rows: run to test scores `[n, C]`.
        classes: names of the columns.
        title: above the figure.
    """
    drawn = frequent_classes(truth)
    figure, grid = _panels(len(drawn), 3.6, title)
    for axes, c in zip(grid, drawn, strict=True):
        for i, (row, scores) in enumerate(rows.items()):
            far, tpr, _ = roc_curve(truth[:, c], scores[:, c])
            colour = COLOURS[i % len(COLOURS)]
            axes.plot(far, tpr, color=colour, lw=1.6, label=row)
            text = f"{auc(far, tpr):.3f}"
            axes.text(0.97, 0.05 + 0.075 * (len(rows) - 1 - i), text, color=colour, fontsize=9, ha="right")
        axes.plot((0, 1), (0, 1), color="#888888", ls="--", lw=0.8)
        axes.set_title(f"{classes[c]} ({int(truth[:, c].sum())} of {len(truth)})", fontsize=10)
        axes.set_xlabel("1 − specificity", fontsize=9)
        axes.set_ylabel("sensitivity", fontsize=9)
        axes.set_aspect("equal")
    handles, texts = grid[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=min(len(texts), 3), fontsize=9, frameon=False)
    save(figure, path)


def plot_confusion(
    path: Path, truth: np.ndarray, rows: Mapping[str, np.ndarray], classes: Sequence[str], title: str
) -> bool:
    """Confusion matrices of the records with exactly one label, the highest score being the answer, one panel per run.

    Args:
        path: PNG to write.
        truth: `[n, C]` bool.
        rows: run to test scores `[n, C]`.
        classes: names of the columns.
        title: above the figure.

    Returns:
        Whether there was something to draw: records with one label, of two classes at least.
    """
    single = truth.sum(axis=1) == 1
    labels = truth[single].argmax(axis=1)
    shown = [c for c in frequent_classes(truth) if (labels == c).any()]
    if len(shown) < 2:
        return False
    kept = np.isin(labels, shown)
    figure, grid = _panels(len(rows), 1.6 + 0.5 * len(shown), title)
    names = [classes[c] for c in shown]
    for axes, (row, scores) in zip(grid, rows.items(), strict=True):
        answers = np.array(shown)[scores[single][kept][:, shown].argmax(axis=1)]
        counts = confusion_matrix(labels[kept], answers, labels=shown)
        shares = counts / counts.sum(axis=1, keepdims=True)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (i, j), share in np.ndenumerate(shares):
            axes.text(
                j, i, f"{share:.0%}", ha="center", va="center", fontsize=8, color="white" if share > 0.55 else "black"
            )
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
        axes.set_yticks(
            range(len(names)), [f"{name} ({n})" for name, n in zip(names, counts.sum(axis=1), strict=True)], fontsize=8
        )
        axes.set_xlabel("answer", fontsize=9)
        axes.set_ylabel("label", fontsize=9)
        axes.set_title(row, fontsize=10)
    save(figure, path)
    return True


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
    grid = panels(figure, len(results), min(len(results), 2), sharey=True)
    for axes, (protocol, rows) in zip(grid, results.items(), strict=True):
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
    _legend_below(figure, grid[0])
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
    for axes in grid[::columns]:
        axes.set_ylabel(ylabel, fontsize=9)
    _legend_below(figure, grid[0])
    save(figure, path)
