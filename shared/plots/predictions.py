"""Figures of predictions against labels: ROC curves, confusion matrices, calibration."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import auc, confusion_matrix, roc_curve

from shared.plots.charts import colours_of, legend_below, panels, save

MOST_CLASSES = 12
"""More classes than this make unreadable panels; the most frequent ones are drawn."""


PANELS = 3
"""Side by side; more go on further lines."""
UNIT_TICKS = {0.0: "0", 0.5: "0.5", 1.0: "1"}


def frequent_classes(truth: np.ndarray) -> list[int]:
    """Classes `[C]` that have both positives and negatives, at most `MOST_CLASSES`, in their own order."""
    counts = truth.sum(axis=0)
    both = np.flatnonzero((counts > 0) & (counts < len(truth)))
    return sorted(both[np.argsort(-counts[both], kind="stable")][:MOST_CLASSES].tolist())


def _panels(count: int, side: float, title: str) -> tuple[Figure, list[Axes]]:
    """A figure with `count` square panels of `side` inches, three in a row."""
    columns = min(PANELS, count)
    lines = -(-count // columns)
    figure = Figure(figsize=(side * columns + 0.6, side * lines + 0.6), layout="constrained")
    figure.suptitle(title, fontsize=12)
    return figure, panels(figure, count, columns)


def _unit_square(grid: Sequence[Axes], xlabel: str, ylabel: str) -> None:
    """Axes from 0 to 1 with few ticks, written at the outer panels only."""
    for i, axes in enumerate(grid):
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
        lowest, leftmost = i + PANELS >= len(grid), i % PANELS == 0
        for is_outer, set_ticks in ((lowest, axes.set_xticks), (leftmost, axes.set_yticks)):
            set_ticks([*UNIT_TICKS], [text if is_outer else "" for text in UNIT_TICKS.values()], fontsize=9)
        axes.set_xlabel(xlabel if lowest else "", fontsize=9)
        axes.set_ylabel(ylabel if leftmost else "", fontsize=9)


def plot_roc(
    path: Path,
    truth: np.ndarray,
    rows: Mapping[str, np.ndarray],
    classes: Sequence[str],
    title: str,
    muted: Collection[str] = (),
) -> None:
    """ROC curves, one panel per class, one colour per run.

    Args:
        path: PNG to write.
        truth: `[n, C]` bool.
        rows: run to test scores `[n, C]`.
        classes: names of the columns.
        title: above the figure.
        muted: rows in grey.
    """
    drawn = frequent_classes(truth)
    colours = colours_of(rows, muted)
    figure, grid = _panels(len(drawn), 3.3, title)
    for axes, c in zip(grid, drawn, strict=True):
        for i, (row, scores) in enumerate(rows.items()):
            far, tpr, _ = roc_curve(truth[:, c], scores[:, c])
            colour = colours[row]
            axes.plot(far, tpr, color=colour, lw=1.2 if row in muted else 1.7, label=row)
            text = f"{auc(far, tpr):.3f}"
            axes.text(0.97, 0.05 + 0.075 * (len(rows) - 1 - i), text, color=colour, fontsize=9, ha="right")
        axes.plot((0, 1), (0, 1), color="#888888", ls="--", lw=0.8)
        axes.set_title(f"{classes[c]} ({int(truth[:, c].sum())} of {len(truth)})", fontsize=10)
    _unit_square(grid, "1 − specificity", "sensitivity")
    legend_below(figure, grid[0])
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
    figure, grid = _panels(len(rows), 1.5 + 0.42 * len(shown), title)
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


CALIBRATION_GROUPS, LEAST_RECORDS = 8, 20
"""Points of a calibration curve at most, and about how many records each stands for at least."""


MOST_BARS = 3
"""Runs whose calibration is drawn with intervals; those of more would hide each other."""


def calibration_curve(truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What was predicted and what was seen, in groups of records of similar score.

    Args:
        truth: `[n]` bool.
        scores: `[n]`, probabilities. Tied ones stay together.

    Returns:
        mean score, share of positives, number of records, each `[groups]`, by rising score.
    """
    groups = int(np.clip(len(scores) // LEAST_RECORDS, 2, CALIBRATION_GROUPS))
    edges = np.unique(np.quantile(scores, np.linspace(0, 1, groups + 1)[1:-1]))
    group = np.searchsorted(edges, scores, side="right")
    counts = np.bincount(group)
    filled = counts > 0
    mean, share = (np.bincount(group, weights=x)[filled] / counts[filled] for x in (scores, truth))
    return mean, share, counts[filled]


def plot_calibration(
    path: Path,
    truth: np.ndarray,
    rows: Mapping[str, np.ndarray],
    classes: Sequence[str],
    title: str,
    muted: Collection[str] = (),
) -> bool:
    """Calibration curves: share of positives over mean score, one panel per class, one colour per run.

    Args:
        path: PNG to write.
        truth: `[n, C]` bool.
        rows: run to test scores `[n, C]`.
        classes: names of the columns.
        title: above the figure.
        muted: rows in grey.

    Returns:
        Whether there was something to draw: scores that are probabilities.
    """
    if any(scores.min() < 0 or scores.max() > 1 for scores in rows.values()):
        return False
    drawn, colours = frequent_classes(truth), colours_of(rows, muted)
    figure, grid = _panels(len(drawn), 3.3, title)
    for axes, c in zip(grid, drawn, strict=True):
        for row, scores in rows.items():
            mean, share, counts = calibration_curve(truth[:, c], scores[:, c])
            low, high = wilson_interval(share, counts)
            errors = np.clip([share - low, high - share], 0, None)
            lw, ms = (1.0, 3.0) if row in muted else (1.5, 4.5)
            bars = errors if len(rows) <= MOST_BARS else None
            axes.errorbar(mean, share, bars, fmt="o-", lw=lw, ms=ms, elinewidth=0.8, color=colours[row], label=row)
        axes.plot((0, 1), (0, 1), color="#888888", ls="--", lw=0.8)
        axes.set_title(f"{classes[c]} ({int(truth[:, c].sum())} of {len(truth)})", fontsize=10)
    _unit_square(grid, "mean score", "share of positives")
    legend_below(figure, grid[0])
    save(figure, path)
    return True


def wilson_interval(share: np.ndarray, counts: np.ndarray, z: float = 1.96) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval of observed shares of `counts` records (Wilson 1927): it stays within 0 and 1, at 0 and 1 too."""
    middle = (share + z**2 / (2 * counts)) / (1 + z**2 / counts)
    half = z / (1 + z**2 / counts) * np.sqrt(share * (1 - share) / counts + z**2 / (4 * counts**2))
    return middle - half, middle + half
