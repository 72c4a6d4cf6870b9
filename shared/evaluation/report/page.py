"""The report page: self-contained HTML with scores, pictures and the config."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from shared.evaluation.context import Picture, Result
from shared.statistics.interval import Interval

MAIN_METRICS = {
    "auroc_macro": "AUROC macro",
    "auroc_weighted": "AUROC weighted",
    "auprc_macro": "AUPRC macro",
    "f1_macro": "F1 macro",
    "f1_weighted": "F1 weighted",
    "sensitivity_at_95_macro": "sensitivity at 95 % specificity",
    "ece_macro": "calibration error ↓",
    "labels/silhouette": "silhouette of the labels ↑",
    "labels/davies_bouldin": "Davies–Bouldin of the labels ↓",
    "labels/calinski_harabasz": "Calinski–Harabasz of the labels ↑",
    "kmeans/silhouette": "silhouette of k-means ↑",
    "kmeans/nmi": "NMI, k-means against labels",
    "kmeans/ami": "AMI, k-means against labels",
    "kmeans/ari": "ARI, k-means against labels",
}
"""What the page shows, and how it is called; `metrics.json` and `metrics.csv` have everything."""

OTHER_METRICS = {
    "auroc_macro_std": "AUROC macro, sd over draws",
    "auprc_macro_std": "AUPRC macro, sd over draws",
    "auroc": "AUROC",
    "mae": "mean absolute error ↓",
    "rmse": "root mean squared error ↓",
    "r2": "R²",
    "pearson": "Pearson correlation",
    "eer": "equal error rate ↓",
    "tar_at_1_far": "true accepts at 1 % false accepts",
    "rank_1": "rank-1 identification",
    "c_index": "C-index",
    "rankme": "RankMe ↑",
    "alpha_req": "alpha-ReQ (near 1 is best)",
    "alignment": "alignment ↓",
    "uniformity": "uniformity ↓",
}
"""Names of the metrics of protocols that have none of the main ones, so that all of theirs are shown."""


def scores_table(results: Mapping[str, Result]) -> pd.DataFrame:
    """Every score as one line: protocol, row, metric, value, low, high, n."""
    lines = []
    for protocol, result in results.items():
        groups = [*result.scores.items(), *((f"{row} − {result.baseline}", d) for row, d in result.differences.items())]
        for row, scores in groups:
            lines += [
                {
                    "protocol": protocol,
                    "row": row,
                    "metric": metric,
                    **{k: score[k] for k in ("value", "low", "high", "n")},
                }
                for metric, score in scores.items()
            ]
    return pd.DataFrame(lines)


def write_report(
    path: Path,
    *,
    title: str,
    facts: Mapping[str, str],
    notes: Sequence[str],
    results: Mapping[str, Result],
    figures: Sequence[Picture],
    config: str,
) -> Path:
    """Write the page with its pictures inside; returns its path."""
    environment = Environment(
        loader=PackageLoader("shared.evaluation.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    page = environment.get_template("page.html.jinja").render(
        title=title,
        facts=facts,
        leaks=[note for note in notes if note.startswith("LEAK")],
        notes=[note for note in notes if not note.startswith("LEAK")],
        tables={protocol: _table(result) for protocol, result in results.items()},
        figures=[(base64.b64encode(figure.path.read_bytes()).decode(), figure.caption) for figure in figures],
        config=config,
    )
    path.write_text(page)
    return path


def _table(result: Result) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Column heads and lines of one protocol's table."""
    some = next(iter(result.scores.values()))
    metrics = [m for m in MAIN_METRICS if m in some] or list(some)
    columns = [*result.scores, *(f"{row} − {result.baseline}" for row in result.differences)]
    lines = []
    for metric in metrics:
        cells = []
        for scores in (*result.scores.values(), *result.differences.values()):
            signed = "+" if any(scores is d for d in result.differences.values()) else ""
            score = scores.get(metric)
            cells.append(format_interval(score, signed) if score else "–")
        lines.append((metric_title(metric), cells))
    return columns, lines


def metric_title(metric: str) -> str:
    """How the page calls a metric: `auroc_macro@II` is "AUROC macro @ II", others keep their name without underscores."""
    base, at, condition = metric.partition("@")
    group, slash, name = base.rpartition("/")
    known = MAIN_METRICS.get(base) or f"{group}{slash}{OTHER_METRICS.get(name, MAIN_METRICS.get(name, name))}"
    return (known + (f" @ {condition}" if at else "")).replace("_", " ")


def format_interval(score: Interval, sign: str = "") -> str:
    """`0.812 [0.790, 0.833]`, with as many digits as the size of the value asks for."""
    digits = 3 if abs(score["value"]) < 100 else 1
    return f"{score['value']:{sign}.{digits}f} [{score['low']:{sign}.{digits}f}, {score['high']:{sign}.{digits}f}]"
