"""ECG paper: 25 mm/s, 10 mm/mV. Every ECG of a report is drawn here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from shared.leads import is_lead
from shared.plots.charts import save

MM = 1 / 25.4
PAPER, GRID_MAJOR, GRID_MINOR = "#fffaf7", "#efa9a0", "#f8dcd6"
TRACE, MODEL, MASK = "#1b1b1b", "#0057b8", "#0057b8"
OTHERS_MM = 20
"""Height of a row that is no lead."""
LABEL = {"facecolor": "white", "alpha": 0.7, "lw": 0, "pad": 0.8}


def plot_ecg(
    path: Path,
    ecg: Tensor | np.ndarray,
    *,
    fs: float,
    leads: Sequence[str],
    title: str,
    model: Tensor | np.ndarray | None = None,
    mask: Tensor | np.ndarray | None = None,
    labels: Sequence[str] | None = None,
    legend: str = "",
    seconds: float = 5.0,
) -> None:
    """A record, and what a model makes of it, on ECG paper in two columns of leads; no lead covers another.

    Args:
        path: PNG to write.
        ecg: `[L, T]`, mV; rows that are none of the twelve leads in any unit, each is drawn at its own scale.
        fs: Hz.
        leads: names of the rows.
        title: above the figure.
        model: `[L, T]`, mV, drawn over the record.
        mask: `[L, T]` bool, True = masked: shaded, and the only stretches in which the model is drawn.
        labels: what stands at each lead; None: its name.
        legend: what the model's line is.
        seconds: how much of the record is drawn.
    """
    shown = min(np.shape(ecg)[1], round(seconds * fs))
    lines = [np.asarray(x)[:, :shown] for x in (ecg, model) if x is not None]
    middle = np.median(lines[0], axis=1, keepdims=True)
    others = np.array([not is_lead(name) for name in leads])
    size = np.where(others, np.maximum(np.ptp(lines[0], axis=1), 1e-9) / OTHERS_MM * 10, 1.0)[:, None]
    lines = [(line - middle) / size for line in lines]
    hidden = None if mask is None else np.asarray(mask)[:, :shown].astype(bool)
    if hidden is not None and len(lines) > 1:
        lines[1] = np.where(hidden, lines[1], np.nan)
    both = np.stack(lines)  # [1 or 2, L, shown]
    above, below = (np.maximum(np.nanmax(x, axis=(0, 2)), 0.4) + 0.25 for x in (both, -both))
    figure, columns = _paper(len(leads), shown / fs, above + below, title, footer=bool(legend))
    time = np.arange(shown) / fs
    for axes, rows in columns:
        # Every lead gets the room it needs, and an equal part of what is left.
        top = axes.get_ylim()[1]
        spare = (top - sum(above[i] + below[i] for i in rows)) / len(rows)
        for i in rows:
            base, bottom = top - spare / 2 - above[i], top - spare - above[i] - below[i]
            if hidden is not None:
                axes.fill_between(time, bottom, top, where=hidden[i], color=MASK, alpha=0.07, lw=0, step="mid")
            for line, colour in zip(both[:, i], (TRACE, MODEL), strict=False):
                axes.plot(time, line + base, color=colour, lw=0.9)
            text = leads[i] if labels is None else labels[i]
            axes.text(0.04, top - 0.1, text, fontsize=8, va="top", weight="bold", bbox=LABEL, zorder=1.5)
            top = bottom
    if legend:
        recorded = "recorded" if others.all() else "ECG"
        handles = [Line2D([], [], color=TRACE, lw=1, label=recorded), Line2D([], [], color=MODEL, lw=1.4, label=legend)]
        figure.legend(handles=handles, loc="lower left", ncols=2, fontsize=8, frameon=False)
    scale = "each row at its own scale" if others.all() else "10 mm/mV"
    figure.text(0.99, 0.012, f"25 mm/s, {scale}", fontsize=8, ha="right")
    save(figure, path)


def _paper(
    num_leads: int, seconds: float, room: np.ndarray, title: str, footer: bool
) -> tuple[Figure, list[tuple[Axes, range]]]:
    """A figure with one or two columns of ECG paper, as high as the fuller column needs, and the leads of each.

    Args:
        num_leads: more than three take two columns.
        seconds: width of a column.
        room: `[L]`, mV that each lead needs.
        title: above.
        footer: whether to leave a line below.
    """
    columns = 2 if num_leads > 3 else 1
    per_column = -(-num_leads // columns)
    rows_of = [range(c * per_column, min((c + 1) * per_column, num_leads)) for c in range(columns)]
    millivolts = np.ceil(2 * max(room[list(rows)].sum() for rows in rows_of)) / 2  # whole large squares
    foot = 12 if footer else 8
    width, height = columns * (25 * seconds + 4) + 2, millivolts * 10 + foot + 10  # mm
    figure = Figure(figsize=(width * MM, height * MM))
    figure.suptitle(title, fontsize=10, x=0.01, ha="left", y=1 - 3 / height)
    grid = []
    for column, rows in enumerate(rows_of):
        left = (3 + column * (25 * seconds + 4)) / width
        axes = figure.add_axes((left, foot / height, 25 * seconds / width, millivolts * 10 / height))
        draw_paper(axes, seconds, millivolts)
        grid.append((axes, rows))
    return figure, grid


def draw_paper(axes: Axes, seconds: float, millivolts: float) -> None:
    """ECG paper: 1 mm and 5 mm lines at 25 mm/s and 10 mm/mV."""
    axes.set_xlim(0, seconds)
    axes.set_ylim(0, millivolts)
    axes.set_facecolor(PAPER)
    axes.set_xticks([])
    axes.set_yticks([])
    # Two collections of lines: as ticks, the grid would take most of the time of a figure.
    for every, colour, lw in ((1, GRID_MINOR, 0.35), (5, GRID_MAJOR, 0.6)):
        x, y = (np.arange(0, end + 1e-9, every * mm) for end, mm in ((seconds, 0.04), (millivolts, 0.1)))
        lines = [*(((t, 0), (t, millivolts)) for t in x), *(((0, v), (seconds, v)) for v in y)]
        axes.add_collection(LineCollection(lines, colors=colour, linewidths=lw, zorder=0.5), autolim=False)
    for spine in axes.spines.values():
        spine.set_color(GRID_MAJOR)
