"""The report page: self-contained HTML, a verdict first, then a figure, tables, further figures and the config."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from shared.evaluation.context import Picture
from shared.evaluation.report.tables import Table, format_parts
from shared.evaluation.report.verdict import Verdict
from shared.statistics.interval import Interval

MOST_OPEN = 18
"""Columns that a part shows at once; more are behind a click."""

SHOWN = 0.78
"""CSS pixels to a pixel of a picture: letters of a figure are as large as those of a caption, and sharp."""


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
    environment = Environment(
        loader=PackageLoader("shared.evaluation.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"parts": _parts, "embed": _embed, "minus": _minus}
    page = environment.get_template("page.html.jinja").render(
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
    return _minus(value), _minus(interval)


def _minus(text: str) -> str:
    return re.sub(r"(?<![^\s\[(])-(?=\d)", "−", text)


def _embed(picture: Picture) -> tuple[str, int]:
    """The picture as the address of its own content, and how wide it is shown at most, in CSS pixels."""
    content = picture.path.read_bytes()
    width = int.from_bytes(content[16:20], "big")  # of the PNG's first chunk
    return f"data:image/png;base64,{base64.b64encode(content).decode()}", round(width * SHOWN)
