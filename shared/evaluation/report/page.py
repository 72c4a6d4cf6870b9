"""The report page: self-contained HTML, a verdict first, then a figure, tables, further figures and the config."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.evaluation.context import Picture
from shared.evaluation.report.tables import Table, format_parts
from shared.evaluation.report.verdict import Verdict
from shared.plots.pages import minus, page_template
from shared.statistics.interval import Interval

MOST_OPEN = 18
"""Columns that a part shows at once; more are behind a click."""


@dataclass(frozen=True)
class Part:
    """A part of the page below its own heading.

    Attributes:
        title: the heading, and an entry of the contents.
        tables: shown first.
        figures: then these.
        text: a line below the heading.
        more, more_tables: what is behind a click.
        figures_first: a figure before the tables.
        compact: a table that a telephone shows without scrolling: few columns.
        open: shown at once, however many columns its tables have together.
    """

    title: str
    tables: Sequence[Table] = ()
    figures: Sequence[Picture] = ()
    text: str = ""
    more: Sequence[Picture] = ()
    more_tables: Sequence[Table] = ()
    figures_first: bool = False
    compact: bool = False
    open: bool = False

    @property
    def anchor(self) -> str:
        """The address of the part on the page."""
        return re.sub(r"\W+", "-", self.title.lower()).strip("-")

    @property
    def has_best(self) -> bool:
        """Whether the tables mark best values."""
        return any(cell.best for table in self.tables for line in table.lines for cell in line.cells)

    @property
    def is_wide(self) -> bool:
        """Whether the tables have more columns than are shown at once."""
        return not self.open and sum(len(table.columns) for table in self.tables) > MOST_OPEN


def write_report(
    path: Path,
    *,
    title: str,
    verdict: Verdict | None,
    facts: Mapping[str, str],
    notes: Sequence[str],
    parts: Sequence[Part],
    config: str,
) -> Path:
    """Write the page with its pictures inside; returns its path.

    Args:
        path: of the page.
        title: its heading.
        verdict: what it says first, in one sentence.
        facts: what was evaluated, name to text.
        notes: what a reader must know; those that begin with LEAK stand right below the verdict.
        parts: in order; those without a table and a figure are left out.
        config: as YAML.
    """
    template = page_template("shared.evaluation.report", "page.html.jinja")
    page = template.render(
        score_parts=_parts,
        title=title,
        verdict=verdict,
        facts=facts,
        leaks=[note for note in notes if note.startswith("LEAK")],
        notes=[note for note in notes if not note.startswith("LEAK")],
        parts=[part for part in parts if part.tables or part.figures or part.more],
        config=config,
    )
    path.write_text(page)
    return path


def _parts(score: Interval | None, sign: str = "") -> tuple[str, str]:
    """Value and interval with the minus of print."""
    value, interval = format_parts(score, sign)
    return minus(value), minus(interval)
