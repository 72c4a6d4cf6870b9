"""What a study is refused for, before anything is trained."""

from __future__ import annotations

from typing import Any

from torch import nn

from shared.config import Section
from shared.data.spec import InputSpec
from shared.data.splits import Labelled
from shared.data.store import open_store
from shared.errors import UserError, did_you_mean
from shared.evaluation.context import open_once
from shared.evaluation.protocols import PROTOCOLS
from shared.evaluation.study.measures import measures_of
from shared.evaluation.study.plan import Study
from shared.evaluation.validation import digest_records
from shared.optim import OptimConfig, make_optimizer, make_schedule
from shared.statistics.bootstrap import Resamples, find_left_out


def require_usable(config: Section, made_later: bool = False) -> None:
    """Refuse a config whose optimizer, weights or store could not be used.

    Args:
        config: of a training or an evaluation.
        made_later: whether its weights come from a run that is still to be made.

    Raises:
        UserError: what its program would refuse once it runs.
    """
    optim = getattr(config, "optim", None)
    if isinstance(optim, OptimConfig):  # its optimizer and warm-up are tried on a model of one weight
        make_schedule(make_optimizer(nn.Linear(1, 1), optim), optim, steps_per_epoch=1000)
    weights = getattr(getattr(config, "encoder", None), "weights", None)
    if weights is not None and not made_later and not weights.exists():
        raise UserError(f"encoder.weights {weights} does not exist.")
    data: Any = getattr(config, "data", None)
    if data is not None and not hasattr(config, "encoder"):  # the input of a tuned encoder is the encoder's own
        spec = getattr(getattr(config, "model", None), "input", None)
        if isinstance(spec, InputSpec):
            open_store(data, spec)


def check_study(study: Study) -> None:
    """Hold every job, its test records and the hypotheses against what is there.

    Raises:
        UserError: what cannot run, rows with other test records, a metric that no evaluation gives.
    """
    wrong: dict[str, UserError] = {}
    for job in study.jobs.values():
        try:
            require_usable(job.config, made_later=job.after is not None)
        except UserError as error:
            wrong.setdefault(job.row, error)
    if wrong:
        first, *others = wrong
        more = f" Refused as well: {', '.join(others)}." if others else ""
        raise UserError(f"row {first} cannot run, so nothing was started: {wrong[first]}{more}")
    check_hypotheses(study)
    _check_records(study)


def check_hypotheses(study: Study) -> None:
    """Refuse an unknown protocol, and a metric that one of a hypothesis's rows does not get.

    Raises:
        UserError: naming it and the nearest.
    """
    config = study.config
    for protocol in config.evaluation.protocols:
        if protocol not in PROTOCOLS:
            raise UserError(
                f"evaluation.protocols: unknown {protocol!r}{did_you_mean(protocol, PROTOCOLS)} Expected some of "
                f"{', '.join(PROTOCOLS)}."
            )
    for hypothesis in config.hypotheses:
        given: list[set[str]] = []
        for row in (hypothesis.row, hypothesis.than or config.baseline):
            job = study.job_of(row, config.seeds[0])
            given.append({m for protocol in job.scored.protocols for m in measures_of(protocol)})
            if hypothesis.metric not in given[-1]:
                raise UserError(
                    f"hypotheses: {row} has no metric {hypothesis.metric!r}{did_you_mean(hypothesis.metric, given[-1])} "
                    f"A study can test: {', '.join(sorted(given[-1]))}."
                )


def _check_records(study: Study) -> None:
    """Refuse rows whose test records or labels differ, and labels that cannot be scored."""
    opened: dict[Any, Labelled] = {}
    digests: dict[str, str] = {}
    for job in study.jobs.values():
        if job.row not in digests:
            digests[job.row] = describe_test(open_once(job.scored, opened))
    first = study.config.baseline if study.config.baseline in digests else next(iter(digests))
    others = [row for row, digest in digests.items() if digest != digests[first]]
    if others:
        raise UserError(
            f"{others[0]} would be tested on other records or labels than {first}, so nothing was started: a study compares "
            "rows on the same test records. Give all rows the same store, task and folds."
        )
    for job in study.jobs.values():
        data = open_once(job.scored, opened)
        Resamples(data.patients[data.split.test], 1)
        find_left_out(data.labels[data.split.test], data.task.classes, job.scored.min_positives)


def describe_test(data: Labelled) -> str:
    """A digest of the test records, their classes and labels."""
    return digest_records(data, data.split.test, "|".join(data.task.classes).encode())
