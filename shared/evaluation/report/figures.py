"""Figures that both pages have: all rows at a glance, ROC curves, confusion matrices and calibration of a protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from shared.evaluation.context import Picture, Result
from shared.evaluation.report.tables import MOST_COLUMNS, headline, is_random, metric_title, protocol_title
from shared.plots.predictions import MOST_BARS, plot_calibration, plot_confusion, plot_roc
from shared.plots.scores import plot_overview, plot_scores


def draw_overview(folder: Path, results: Mapping[str, Result]) -> Picture | None:
    """The headline of each protocol with intervals, for the top of a page; None where no protocol has one."""
    found = {protocol: metric for protocol, result in results.items() if (metric := headline(protocol, result))}
    titles = {p: f"{protocol_title(p)}\n{metric_title(m)}" for p, m in list(found.items())[:MOST_COLUMNS]}
    scores = {
        titles[p]: {row: own[found[p]] for row, own in results[p].scores.items() if found[p] in own} for p in titles
    }
    if not scores:
        return None
    rows = {row for own in scores.values() for row in own}
    chance = [title for p, title in titles.items() if found[p].startswith("auroc")]
    plot_overview(folder / "overview.png", scores, [row for row in rows if is_random(row)], chance)
    dashed = "; the dashed line is chance" if chance else ""
    return Picture(folder / "overview.png", f"Scores with 95 % intervals, random encoders as open circles{dashed}.")


def draw_per_class(folder: Path, results: Mapping[str, Result], classes: Sequence[str]) -> Picture | None:
    """AUROC per class of every protocol that has one."""
    scores = {p: r.scores for p, r in results.items() if any("auroc_macro" in own for own in r.scores.values())}
    if not scores:
        return None
    path, muted = folder / "auroc_per_class.png", [row for own in scores.values() for row in own if is_random(row)]
    plot_scores(path, {protocol_title(p): own for p, own in scores.items()}, classes, muted)
    return Picture(path, "AUROC per class with 95 % intervals; the dashed line is chance.")


def draw_predictions(
    folder: Path, protocol: str, truth: np.ndarray, rows: Mapping[str, np.ndarray], classes: Sequence[str]
) -> list[Picture]:
    """ROC curves, calibration and confusion matrices of one protocol.

    Args:
        folder: where to write.
        protocol: its name.
        truth: `[n, C]` bool, test labels.
        rows: run to test scores `[n, C]`.
        classes: `C` names.
    """
    name, muted = protocol_title(protocol), [row for row in rows if is_random(row)]
    if not any(0 < positives < len(truth) for positives in truth.sum(axis=0)):
        return []
    path = folder / f"roc_{protocol}.png"
    plot_roc(path, truth, rows, classes, f"ROC curves, {name}", muted)
    figures = [Picture(path, f"ROC curves of {name}, test records; numbers are areas.")]
    path = folder / f"calibration_{protocol}.png"
    if plot_calibration(path, truth, rows, classes, f"Calibration, {name}", muted):
        bars = ", with 95 % intervals of the share" if len(rows) <= MOST_BARS else ""
        caption = f"groups of records of similar score{bars}; on the dashed line scores are probabilities"
        figures.append(Picture(path, f"Calibration of {name}: {caption}."))
    path = folder / f"confusion_{protocol}.png"
    if plot_confusion(path, truth, rows, classes, f"Confusion, {name}"):
        caption = "records with one label, the highest score being the answer; rows sum to 100 %"
        figures.append(Picture(path, f"Confusion matrices of {name}: {caption}."))
    return figures
