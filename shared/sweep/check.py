"""Every point of a sweep resolved and validated, before the first is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.config import Section, load_config
from shared.data.splits import Labelled
from shared.errors import UserError, did_you_mean
from shared.evaluation.config import CommonSettings, EvaluateConfig
from shared.evaluation.protocols import PROTOCOLS
from shared.evaluation.scoring import CLASSIFICATION, CLASSIFICATION_HEADLINES, ON_VALIDATION
from shared.evaluation.study.check import open_once, require_usable
from shared.evaluation.study.measures import FINETUNE
from shared.evaluation.validation import describe_validation
from shared.finetune.config import FinetuneConfig
from shared.programs import find_program
from shared.statistics.bootstrap import Resamples, find_left_out
from shared.sweep.grid import Sweep

FIRST_CHOICE = "knn"
SHOWN = 5


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


@dataclass(frozen=True)
class Scoring:
    """How a point is scored.

    Attributes:
        config: of its evaluation.
        protocols: names of what its evaluation gives.
        arguments: of the program that evaluates it after its training; None: it evaluates itself.
    """

    config: CommonSettings
    protocols: tuple[str, ...]
    arguments: list[str] | None


def check_points(sweep: Sweep, points: Sequence[dict[str, str]]) -> tuple[dict[str, Scoring], Measure]:
    """Resolve the settings of these points, look for what they read, and find what ranks them.

    Returns:
        Name of each point to how it is scored, and the measure.

    Raises:
        UserError: a point whose settings its program refuses, or whose store, weights, labels or validation records are not
            there; points with different validation records; a measure that the evaluation does not give.
    """
    checked: dict[str, Scoring] = {}
    wrong: dict[str, UserError] = {}
    for point in points:
        name = sweep.name(point)
        try:
            checked[name] = resolve(sweep, point)
        except UserError as error:
            wrong[name] = error
    _refuse(wrong, len(points))
    measure = find_measure(sweep.choose, [scoring.protocols for scoring in checked.values()])
    opened: dict[Any, Labelled] = {}
    found: dict[str, str] = {}
    for name, scoring in checked.items():
        try:
            found[name] = find_validation(scoring.config, measure, opened)
        except UserError as error:
            wrong[name] = error
    _refuse(wrong, len(points))
    require_same_validation(found)
    return checked, measure


def _refuse(wrong: Mapping[str, UserError], num_points: int) -> None:
    if not wrong:
        return
    first, *others = wrong
    more = f" Refused as well: {', '.join(others[:SHOWN])}{' …' if len(others) > SHOWN else ''}." if others else ""
    raise UserError(
        f"{len(wrong)} of {num_points} points cannot run, so nothing was started. {first}: {wrong[first]}{more}"
    )


def resolve(sweep: Sweep, point: Mapping[str, str]) -> Scoring:
    """Validate the settings of a point as its program would, and of its evaluation; what it reads must be there.

    Raises:
        UserError: what the program would refuse.
    """
    program, folder = find_program(sweep.program), sweep.folder(dict(point))
    config = load_config(program.config_class(), sweep.config, settings_of(sweep, point), sweep.program)
    require_usable(config)
    if isinstance(config, CommonSettings):
        return Scoring(config, config.protocols, None)
    data: Any = getattr(config, "data", None)
    if isinstance(config, FinetuneConfig):
        return Scoring(config.as_evaluation(), (FINETUNE,), None)
    own: CommonSettings | None = getattr(config, "evaluate", None)
    if own is not None:
        return Scoring(own, own.protocols, None)
    # Of several stores a run is scored on the one that the evaluation names itself.
    where = [] if isinstance(data.store, list) else [f"store={data.store}"]
    arguments = [sweep.evaluate, f"encoder.weights={folder}", *where]
    scored: Section = load_config(EvaluateConfig, arguments[0], arguments[1:], sweep.scorer)
    assert isinstance(scored, CommonSettings)
    return Scoring(scored, scored.protocols, arguments)


def settings_of(sweep: Sweep, point: Mapping[str, str]) -> list[str]:
    """`key=value` of a point, its run folder among them."""
    place = "out" if sweep.program == sweep.scorer else "run.out"
    return [*(f"{key}={value}" for key, value in point.items()), f"{place}={sweep.folder(dict(point))}"]


def find_measure(choose: str | None, protocols: Sequence[Sequence[str]]) -> Measure:
    """The measure that `choose` names, among what all evaluations give.

    Args:
        choose: `PROTOCOL/METRIC`; None: kNN's first headline where it is there, else that of the first protocol.
        protocols: of each point's evaluation.

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
            f"choose={choose}: {protocol!r} is no protocol with validation scores that all evaluations run"
            f"{did_you_mean(protocol, usable)} Expected PROTOCOL/METRIC with a protocol of {', '.join(usable)}."
        )
    known = metrics_of(protocol)
    of_class = metric.startswith("auroc/") and "auroc_macro" in known
    if metric not in known and not of_class:
        raise UserError(
            f"choose={choose}: {protocol} has no metric {metric!r} on validation{did_you_mean(metric, known)} It has "
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
