"""What ranks runs: scores of validation records, never of test records; and whether all were scored on the same."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.data.splits import Labelled
from shared.errors import UserError, did_you_mean
from shared.evaluation.config import CommonSettings
from shared.evaluation.context import open_once
from shared.evaluation.presets import FINETUNE
from shared.evaluation.protocols import PROTOCOLS
from shared.evaluation.scoring import CLASSIFICATION, CLASSIFICATION_HEADLINES, ON_VALIDATION
from shared.evaluation.validation import VALIDATION_FILE, describe_validation
from shared.statistics.bootstrap import Resamples, find_left_out
from shared.statistics.interval import Interval

FIRST_CHOICE = "knn"


@dataclass(frozen=True)
class Measure:
    """The validation score that ranks the points.

    Attributes:
        protocol: a key of `metrics_val.json`.
        metric: a key below it.
        title: of the metric, on the page.
    """

    protocol: str
    metric: str
    title: str

    @property
    def name(self) -> str:
        """As `choose=` takes it."""
        return f"{self.protocol}/{self.metric}"

    @property
    def lower_is_better(self) -> bool:
        """As its title says."""
        return "↓" in self.title


def find_measure(choose: str | None, protocols: Sequence[Sequence[str]], key: str = "choose") -> Measure:
    """The measure that `choose` names, among what all evaluations give.

    Args:
        choose: `PROTOCOL/METRIC`; None: kNN's first headline where it is there, else that of the first protocol.
        protocols: of each evaluation.
        key: what messages call `choose`.

    Raises:
        UserError: an evaluation does not give it, or nothing on validation.
    """
    given = {name for names in protocols for name in names}
    unknown = sorted(given - {*PROTOCOLS, FINETUNE})
    if unknown:
        raise UserError(
            f"unknown protocol {unknown[0]}{did_you_mean(unknown[0], PROTOCOLS)} It is named in `protocols`."
        )
    usable = [p for p in protocols[0] if all(p in names for names in protocols) and metrics_of(p)]
    if not usable:
        raise UserError(
            f"no protocol that all evaluations run ({', '.join(sorted(given))}) scores the validation records, so nothing can "
            f"rank the points; add one of {', '.join(p for p in PROTOCOLS if metrics_of(p))} to `protocols`."
        )
    if choose is None:
        protocol = FIRST_CHOICE if FIRST_CHOICE in usable else usable[0]
        metric = next(iter(metrics_of(protocol)))
    else:
        protocol, _, metric = choose.partition("/")
    if protocol not in usable:
        raise UserError(
            f"{key}={choose}: {protocol!r} is no protocol with validation scores that all evaluations run"
            f"{did_you_mean(protocol, usable)} Expected PROTOCOL/METRIC with a protocol of {', '.join(usable)}."
        )
    known = metrics_of(protocol)
    of_class = metric.startswith("auroc/") and "auroc_macro" in known
    if metric not in known and not of_class:
        raise UserError(
            f"{key}={choose}: {protocol} has no metric {metric!r} on validation{did_you_mean(metric, known)} It has "
            f"{', '.join(known)}{', auroc/CLASS' if 'auroc_macro' in known else ''}."
        )
    return Measure(protocol, metric, known.get(metric, f"AUROC {metric.partition('/')[2]}"))


def metrics_of(protocol: str) -> dict[str, str]:
    """The metrics that a protocol gives of validation records, and their titles, the headlines first; often none."""
    known = PROTOCOLS.get(protocol)
    if protocol != FINETUNE and (known is None or not known.validates):
        return {}
    headlines = CLASSIFICATION_HEADLINES if known is None else known.headlines
    titles = CLASSIFICATION if known is None else known.titles
    if "auroc_macro" in titles:
        titles = {metric: titles[metric] for metric in ON_VALIDATION}
    return {metric: titles[metric] for metric in (*headlines, *(m for m in titles if m not in headlines))}


def find_validation(config: CommonSettings, measure: Measure, opened: dict[Any, Labelled]) -> str:
    """The digest of an evaluation's validation records, once they can be scored.

    Raises:
        UserError: no store, no labels, no validation records, one patient, or no class that can be scored.
    """
    data = open_once(config, opened)
    val = data.split.val
    Resamples(data.patients[val], 1)
    if measure.metric in CLASSIFICATION or measure.metric.startswith("auroc/"):
        left_out = find_left_out(data.labels[val], data.task.classes, config.min_positives)
        name = measure.metric.partition("/")[2]
        if name and name not in set(data.task.classes) - set(left_out):
            raise UserError(
                f"choose={measure.name}: class {name!r} has no score on validation ({left_out.get(name, 'unknown')})."
            )
    return str(describe_validation(data)["digest"])


def require_same_validation(found: Mapping[str, str]) -> None:
    """Refuse points whose scores are of different records; `found` is the name of each to the digest of its own."""
    first = next(iter(found))
    others = [name for name, digest in found.items() if digest != found[first]]
    if others:
        raise UserError(
            f"{first} and {others[0]} would be scored on different validation records or labels, so their scores cannot rank "
            "them: give all points the same task, folds and records."
        )


def find_evaluation(folder: Path) -> Path | None:
    """Where a run's scores are, if it was evaluated with scores of the validation records."""
    found = [
        path
        for path in (folder, folder / "evaluation")
        if (path / "summary.json").is_file() and (path / VALIDATION_FILE).is_file()
    ]
    return found[0] if found else None


def read_score(path: Path, measure: Measure) -> Interval | None:
    """A measure in a report folder's `metrics.json` or `metrics_val.json`; None without a score."""
    score: Interval | None = json.loads(path.read_text()).get(measure.protocol, {}).get(measure.metric)
    return None if score is None or math.isnan(score["value"]) else score


def read_digest(evaluation: Path) -> str:
    """The digest of the validation records that a report folder was scored on."""
    return str(json.loads((evaluation / "summary.json").read_text())["validation"]["digest"])
