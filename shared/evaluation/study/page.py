"""The end of a study: `report.html`, `study.{csv,md,tex}`, and what they say."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined

from shared.config import to_yaml
from shared.evaluation.report.tables import markdown_lines
from shared.evaluation.study.measures import higher_is_better
from shared.evaluation.study.plan import Study
from shared.evaluation.study.results import MISSING, Found, collect, format_p, format_score, measure_title
from shared.evaluation.study.search import Searched, say_search
from shared.plots.ranks import plot_ranks
from shared.run_record import say_surroundings, surroundings
from shared.statistics.hierarchical import SeededScore
from shared.statistics.interval import Interval


def conclude(
    study: Study, missing: Mapping[str, str], notes: Sequence[str] = (), searches: Sequence[Searched] = ()
) -> Path | None:
    """Write the tables and the page, and print what they say; None where no row has scores.

    Args:
        study: its jobs have run.
        missing: name of each job without scores to the reason.
        notes: what a reader must know beside it.
        searches: what was found for rows with a space.
    """
    found = collect(study, missing, notes)
    if found is None:
        print("no row has scores: no table\n" + "\n".join(f"{name}: {why}" for name, why in missing.items()))
        return None
    scores, differences = score_table(found), difference_table(study, found)
    long_table(study, found, searches).to_csv(study.out / "study.csv", index=False)
    said = [*followed_protocols(study), *(say_search(study, searched) for searched in searches)]
    markdown = write_markdown(study, found, scores, differences, said)
    latex = scores.rename(columns=_plain).to_latex(
        escape=True, index=False, column_format="l" + "r" * (scores.shape[1] - 1)
    )
    (study.out / "study.tex").write_text(latex)
    page = write_page(study, found, scores, differences, said)
    print(f"\n{markdown}\nreport: {page}")
    return page


def _title(measure: str) -> str:
    return f"{measure_title(measure)} {'↑' if higher_is_better(measure) else '↓'}"


def _plain(column: str) -> str:
    return column.rstrip(" ↑↓")


def score_table(found: Found) -> pd.DataFrame:
    """Rows as lines, measures as columns: mean ± SD over seeds [interval over patients and seeds]."""
    lines = [
        [row, _num_seeds(of_row), *(format_score(of_row.get(m)) for m in found.measures)]
        for row, of_row in found.scores.items()
    ]
    return pd.DataFrame(lines, columns=["row", "seeds", *map(_title, found.measures)])


def difference_table(study: Study, found: Found) -> pd.DataFrame:
    """The same of each row minus the baseline, on the same seeds and draws."""
    lines = [
        [row, _num_seeds(of_row), *(format_score(of_row.get(m), "+") for m in found.measures)]
        for row, of_row in found.differences.items()
    ]
    return pd.DataFrame(lines, columns=[f"− {study.config.baseline}", "seeds", *map(_title, found.measures)])


def _num_seeds(scores: Mapping[str, SeededScore]) -> int:
    return max((score.seeds for score in scores.values()), default=0)


def hypothesis_table(found: Found) -> pd.DataFrame:
    """A line for each hypothesis."""
    lines = [
        [
            f"{c.hypothesis.row} − {c.hypothesis.than}",
            f"{measure_title(c.hypothesis.metric)}, {c.hypothesis.direction}",
            format_score(c.difference, "+"),
            format_p(c.difference.p) if c.difference is not None else "–",
            format_p(c.holm),
            c.verdict,
        ]
        for c in found.conclusions
    ]
    return pd.DataFrame(lines, columns=["difference", "claim", "found", "p", "p, Holm", "verdict"])


def long_table(study: Study, found: Found, searches: Sequence[Searched] = ()) -> pd.DataFrame:
    """What is computed with: every score and difference with plain numbers, then the hypotheses, then the searches."""
    lines = []
    for kind, table in (("score", found.scores), (f"minus {study.config.baseline}", found.differences)):
        for row, of_row in table.items():
            lines += [{"kind": kind, "row": row, "measure": m, **vars(score)} for m, score in of_row.items()]
    for c in found.conclusions:
        claim = {"kind": f"hypothesis: {c.hypothesis.direction} than {c.hypothesis.than}", "row": c.hypothesis.row}
        numbers = {} if c.difference is None else vars(c.difference)
        lines.append({**claim, "measure": c.hypothesis.metric, **numbers, "p_holm": c.holm, "verdict": c.verdict})
    for searched in searches:
        line: dict[str, object] = {
            "kind": "search on validation",
            "row": searched.row,
            "measure": searched.measure.name,
        }
        line |= {} if searched.score is None else {key: searched.score[key] for key in ("value", "low", "high", "n")}
        chosen = "" if searched.chosen is None else json.dumps(searched.chosen)
        lines.append({**line, "trials": searched.trials, "failed": searched.failed, "chosen": chosen})
    return pd.DataFrame(lines)


def method(study: Study, found: Found) -> str:
    """How the numbers were made, in words."""
    config = study.config
    num = len(found.conclusions)
    hypotheses = "the one hypothesis" if num == 1 else f"the {num} hypotheses"
    alone = " With one seed the intervals say nothing of other trainings." if len(config.seeds) == 1 else ""
    return (
        f"Mean ± standard deviation over seeds ({', '.join(map(str, config.seeds))}), with a 95 % interval over test patients "
        f"and seeds: {config.draws} draws of a hierarchical bootstrap, in which the {found.num_patients} patients of the "
        f"{found.num_records} test records are drawn with replacement, the same for all rows, and the mean over seeds from the "
        "t distribution of the seeds' spread. Differences are paired: same seeds, same draws of patients. p-values are "
        f"two-sided, from the same draws, and adjusted by Holm over {hypotheses} that the YAML declares; intervals are not "
        f"adjusted.{alone}"
    )


def followed_protocols(study: Study) -> list[str]:
    """What the published protocol is that rows follow, and where each deviates; nothing where none is named."""
    rows: dict[str, list[str]] = {}
    for job in study.jobs.values():
        if job.follows is not None:
            for note in job.follows.notes:
                of_note = rows.setdefault(note, [])
                of_note += [job.row] if job.row not in of_note else []
    everyone = list(dict.fromkeys(job.row for job in study.jobs.values()))
    return [note if of == everyone else f"{', '.join(of)}: {note}" for note, of in rows.items()]


def summary(found: Found) -> str:
    """How many hypotheses came out how."""
    verdicts = [c.verdict for c in found.conclusions]
    counts = [f"{verdicts.count(v)} {v}" for v in ("confirmed", "refuted", "undecided", MISSING) if v in verdicts]
    num = "One hypothesis" if len(verdicts) == 1 else f"{len(verdicts)} hypotheses"
    return f"{num}: {', '.join(counts)}." if verdicts else "No hypothesis was declared."


def write_markdown(
    study: Study, found: Found, scores: pd.DataFrame, differences: pd.DataFrame, said: Sequence[str]
) -> str:
    """`study.md`; returns its text. `said` is what more a reader must know of how it was made."""
    parts = [
        f"# {title_of(study)}",
        "",
        summary(found),
        "",
        *markdown_lines(scores),
        "",
        *markdown_lines(differences),
        "",
        method(study, found),
        "",
        *(f"* {note}" for note in said),
    ]
    if found.conclusions:
        parts += ["", *markdown_lines(hypothesis_table(found)), "", *(f"* {c.sentence}" for c in found.conclusions)]
    parts += ["", *(f"* {problem}" for problem in found.problems)] if found.problems else []
    text = "\n".join(parts) + "\n"
    (study.out / "study.md").write_text(text)
    return text


def title_of(study: Study) -> str:
    """Of the page."""
    size = f" ({study.config.size})" if study.config.sizes else ""
    return f"{study.config.title or study.name}{size}"


def write_page(
    study: Study, found: Found, scores: pd.DataFrame, differences: pd.DataFrame, said: Sequence[str]
) -> Path:
    """`report.html`: conclusions in short, a figure, the tables, how they were made, and a sentence for each hypothesis."""
    first, base = found.measures[0], study.config.baseline
    value = found.scores[base][first].value if first in found.scores.get(base, {}) else None
    figures = [
        draw(study, "scores", found.scores, first, measure_title(first), value),
        draw(study, "differences", found.differences, first, f"{measure_title(first)} − {base}", 0.0),
    ]
    environment = Environment(
        loader=PackageLoader("shared.evaluation.study", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["minus"] = lambda text: re.sub(r"(?<![^\s\[(])-(?=\d)", "−", text)
    text = environment.get_template("study.html.jinja").render(
        title=title_of(study),
        summary=summary(found),
        problems=found.problems,
        figures=[figure for figure in figures if figure is not None],
        tables=[("Scores", _cells(scores)), (f"Differences to {study.config.baseline}", _cells(differences))],
        method=method(study, found),
        said=said,
        hypotheses=_cells(hypothesis_table(found)),
        conclusions=[(c.verdict.replace(" ", "-"), c.sentence) for c in found.conclusions],
        made=say_surroundings(surroundings(torch.device("cpu"))),
        command=study.command,
        config=to_yaml(study.config),
    )
    path = study.out / "report.html"
    path.write_text(text)
    return path


Cell = tuple[str, str]
"""A cell's text, and the interval that stands below it."""


def _cells(table: pd.DataFrame) -> tuple[list[str], list[list[Cell]]]:
    """The heads, and lines of cells."""
    lines = [[str(cell).partition(" [") for cell in row] for row in table.itertuples(index=False)]
    return list(table.columns), [[(text, f"{mark.strip()}{rest}") for text, mark, rest in line] for line in lines]


def draw(
    study: Study,
    name: str,
    table: Mapping[str, Mapping[str, SeededScore]],
    measure: str,
    title: str,
    reference: float | None,
) -> tuple[str, str] | None:
    """A picture of one measure of all rows, as the address of its own content, and its caption; None without values.

    `reference` is the baseline's, beside which the others lie.
    """
    shown: list[tuple[str, Interval]] = [
        (row, {"value": s.value, "low": s.low, "high": s.high, "n": s.n})
        for row, of_row in table.items()
        if (s := of_row.get(measure)) is not None and not np.isnan(s.low)
    ]
    if not shown:
        return None
    path = study.out / "figures" / f"{name}.png"
    plot_ranks(path, shown, title, reference)
    content = base64.b64encode(path.read_bytes()).decode()
    return f"data:image/png;base64,{content}", f"{title}: mean over seeds, 95 % interval over patients and seeds."
