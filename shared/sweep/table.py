"""The table of a sweep: one line per point, ranked on validation; test scores of the chosen point alone."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
from jinja2 import Environment, StrictUndefined

from shared.errors import UserError
from shared.evaluation.ranking import Measure, find_evaluation, find_measure, read_digest, read_score
from shared.evaluation.report.tables import format_interval, markdown_lines
from shared.evaluation.validation import VALIDATION_FILE
from shared.plots.ranks import plot_ranks
from shared.statistics.interval import Interval
from shared.sweep.grid import Sweep

NOT_FOR_CHOOSING = "not for choosing"


@dataclass(frozen=True)
class Line:
    """One point.

    Attributes:
        name: of the point.
        settings: varied key to value.
        evaluation: folder of its scores; None without any.
        validation: the score that ranks it.
        test: the same score on the test records.
        state: `chosen`, empty, or why it has no score.
    """

    name: str
    settings: dict[str, str]
    evaluation: Path | None
    validation: Interval | None
    test: Interval | None
    state: str = ""


def write_table(sweep: Sweep, measure: Measure, failed: Collection[str] = ()) -> Path | None:
    """Write `sweep.{csv,md,tex}` and `report.html`, and print the table.

    Args:
        sweep: its points have run.
        measure: what ranks them.
        failed: names of points whose scores, if there are any, are of an earlier time.

    Returns:
        The page; None where fewer than two points have a score.

    Raises:
        UserError: points that were scored on different validation records.
    """
    lines = rank(read_lines(sweep, measure, failed), measure)
    scored = [line for line in lines if line.validation is not None]
    if len(scored) < 2:
        for line in lines:
            print(f"{line.name}: {line.state or 'scored'}")
        print(f"fewer than two points have a score {measure.name} on validation: no table")
        return None
    said = describe(lines, measure, sweep.show_test)
    short = list(sweep.varied.values())
    table = shown_table(lines, short, measure, sweep.show_test)
    full_table(lines, measure, sweep.show_test).to_csv(sweep.out / "sweep.csv", index=False)
    (sweep.out / "sweep.tex").write_text(table.to_latex(escape=True, index=False))
    markdown = "\n".join([said[0], "", *markdown_lines(table), "", *(f"* {sentence}" for sentence in said[1:]), ""])
    (sweep.out / "sweep.md").write_text(markdown)
    drawn = [(line.name, line.validation) for line in lines if line.validation is not None]
    title = f"{measure.protocol} {measure.title} on validation"
    num_drawn = plot_ranks(sweep.out / "figures" / "validation.png", drawn, title)
    page = write_page(
        sweep, lines, table, said, f"{title}, 95 % intervals; {num_drawn} of {len(drawn)} points, the best on top."
    )
    print(f"\n{markdown}\nreport: {page}")
    return page


def measure_of(sweep: Sweep) -> Measure:
    """What ranks the points that were evaluated, whatever has become of their data and weights.

    Raises:
        UserError: none was, or what `find_measure` refuses.
    """
    folders = [folder for folder in map(find_evaluation, map(sweep.folder, sweep.points)) if folder is not None]
    if not folders:
        raise UserError(f"no point below {sweep.out} has scores yet: no table. Run the sweep without table=true.")
    return find_measure(sweep.choose, [json.loads((f / "summary.json").read_text())["protocols"] for f in folders])


def read_lines(sweep: Sweep, measure: Measure, failed: Collection[str]) -> list[Line]:
    """Every point with what it was scored; a failed one without.

    Raises:
        UserError: points that were scored on different validation records.
    """
    lines, records = [], {}
    for point in sweep.points:
        name, folder = sweep.name(point), find_evaluation(sweep.folder(point))
        settings = {key: point[key] for key in sweep.varied}
        if folder is None or name in failed:
            log = sweep.out / "logs" / f"{name}.txt"
            lines.append(
                Line(name, settings, None, None, None, f"no scores, see {log}" if log.is_file() else "not run")
            )
            continue
        validation, test = (read_score(folder / file, measure) for file in (VALIDATION_FILE, "metrics.json"))
        state = "" if validation is not None else f"no {measure.name} on validation, see {folder / 'report.html'}"
        lines.append(Line(name, settings, folder, validation, test, state))
        if validation is not None:
            records[name] = read_digest(folder)
    first = next(iter(records), "")
    others = [name for name, digest in records.items() if digest != records[first]]
    if others:
        raise UserError(
            f"{first} and {others[0]} were scored on different validation records or labels, so their scores cannot rank them: "
            "evaluate all points anew with the same task, folds and store."
        )
    return lines


def rank(lines: Sequence[Line], measure: Measure) -> list[Line]:
    """The best first, of equals the earlier; the first is chosen. Points without a score stand last."""
    sign = 1 if measure.lower_is_better else -1
    scored = [line for line in lines if line.validation is not None]
    scored.sort(key=lambda line: sign * line.validation["value"])  # type: ignore[index]
    best = [Line(**{**vars(line), "state": "chosen"}) for line in scored[:1]]
    return [*best, *scored[1:], *(line for line in lines if line.validation is None)]


def describe(lines: Sequence[Line], measure: Measure, show_test: bool) -> list[str]:
    """What a reader must know, the choice first; of lines in their ranks."""
    scored = [line for line in lines if line.validation is not None]
    best, value = scored[0], scored[0].validation
    assert value is not None
    test = f"its score on test is {format_interval(best.test)}" if best.test is not None else "it has no score on test"
    end = "lowest" if measure.lower_is_better else "highest"
    said = [
        f"Chosen of {len(scored)} points by {measure.name} on {value['n']} validation records: {best.name} with "
        f"{format_interval(value)}; {test}.",
        f"The {end} of {len(scored)} validation scores flatters its point; the test score was not used to choose it.",
    ]
    near = [line for line in scored[1:] if value["low"] <= line.validation["value"] <= value["high"]]  # type: ignore[index]
    if near:
        said.append(f"Scores within the interval of the chosen one: {len(near)} of {len(scored) - 1} others.")
    if value.get("optimistic"):
        said.append(f"On the validation records each point chose {value['optimistic']} too: their scores are too high.")
    if show_test:
        said.append(f"Test scores of the other points are shown on request and are {NOT_FOR_CHOOSING}.")
    if len(scored) < len(lines):
        missing = [line.name for line in lines if line.validation is None]
        said.append(f"{len(missing)} of {len(lines)} points have no score: {', '.join(missing)}.")
    return said


def shown_table(lines: Sequence[Line], short: Sequence[str], measure: Measure, show_test: bool) -> pd.DataFrame:
    """What is read: rank, settings, validation score, and the test score of the chosen point or, marked, of all."""
    rows = []
    for number, line in enumerate(lines, start=1):
        test = line.test if show_test or line.state == "chosen" else None
        mark = "" if line.state == "chosen" or test is None else f" ({NOT_FOR_CHOOSING})"
        has = line.validation is not None
        rows.append(
            [
                f"{number}" if has else "–",
                *line.settings.values(),
                format_interval(line.validation) if has else line.state,
                "–" if test is None else f"{format_interval(test)}{mark}",
            ]
        )
    title = f"{measure.protocol} {measure.title}"
    return pd.DataFrame(rows, columns=["rank", *short, f"validation: {title}", f"test: {title}"])


def full_table(lines: Sequence[Line], measure: Measure, show_test: bool) -> pd.DataFrame:
    """What is computed with: the same lines with full keys, plain numbers and folders."""
    rows = []
    for number, line in enumerate(lines, start=1):
        row: dict[str, Any] = {
            "rank": number if line.validation is not None else None,
            "point": line.name,
            **line.settings,
        }
        row["measure"] = measure.name
        shown = {"validation": line.validation, "test": line.test if show_test or line.state == "chosen" else None}
        for part, score in shown.items():
            row |= {f"{part}_{key}": None if score is None else score[key] for key in ("value", "low", "high", "n")}
        mark = NOT_FOR_CHOOSING if shown["test"] is not None and line.state != "chosen" else ""
        row |= {"test_is": mark, "state": line.state, "evaluation": line.evaluation or ""}
        rows.append(row)
    return pd.DataFrame(rows).astype({"rank": "Int64"})


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title><style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222 }
h1, p { overflow-wrap: anywhere }
table { border-collapse: collapse } .wide { overflow-x: auto }
th, td { padding: .35rem .7rem; text-align: left; border-bottom: 1px solid #ddd; font-variant-numeric: tabular-nums }
figure { margin: 1.5rem 0 } img { max-width: 100% } figcaption { color: #555; font-size: .9em }
@media (max-width: 600px) { body { margin: 1rem auto; padding: 0 .6rem } th, td { padding: .3rem .3rem; font-size: 13px } }
tr.chosen { background: #eef6ee; font-weight: 600 } pre { overflow-x: auto; background: #f6f6f6; padding: .7rem }
</style></head><body>
<h1>{{ title }}</h1>
<p><strong>{{ said[0] }}</strong> <a href="{{ chosen }}">Its page</a></p>
<ul>{% for sentence in said[1:] %}<li>{{ sentence }}</li>{% endfor %}</ul>
<figure><img src="data:image/png;base64,{{ figure }}" alt="{{ caption }}"><figcaption>{{ caption }}</figcaption></figure>
<div class="wide"><table><thead><tr>{% for head in heads %}<th>{{ head }}</th>{% endfor %}</tr></thead><tbody>
{% for state, cells in rows %}
<tr{% if state == "chosen" %} class="chosen"{% endif %}>{% for cell in cells %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
<h2>The same for all points</h2>
<pre>{{ common }}</pre>
</body></html>
"""


def write_page(sweep: Sweep, lines: Sequence[Line], table: pd.DataFrame, said: Sequence[str], caption: str) -> Path:
    """The figure and the table as a page of its own."""
    fixed = [f"{key}={values[0]}" for key, values in sweep.axes.items() if key not in sweep.varied]
    text = (
        Environment(autoescape=True, undefined=StrictUndefined)
        .from_string(PAGE)
        .render(
            title=f"Sweep of {Path(sweep.config).name}",
            said=said,
            heads=list(table.columns),
            figure=base64.b64encode((sweep.out / "figures" / "validation.png").read_bytes()).decode(),
            caption=caption,
            chosen=quote(f"{os.path.relpath(lines[0].evaluation or sweep.out, sweep.out)}/report.html"),
            rows=[(line.state, row) for line, row in zip(lines, table.itertuples(index=False), strict=True)],
            common="\n".join([f"{sweep.program} {sweep.config}", *fixed]),
        )
    )
    path = sweep.out / "report.html"
    path.write_text(text)
    return path
