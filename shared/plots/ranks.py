"""One score of many runs, the best on top."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from shared.plots.charts import COLOURS, save
from shared.statistics.interval import Interval

MOST_SHOWN = 40


def plot_ranks(path: Path, rows: Sequence[tuple[str, Interval]], title: str, reference: float | None = None) -> int:
    """Draw values with their intervals, the first row on top and coloured.

    Args:
        path: PNG to write.
        rows: name and score, in their order.
        title: of the axis.
        reference: where the dotted line stands, in place of the first row's value; rows whose interval is not over it are coloured.

    Returns:
        How many were drawn, at most `MOST_SHOWN`.
    """
    shown = rows[:MOST_SHOWN]
    figure = Figure(figsize=(8, 1 + 0.24 * len(shown)), layout="constrained")
    axes = figure.subplots()
    for place, (_, score) in enumerate(shown):
        marked = place == 0 if reference is None else not score["low"] <= reference <= score["high"]
        colour = COLOURS[0] if marked else "#777777"
        axes.plot([score["low"], score["high"]], [place, place], color=colour, lw=2 if marked else 1)
        axes.plot(score["value"], place, "o", color=colour, ms=6 if marked else 4)
    axes.axvline(shown[0][1]["value"] if reference is None else reference, color=COLOURS[0], lw=0.8, ls=":")
    axes.set_yticks(range(len(shown)), [name if len(name) <= 48 else f"{name[:47]}…" for name, _ in shown], fontsize=8)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlabel(title, fontsize=9)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", color="#e8e8e8", lw=0.6)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    save(figure, path)
    return len(shown)
