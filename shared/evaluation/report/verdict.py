"""What a report says first, in one sentence that follows the interval; and its notes, each said once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shared.evaluation.context import RANDOM, Result
from shared.evaluation.report.tables import (
    direction,
    format_interval,
    headline,
    is_random,
    judge,
    metric_title,
    protocol_title,
)
from shared.statistics.interval import Interval

ORDER = ("finetune", "linear_probe", "attentive_probe", "knn", "knn_cosine")
"""Which protocol speaks first, decided beforehand and not by the scores; the others follow as they were asked for."""
WORDS = {"better": "better than", "worse": "worse than", "open": "not distinguishable from"}
NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w.]*\w)")


@dataclass(frozen=True)
class Verdict:
    """The top of a page.

    Attributes:
        sentence: score, interval, difference to a random encoder, and what follows.
        tone: `better`, `worse` or `open`, of that difference.
        more: a line for each further protocol.
    """

    sentence: str
    tone: str
    more: tuple[str, ...] = ()


def lead_first(results: Mapping[str, Result]) -> dict[str, Result]:
    """The results with the protocol that speaks first in front."""
    first = [protocol for protocol in ORDER if protocol in results]
    return {protocol: results[protocol] for protocol in [*first, *(p for p in results if p not in first)]}


def single_verdict(results: Mapping[str, Result], name: str) -> Verdict | None:
    """Of one evaluation; None where no protocol has a headline.

    Args:
        results: protocol to its scores.
        name: the row that is evaluated.
    """
    said = _say(results, lambda protocol: name)
    if not said:
        return None
    (sentence, tone), *more = said
    return Verdict(f"{sentence}.", tone, tuple(text for text, _ in more))


def comparison_verdict(
    results: Mapping[str, Result], difference: Callable[[str, str, str, str], Interval | None]
) -> Verdict | None:
    """Of several runs: the highest score by the leading protocol, and whether it can be told from the next.

    Args:
        results: protocol to its scores.
        difference: protocol, metric and two rows to the interval of their paired difference, where it can be had.
    """
    ranked = {protocol: rows for protocol, result in results.items() if (rows := rank_runs(protocol, result))}
    said = _say(results, lambda protocol: ranked[protocol][0] if protocol in ranked else None, only_random=True)
    if not said:
        return None
    (sentence, tone), *more = said
    protocol, rows = next(iter(ranked.items()))
    metric = headline(protocol, results[protocol])
    assert metric is not None
    if len(rows) > 1:
        sentence += f"; {rows[1]} follows with {format_interval(results[protocol].scores[rows[1]][metric])}"
        between = difference(protocol, metric, rows[0], rows[1])
        if between is not None:
            told = "cannot be told apart" if judge(metric, between) == "open" else "a difference"
            sentence += f" ({format_interval(between, '+')} between the two: {told})"
    lines = [f"Best: {text}" for text, _ in more]
    if len(rows) > 2:
        lines.append(f"The best of {len(rows)} is picked by test scores here; choose on validation scores.")
    return Verdict(f"Best: {sentence}.", tone, tuple(lines))


def rank_runs(protocol: str, result: Result) -> list[str]:
    """Runs by the headline of a protocol, best first; random encoders do not compete, and nobody where it has none."""
    metric = headline(protocol, result)
    if metric is None:
        return []
    values = {
        row: direction(metric) * scores[metric]["value"]
        for row, scores in result.scores.items()
        if metric in scores and not is_random(row) and not np.isnan(scores[metric]["value"])
    }
    return sorted(values, key=lambda row: -values[row])


def _say(
    results: Mapping[str, Result], row_of: Callable[[str], str | None], only_random: bool = False
) -> list[tuple[str, str]]:
    """Sentence and tone of each protocol that has a headline, of the row that `row_of(protocol)` names."""
    said = []
    for protocol, result in results.items():
        metric, row = headline(protocol, result), row_of(protocol)
        if metric is None or row is None or metric not in result.scores.get(row, {}):
            continue
        text = (
            f"{row}, {protocol_title(protocol)}: {metric_title(metric)} {format_interval(result.scores[row][metric])}"
        )
        tone = ""
        for base, rows in result.differences.items():
            if metric not in rows.get(row, {}) or (only_random and not is_random(base)):
                continue
            told = judge(metric, rows[row][metric])
            what, short = (f"a {RANDOM}", "random") if is_random(base) else (f"the {base}", "it")
            over = "over" if direction(metric) > 0 else "against"
            text += f", {format_interval(rows[row][metric], '+')} {over} {what}: {WORDS[told]} {short}"
            tone = told if is_random(base) else tone
        said.append((text if tone else f"{text}; no {RANDOM} to compare with", tone or "open"))
    return said


def merge_notes(said: Iterable[tuple[str, Sequence[str], Sequence[str]]]) -> list[str]:
    """Notes of several runs, each once, with whom it concerns where that is not everybody.

    Notes that differ by the row they speak of (`… of ROW: …`) and by one number are one: "linear probe: l2 = 0.001
    (ST-MEM), 0.01 (ECG-JEPA), chosen on validation".

    Args:
        said: of each run its name on this page, the names of its rows in its own notes, the run's first, and the notes.
    """
    runs = [(name, rows, list(dict.fromkeys(notes))) for name, rows, notes in said]
    groups: dict[tuple[str, bool], list[tuple[str, list[str]]]] = {}
    for name, own, notes in runs:
        rows = {row: name if row == own[0] else row if len(runs) == 1 else f"{row} of {name}" for row in own}
        for note in notes:
            row = next((row for row in rows if f" of {row}:" in note), None)
            text = note if row is None else note.replace(f" of {row}:", ":")
            spoken = groups.setdefault((NUMBER.sub("\0", text), row is not None), [])
            spoken.append((name if row is None else rows[row], NUMBER.findall(text)))
    return [
        text
        for (skeleton, of_row), spoken in groups.items()
        for text in _fill(skeleton, spoken, everybody=0 if of_row else len(runs))
    ]


def _fill(skeleton: str, spoken: Sequence[tuple[str, list[str]]], everybody: int) -> list[str]:
    """One sentence with each one's own number where one place differs; else one for each set of numbers.

    Args:
        skeleton: the sentence with its numbers taken out.
        spoken: who said it, and the numbers.
        everybody: how many speakers are all, who need not be named.
    """
    readings: dict[tuple[str, ...], list[str]] = {}
    for speaker, numbers in spoken:
        speakers = readings.setdefault(tuple(numbers), [])
        if speaker not in speakers:
            speakers.append(speaker)
    places = [i for i, column in enumerate(zip(*readings, strict=True)) if len(set(column)) > 1]
    once = sum(map(len, readings.values())) == len({speaker for speaker, _ in spoken})
    if len(places) == 1 and once:
        own = (f"{numbers[places[0]]} ({', '.join(speakers)})" for numbers, speakers in readings.items())
        first = list(next(iter(readings)))
        first[places[0]] = ", ".join(own)
        return [_put(skeleton, first)]
    return [
        _put(skeleton, numbers) + ("" if len(speakers) == everybody else f" ({', '.join(speakers)})")
        for numbers, speakers in readings.items()
    ]


def _put(skeleton: str, numbers: Sequence[str]) -> str:
    parts = skeleton.split("\0")
    return "".join(part + number for part, number in zip(parts, [*numbers, ""], strict=True))
