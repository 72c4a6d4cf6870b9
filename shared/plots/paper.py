"""ECG paper: 25 mm/s, 10 mm/mV. Every ECG of a report is drawn here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator
from torch import Tensor

from shared.plots.charts import save

MM = 1 / 25.4
PAPER, GRID_MAJOR, GRID_MINOR = "#fffaf7", "#efa9a0", "#f8dcd6"
TRACE, MODEL, MASK = "#1b1b1b", "#0057b8", "#0057b8"


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
