"""The report page: self-contained HTML with scores, pictures and the config."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from shared.evaluation.context import Picture, Result
from shared.evaluation.protocols import PROTOCOLS
from shared.statistics.interval import Interval, Scores

TITLES = {metric: title for protocol in PROTOCOLS.values() for metric, title in protocol.titles.items()}
MAIN = tuple(dict.fromkeys(metric for protocol in PROTOCOLS.values() for metric in protocol.main))
"""What a table shows of results that have some of them; fine-tuning gives the same metrics as a protocol does."""


def scores_table(results: Mapping[str, Result]) -> pd.DataFrame:
    """Every score as one line: protocol, row, metric, value, low, high, n."""
    lines = []
    for protocol, result in results.items():
        for row, scores in (*result.scores.items(), *difference_columns(result).items()):
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


def difference_columns(result: Result) -> dict[str, Scores]:
    """`row − baseline` to its scores, baseline by baseline."""
    return {
        f"{row} − {baseline}": scores for baseline, rows in result.differences.items() for row, scores in rows.items()
    }


def _table(result: Result) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Column heads and lines of one protocol's table."""
    some = next(iter(result.scores.values()))
    metrics = [m for m in MAIN if m in some] or list(some)
    differences = difference_columns(result)
    columns = [(scores, "") for scores in result.scores.values()] + [(scores, "+") for scores in differences.values()]
    lines = [
        (metric_title(m), [format_interval(scores[m], sign) if m in scores else "–" for scores, sign in columns])
        for m in metrics
    ]
    return [*result.scores, *differences], lines


def metric_title(metric: str) -> str:
    """How the page calls a metric: `auroc_macro@II` is "AUROC macro @ II", others keep their name without underscores."""
    base, at, condition = metric.partition("@")
    group, slash, name = base.rpartition("/")
    known = TITLES.get(base) or f"{group}{slash}{TITLES.get(name, name)}"
    return (known + (f" @ {condition}" if at else "")).replace("_", " ")


def format_interval(score: Interval, sign: str = "") -> str:
    """`0.812 [0.790, 0.833]`, with as many digits as the size of the value asks for."""
    digits = 3 if abs(score["value"]) < 100 else 1
    return f"{score['value']:{sign}.{digits}f} [{score['low']:{sign}.{digits}f}, {score['high']:{sign}.{digits}f}]"
