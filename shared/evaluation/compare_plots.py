"""Figures of a comparison: ROC curves, confusion matrices, and curves over conditions of every run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import auc, confusion_matrix, roc_curve

from shared.evaluation.context import Scores
from shared.evaluation.plots import COLOURS, plot_curves, save

MOST_CLASSES = 12
"""More classes than this make unreadable panels; the most frequent ones are drawn."""
CONDITIONS = {
    "label_fractions": ("Label efficiency", "share of training patients"),
    "reduced_leads": ("Reduced leads", "leads the encoder sees"),
}
"""Protocols with one score per condition, drawn as curves over the conditions; their titles and axes."""


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
    grid = figure.subplots(lines, columns, squeeze=False).flatten()
    for axes in grid[count:]:
        axes.set_visible(False)
    return figure, list(grid[:count])


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


def plot_conditions(path: Path, protocol: str, rows: Mapping[str, Scores]) -> bool:
    """Macro AUROC of every run over the conditions of `label_fractions` or `reduced_leads`.

    Args:
        path: PNG to write.
        protocol: a key of `CONDITIONS`.
        rows: run to its scores, `metric@condition`.

    Returns:
        Whether there was something to draw.
    """
    title, xlabel = CONDITIONS[protocol]
    panels = {}
    for panel, metric in ((title, "auroc_macro@"), (f"{title}, kNN", "knn/auroc_macro@")):
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
            panels[panel] = curves
    if panels:
        plot_curves(path, panels, dict.fromkeys(panels, xlabel))
    return bool(panels)
