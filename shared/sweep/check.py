"""Every point of a sweep resolved and validated, before the first is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shared.config import Section, load_config
from shared.data.splits import Labelled
from shared.errors import UserError
from shared.evaluation.config import CommonSettings, EvaluateConfig
from shared.evaluation.ranking import Measure, find_measure, find_validation, require_same_validation
from shared.evaluation.study.check import require_usable
from shared.evaluation.study.job import Job
from shared.finetune.config import FinetuneConfig
from shared.programs import find_program
from shared.sweep.grid import Sweep

SHOWN = 5


def check_points(sweep: Sweep, points: Sequence[dict[str, str]]) -> tuple[dict[str, Job], Measure]:
    """Resolve the settings of these points, look for what they read, and find what ranks them.

    Returns:
        Name of each point to its job, and the measure.

    Raises:
        UserError: a point whose settings its program refuses, or whose store, weights, labels or validation records are not
            there; points with different validation records; a measure that the evaluation does not give.
    """
    checked: dict[str, Job] = {}
    wrong: dict[str, UserError] = {}
    for point in points:
        name = sweep.name(point)
        try:
            checked[name] = resolve(sweep, point)
        except UserError as error:
            wrong[name] = error
    _refuse(wrong, len(points))
    measure = find_measure(sweep.choose, [job.scored.protocols for job in checked.values()])
    opened: dict[Any, Labelled] = {}
    found: dict[str, str] = {}
    for name, job in checked.items():
        try:
            found[name] = find_validation(job.scored, measure, opened)
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


def resolve(sweep: Sweep, point: dict[str, str]) -> Job:
    """Validate the settings of a point as its program would, and of its evaluation; what it reads must be there.

    Raises:
        UserError: what the program would refuse.
    """
    name, folder, given = sweep.name(point), sweep.folder(point), settings_of(sweep, point)
    config: Section = load_config(find_program(sweep.program).config_class(), sweep.config, given, sweep.program)
    require_usable(config)
    scoring: list[str] | None = None
    if isinstance(config, CommonSettings):
        scored = config
    elif isinstance(config, FinetuneConfig):
        scored = config.as_evaluation()
    elif (own := getattr(config, "evaluate", None)) is not None:
        scored = own
    else:
        data: Any = getattr(config, "data", None)
        # Of several stores a run is scored on the one that the evaluation names itself.
        where = [] if isinstance(data.store, list) else [f"store={data.store}"]
        scoring = [sweep.evaluate, f"encoder.weights={folder}", *where]
        scored = load_config(EvaluateConfig, scoring[0], scoring[1:], sweep.scorer)
    return Job(name, None, folder, sweep.program, [sweep.config, *given], config, scored, scoring)


def settings_of(sweep: Sweep, point: Mapping[str, str]) -> list[str]:
    """`key=value` of a point, its run folder among them."""
    place = "out" if sweep.program == sweep.scorer else "run.out"
    return [*(f"{key}={value}" for key, value in point.items()), f"{place}={sweep.folder(dict(point))}"]
