"""Published figures beside ours: *published / ours / difference*, grey where the pretraining data differ or are not known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shared.evaluation.context import Context, Result
from shared.evaluation.following import Followed
from shared.evaluation.presets import EVERY_CLASS
from shared.evaluation.published import Published, read_published
from shared.evaluation.report.page import Part
from shared.evaluation.report.tables import Cell, Line, Table
from shared.statistics.interval import Interval, Scores

TITLE = "Beside published figures"
SOURCES = ["ptbxl"]
"""What the records of a store must be for the published figures to be of them."""


@dataclass(frozen=True)
class Entry:
    """A run of ours.

    Attributes:
        row: its name on the page.
        scores: protocol to the run's scores.
        followed: the preset; None: there is nothing to stand beside.
        weights: the file or folder that it started from.
        sources: of the test records.
        num_test: how many there are.
    """

    row: str
    scores: Mapping[str, Scores]
    followed: Followed | None
    weights: str | None
    sources: Sequence[str]
    num_test: int

    @classmethod
    def of(cls, context: Context, name: str, results: Mapping[str, Result], protocol: Followed | None) -> Entry:
        """The evaluated row of an evaluation."""
        scores = {p: result.scores[name] for p, result in results.items() if name in result.scores}
        weights, test = context.config.encoder.weights, context.indices[context.split.test]
        sources = sorted(context.store.records.source.iloc[test].unique())
        return cls(name, scores, protocol, None if weights is None else weights.name, sources, len(test))

    def beside(self) -> dict[str, Interval]:
        """Protocol in `published.csv` to the score of ours that it stands beside."""
        found: dict[str, Interval] = {}
        if self.followed is None or self.sources != SOURCES:
            return found
        for ours, published in self.followed.preset.parts[self.followed.part].published.items():
            protocol, at, condition = ours.partition("@")
            score = self.scores.get(protocol, {}).get(f"{EVERY_CLASS}{at}{condition}")
            if score is not None:
                found[published] = score
        return found

    def has_data_of(self, published: Published) -> bool:
        """Whether it was pretrained on the same data: by the authors themselves, or not at all on either side."""
        if self.followed is not None and self.followed.part == "scratch":
            return published.pretraining_data == "none"
        method = self.row.partition(",")[0].partition(" + ")[0].partition(" (")[0]
        released = self.weights is not None and self.weights.endswith(".pth")
        variant = "random" in published.model.lower() and "random" not in (self.weights or "").lower()
        return released and method in published.model and not variant


def published_part(entries: Sequence[Entry], task: str, single_label: bool) -> Part:
    """The part of the page; without tables, and so not shown, where no run follows a preset on PTB-XL.

    Args:
        entries: the runs of a page, which all have this task.
        task: a key of `TASKS` or a label column.
        single_label: whether records have exactly one label.
    """
    ours = {entry.row: (entry, entry.beside()) for entry in entries}
    protocols = list(dict.fromkeys(protocol for _, scores in ours.values() for protocol in scores))
    lines = [p for p in read_published() if p.stands_for(task, single_label)] if protocols else []
    tables, sources = [], []
    for protocol in protocols:
        of_protocol = sorted((p for p in lines if p.protocol == protocol), key=lambda p: -p.value)
        taking_part = [(entry, scores[protocol]) for entry, scores in ours.values() if protocol in scores]
        if of_protocol:
            tables.append(_table(protocol, of_protocol, taking_part))
            sources += [p.source for p in of_protocol]
    num = "; ".join(f"{entry.row}: {entry.num_test}" for entry, scores in ours.values() if scores)
    text = (
        "Macro AUROC over every class. Difference: ours minus published. Grey: pretrained on other data, or on data that are "
        "not known to be the same. Intervals of published figures are of their sources, whose levels differ. Test records here: "
        f"{num}; fewer than the whole fold are another test. Sources: {'; '.join(dict.fromkeys(sources))}."
    )
    return Part(TITLE, tables, text=text, open=True)


def _table(protocol: str, published: Iterable[Published], ours: Sequence[tuple[Entry, Interval]]) -> Table:
    single = len(ours) == 1
    columns = ["published"]
    for entry, _ in ours:
        columns += ["ours", "difference"] if single else [entry.row, f"{entry.row} − published"]
    lines = []
    for figure in published:
        cells = [Cell(_interval(figure.value, figure.low, figure.high))]
        for _, score in ours:
            cells += [Cell(score), Cell(_interval(score["value"] - figure.value), signed=True)]
        same = all(entry.has_data_of(figure) for entry, _ in ours)
        lines.append(Line(f"{figure.model} ({figure.pretraining_data})", "run" if same else "apart", tuple(cells)))
    return Table(protocol, tuple(columns), tuple(lines))


def _interval(value: float, low: float = np.nan, high: float = np.nan) -> Interval:
    return {"value": value, "low": low, "high": high, "n": 0}


def say_followed(protocol: Followed | None) -> str:
    """A line for the top of the page."""
    if protocol is None:
        return "none named: settings as in the configuration below"
    but = f"; other than it: {', '.join(protocol.deviations)}" if protocol.deviations else ", every setting as it says"
    num = len(protocol.preset.parts[protocol.part].apart)
    return f"{protocol.name} ({protocol.part}){but}" + (f"; {num} points not followed, see Notes" if num else "")
