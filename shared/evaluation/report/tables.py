"""The tables of a report: runs are lines, metrics are columns. The same for the page, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from shared.evaluation.context import RANDOM, Result
from shared.evaluation.protocols import PROTOCOLS
from shared.statistics.interval import Interval, Scores

TITLES = {metric: title for protocol in PROTOCOLS.values() for metric, title in protocol.titles.items()}
MAIN = tuple(dict.fromkeys(metric for protocol in PROTOCOLS.values() for metric in protocol.main))
"""What a table shows of results that have some of them; fine-tuning gives the same metrics as a protocol does."""
HEADLINES = tuple(dict.fromkeys(metric for protocol in PROTOCOLS.values() for metric in protocol.headlines))
"""What is printed of results that have some of them, and stands in the caption of a gain."""
UNRANKED = frozenset(metric for protocol in PROTOCOLS.values() for metric in protocol.unranked)
PER_CLASS = ("auroc", "auprc", "f1", "sensitivity", "specificity", "ppv", "sensitivity_at_95", "ece")
"""Groups of metrics that are one class's: `auroc/MI` is of the kind of `auroc_macro`."""
MOST_COLUMNS = 4
"""Of the main table: what a telephone shows without scrolling."""
MOST_DIFFERENCES = 2
"""Lines of differences between runs in the main table; more stand in the tables of the protocols."""


@dataclass(frozen=True)
class Cell:
    """A score with its paired difference to the line's random encoder.

    Attributes:
        score: None: this line has no such score.
        gain: None: there is no random encoder to compare with, or the line is one.
        told: what `judge` says of the gain, or of a score that is a difference.
        best: whether no other line that competes has a better value, whatever the intervals.
        signed: whether the score is a difference, written with its sign.
        text: what stands in place of a score.
    """

    score: Interval | None
    gain: Interval | None = None
    told: str = ""
    best: bool = False
    signed: bool = False
    text: str = ""


@dataclass(frozen=True)
class Line:
    """One line: `kind` is `run`, `random` (a random encoder), `difference` (of two runs) or `apart`; only runs compete.

    A line apart is a published score of a model with other pretraining data, or of unknown ones.
    """

    name: str
    kind: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """Lines of cells below the titles of their columns; `title` is empty where a protocol has one table."""

    title: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]


def is_random(row: str) -> bool:
    """Whether a row is a random encoder; a comparison has one of each run, `random encoder, RUN`."""
    return row == RANDOM or row.startswith(f"{RANDOM}, ")


def direction(metric: str) -> int:
    """1 where higher is better, −1 where lower is (its title says ↓), 0 where neither is or nothing is known."""
    base = metric.partition("@")[0]
    title = TITLES.get(base) or TITLES.get(base.rpartition("/")[2])
    if title is None or UNRANKED & {base, base.rpartition("/")[2]}:
        group, slash, _ = base.partition("/")
        return direction(f"{group}_macro") if slash and group in PER_CLASS else 0
    return -1 if "↓" in title else 1


def judge(metric: str, difference: Interval) -> str:
    """`better`, `worse` or `open`: a difference is one where its interval excludes 0."""
    low, high = sorted(direction(metric) * difference[key] for key in ("low", "high"))
    return "better" if low > 0 else "worse" if high < 0 else "open"


def tables_of(result: Result) -> list[Table]:
    """A protocol's tables: one, or one per metric where it has a score for each of many conditions or targets."""
    names = list(dict.fromkeys(m for scores in result.scores.values() for m in scores))
    chosen = [m for m in MAIN if m in names]
    if chosen:
        return [_table("", [(metric_title(m), m) for m in chosen], result)]
    groups: dict[str, list[tuple[str, str]]] = {}
    for metric in names:
        base, at, condition = metric.partition("@")
        target, slash, last = base.rpartition("/")
        if at:
            groups.setdefault(metric_title(base), []).append((condition.replace("_", " "), metric))
        elif slash and base not in TITLES and last in TITLES:
            groups.setdefault(metric_title(last), []).append((target.replace("_", " "), metric))
        else:
            groups.setdefault("", []).append((metric_title(metric), metric))
    return [_table(title, columns, result) for title, columns in groups.items()]


def main_table(results: Mapping[str, Result]) -> Table | None:
    """The first headline of each protocol, those first that come first in `results`; None where none has any."""
    parts: list[Table] = []
    for protocol, result in results.items():
        metric = headline(protocol, result)
        if metric is not None:
            parts.append(_table("", [(f"{protocol_title(protocol)}: {metric_title(metric)}", metric)], result))
    parts = parts[:MOST_COLUMNS]
    if not parts:
        return None
    kinds = {line.name: line.kind for part in parts for line in part.lines}
    if list(kinds.values()).count("difference") > MOST_DIFFERENCES:
        kinds = {name: kind for name, kind in kinds.items() if kind != "difference"}
    cells = [{line.name: line.cells[0] for line in part.lines} for part in parts]
    lines = [Line(name, kind, tuple(of.get(name, Cell(None)) for of in cells)) for name, kind in kinds.items()]
    return Table("", tuple(part.columns[0] for part in parts), tuple(lines))


def headline(protocol: str, result: Result) -> str | None:
    """The metric that stands for a protocol: a preset's, or the first that it declares as a headline and that was scored."""
    known = PROTOCOLS.get(protocol)
    scored = next(iter(result.scores.values()))
    if result.headline in scored:
        return result.headline
    return next((m for m in (HEADLINES if known is None else known.headlines) if m in scored), None)


def class_table(scores: Scores, gains: Scores, classes: Sequence[str], counts: Sequence[int]) -> Table:
    """One run's scores class by class: here classes are the lines.

    Args:
        scores: of the run; those of a class are called `auroc/MI`.
        gains: the run minus its random encoder.
        classes: their names.
        counts: test records with each.
    """
    groups = [g for g in PER_CLASS if any(f"{g}/{c}" in scores for c in classes)]
    lines = []
    for name, count in zip(classes, counts, strict=True):
        cells = [_cell(f"{g}/{name}", scores, gains) for g in groups]
        lines.append(Line(name, "run", (Cell(None, text=str(count)), *cells)))
    columns = (TITLES[f"{g}_macro"].replace(" macro", "") for g in groups)
    return Table("Class by class", ("test records", *columns), tuple(lines))


def _table(title: str, columns: Sequence[tuple[str, str]], result: Result) -> Table:
    """Runs with their random encoders as `result` orders them, then differences to what is no random encoder."""
    gains = {
        row: scores for base, rows in result.differences.items() if is_random(base) for row, scores in rows.items()
    }
    lines = [
        Line(
            row,
            "random" if is_random(row) else "run",
            tuple(_cell(m, scores, {} if is_random(row) else gains.get(row, {})) for _, m in columns),
        )
        for row, scores in result.scores.items()
    ]
    lines = _mark_best(lines, [direction(m) for _, m in columns])
    lines += [
        Line(f"{row} − {base}", "difference", tuple(_difference(m, scores) for _, m in columns))
        for base, rows in result.differences.items()
        if not is_random(base)
        for row, scores in rows.items()
        if not is_random(row)
    ]
    lines = [line for line in lines if line.kind != "difference" or any(cell.score for cell in line.cells)]
    return Table(title, tuple(name for name, _ in columns), tuple(lines))


def _cell(metric: str, scores: Scores, gains: Scores) -> Cell:
    gain = gains.get(metric)
    return Cell(scores.get(metric), gain, "" if gain is None else judge(metric, gain))


def _difference(metric: str, scores: Scores) -> Cell:
    score = scores.get(metric)
    return Cell(score, told="" if score is None else judge(metric, score), signed=True)


def _mark_best(lines: Sequence[Line], directions: Sequence[int]) -> list[Line]:
    """Mark the best value of each column among the runs, where there are several and one is better than another."""
    marked = [list(line.cells) for line in lines]
    for c, sign in enumerate(directions):
        of_line = {i: line.cells[c].score for i, line in enumerate(lines) if line.kind == "run"}
        values = {i: sign * score["value"] for i, score in of_line.items() if score and not np.isnan(score["value"])}
        if sign and len(set(values.values())) > 1:
            for i, value in values.items():
                marked[i][c] = replace(marked[i][c], best=value == max(values.values()))
    return [replace(line, cells=tuple(cells)) for line, cells in zip(lines, marked, strict=True)]


def scores_table(results: Mapping[str, Result]) -> pd.DataFrame:
    """Every score as one line: protocol, row, metric, value, low, high, n."""
    lines = [
        {"protocol": protocol, "row": row, "metric": metric, **{k: score[k] for k in ("value", "low", "high", "n")}}
        for protocol, result in results.items()
        for row, scores in (*result.scores.items(), *difference_columns(result).items())
        for metric, score in scores.items()
    ]
    return pd.DataFrame(lines)


def difference_columns(result: Result) -> dict[str, Scores]:
    """`row − baseline` to its scores, baseline by baseline."""
    return {
        f"{row} − {baseline}": scores for baseline, rows in result.differences.items() for row, scores in rows.items()
    }


def to_markdown(results: Mapping[str, Result]) -> str:
    """All tables, best values bold, random encoders and differences as lines of their own."""
    text: list[str] = []
    for title, table in _titled(results):
        text += [f"## {title}", "", "| | " + " | ".join(table.columns) + " |", "|---" * (1 + len(table.columns)) + "|"]
        text += [f"| {name} | " + " | ".join(cells) + " |" for name, cells in _written(table, "**", "**")]
        text.append("")
    return "\n".join(text)


def to_latex(results: Mapping[str, Result]) -> str:
    """The same for a paper (needs booktabs)."""
    text: list[str] = []
    for title, table in _titled(results):
        lines = {_escape(name): [_escape(cell) for cell in cells] for name, cells in _written(table, "\0", "\1")}
        columns = [_escape(column) for column in table.columns]
        frame = pd.DataFrame.from_dict(lines, orient="index", columns=columns)
        latex = frame.to_latex(escape=False, column_format="l" + "r" * len(columns))
        text += [f"% {title}", latex.replace("\0", r"\textbf{").replace("\1", "}")]
    return "\n".join(text)


def _titled(results: Mapping[str, Result]) -> list[tuple[str, Table]]:
    return [
        (f"{protocol_title(protocol)}{': ' if table.title else ''}{table.title}", table)
        for protocol, result in results.items()
        for table in tables_of(result)
    ]


def _written(table: Table, begin: str, end: str) -> Iterable[tuple[str, list[str]]]:
    """Lines as text; the gain of each run stands in a line below it."""
    for line in table.lines:
        cells = [format_interval(cell.score, "+" if cell.signed else "") for cell in line.cells]
        yield line.name, [f"{begin}{t}{end}" if c.best else t for t, c in zip(cells, line.cells, strict=True)]
        if any(cell.gain for cell in line.cells):
            yield f"{line.name} − {RANDOM}", [format_interval(cell.gain, "+") for cell in line.cells]


def _escape(text: str) -> str:
    for letter in "&%_#$":
        text = text.replace(letter, f"\\{letter}")
    return text.replace("↓", r"$\downarrow$").replace("↑", r"$\uparrow$").replace("−", "$-$")


def protocol_title(protocol: str) -> str:
    """`linear_probe` is "linear probe", `knn` is "kNN"."""
    return protocol.replace("_", " ").replace("knn", "kNN")


def heading(protocol: str) -> str:
    """`linear_probe` is "Linear probe"."""
    title = protocol_title(protocol)
    return title if title.startswith("k") else title[0].upper() + title[1:]


def metric_title(metric: str) -> str:
    """How the page calls a metric: `auroc_macro@II` is "AUROC macro @ II", others keep their name without underscores."""
    base, at, condition = metric.partition("@")
    group, slash, name = base.rpartition("/")
    known = TITLES.get(base) or f"{group}{slash}{TITLES.get(name, name)}"
    return (known + (f" @ {condition}" if at else "")).replace("_", " ")


def format_interval(score: Interval | None, sign: str = "") -> str:
    """`0.812 [0.790, 0.833]`, with as many digits as the size of the value asks for; "–" where there is no score."""
    value, interval = format_parts(score, sign)
    return f"{value} {interval}".strip()


def format_parts(score: Interval | None, sign: str = "") -> tuple[str, str]:
    """The value and its interval, each as text; the interval is empty where there is none."""
    if score is None or np.isnan(score["value"]):
        return "–", ""
    digits = 3 if abs(score["value"]) < 100 else 1
    value, low, high = (f"{score[key]:{sign}.{digits}f}" for key in ("value", "low", "high"))
    return value, "" if np.isnan(score["low"]) else f"[{low}, {high}]"


def markdown_lines(table: pd.DataFrame) -> list[str]:
    """The lines of a Markdown table."""
    cells = [[str(cell).replace("|", r"\|") for cell in row] for row in table.itertuples(index=False)]
    head = [f"| {' | '.join(table.columns)} |", "|---" * table.shape[1] + "|"]
    return [*head, *(f"| {' | '.join(row)} |" for row in cells)]
