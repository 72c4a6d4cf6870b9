"""Searching a row's settings: trials are trained with the first seed and ranked on validation; no test score is read.

Trials are kept in `search.journal` (Optuna's journal) in the study's folder, so that a search goes on where it stopped. Each
trial's draw has a seed of its own: with one process at a time, a search that was stopped ends as one that was not.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from shared.data.splits import Labelled
from shared.errors import UserError
from shared.evaluation.context import open_once
from shared.evaluation.ranking import (
    Measure,
    find_evaluation,
    find_measure,
    find_validation,
    read_digest,
    read_score,
    require_same_validation,
)
from shared.evaluation.report.tables import format_interval
from shared.evaluation.study.check import describe_test, require_usable
from shared.evaluation.study.config import SearchPart, Settings, Space
from shared.evaluation.study.job import Job, is_done, run_job
from shared.evaluation.study.plan import Study, folder_name, plan_job, plan_study
from shared.evaluation.study.running import run_study, store_of
from shared.evaluation.validation import VALIDATION_FILE
from shared.jobs import run_jobs
from shared.statistics.interval import Interval

JOURNAL = "search.journal"


@dataclass(frozen=True)
class Searched:
    """What a search found for a row.

    Attributes:
        row: its name.
        measure: what ranked its trials.
        trials: how many were run.
        failed: of these, how many have no score.
        chosen: the best one's settings; None: none has a score.
        score: its score on validation.
        why: why there is none.
    """

    row: str
    measure: Measure
    trials: int
    failed: int
    chosen: Settings | None = None
    score: Interval | None = None
    why: str = ""


def check_search(study: Study) -> dict[str, Measure]:
    """Row to what ranks its trials, once the ends of its space are known to run.

    Raises:
        UserError: no Optuna, a metric that validation records have no score of, settings that a program refuses, trials that
            would be scored on different validation records.
    """
    part, opened = study.config.search, dict[Any, Labelled]()
    if part is None:
        return {}
    _optuna()
    if part.metric.partition("/")[0].startswith("test"):
        raise UserError(
            f"search.metric={part.metric}: a search never looks at test records. Name PROTOCOL/METRIC, whose score on "
            "validation is taken."
        )
    found: dict[str, Measure] = {}
    for row in study.config.searched:
        digests, tests = dict[str, str](), dict[str, str]()
        for trial in _ends(study.config.rows[row].space):
            name = f"{row} with {say_settings(trial)}"
            try:
                job = plan_trial(study, row, study.out / folder_name(row) / "search", trial)
                require_usable(job.config, made_later=job.after is not None)
                found[row] = find_measure(part.metric, [job.scored.protocols], "search.metric")
                digests[name] = find_validation(job.scored, found[row], opened)
                tests[name] = describe_test(open_once(job.scored, opened))
            except UserError as error:
                raise UserError(f"{name} cannot run, so nothing was started: {error}") from None
        require_same_validation(digests)
        if len(set(tests.values())) > 1:
            raise UserError(f"rows.{row}.space changes the test records; a study compares rows on the same ones.")
    return found


def _ends(space: Mapping[str, Space]) -> list[Settings]:
    """Every end of each key, the others at their first."""
    first = {key: values.ends[0] for key, values in space.items()}
    return [first, *(first | {key: end} for key, values in space.items() for end in values.ends[1:])]


def plan_trial(study: Study, row: str, folder: Path, trial: Settings) -> Job:
    """The job of a row with these settings and the first seed.

    Raises:
        UserError: what its program, or its evaluation, would refuse.
    """
    return plan_job(study.config, row, study.config.seeds[0], folder, study.jobs, trial)


def search_rows(study: Study, measures: Mapping[str, Measure], run: bool = True) -> tuple[Study, list[Searched]]:
    """Search every row that has a space, those that it starts from first; the study with what was chosen.

    Args:
        study: was checked.
        measures: from `check_search`.
        run: whether trials that are missing are run.

    Raises:
        UserError: trials that were scored on different validation records.
    """
    found: list[Searched] = []
    order = [row for row in dict.fromkeys(job.row for job in study.jobs.values()) if row in measures]
    for row in order:
        searched = search_row(study, row, measures[row], run)
        found.append(searched)
        if searched.chosen is not None:
            known = study.config.rows[row]
            rows = {**study.config.rows, row: known.model_copy(update={"set": {**known.set, **searched.chosen}})}
            study = plan_study(study.path, study.config.model_copy(update={"rows": rows}), study.overrides)
    return study, found


def search_row(study: Study, row: str, measure: Measure, run: bool = True) -> Searched:
    """Run the trials of a row that are missing, and choose; arguments and errors as `search_rows`."""
    optuna, part, space = _optuna(), study.config.search, study.config.rows[row].space
    assert part is not None
    before = _before(study.jobs[row, study.config.seeds[0]])
    if run and (missing := run_study(study, before)):
        name, why = next(iter(missing.items()))
        return Searched(row, measure, 0, 0, why=f"{name}, from which its trials start, has no run: {why}")
    store = store_of(study)
    about = [study.jobs[row, study.config.seeds[0]].content, store, measure.name, part.sampler, str(part.seed)]
    digest = hashlib.sha256("\n".join([*about, *map(repr, space.items())]).encode()).hexdigest()[:8]
    kept = _open(optuna, study.out / JOURNAL, f"{row} {digest}", measure)
    folder, lock = study.out / folder_name(row) / f"search-{digest}", threading.Lock()
    states = optuna.trial.TrialState
    combinations = list(itertools.product(*(range(len(s.ends)) for s in space.values())))
    wanted = min(part.trials, len(combinations)) if part.sampler == "grid" else part.trials

    def ask() -> Any:
        """A trial that was stopped on its way, else a new one."""
        kept.sampler = _sampler(optuna, part, len(kept.trials))
        if part.sampler == "grid" and not kept.get_trials(states=(states.WAITING,)):
            drawn = len(kept.get_trials(states=(states.COMPLETE, states.FAIL, states.RUNNING)))
            kept.enqueue_trial(dict(zip(space, combinations[drawn], strict=True)))
        asked = kept.ask(_distributions(optuna, space))
        return kept.trials[asked.number]

    def run_trial(place: int, gpu: str | None) -> bool:
        with lock:
            trial = stopped.pop(0) if stopped else ask()
        values = _values(space, trial.params)
        job = replace(plan_trial(study, row, folder / f"trial-{trial.number}", values), seed=None)
        job = replace(job, row=f"{row}, trial {trial.number} ({say_settings(values)})")
        ok = is_done(job, store) or run_job(job, job.log(study.out), store, gpu)
        score = _score(job.folder, measure) if ok else None
        with lock:
            state = states.FAIL if score is None else states.COMPLETE
            kept.tell(trial.number, None if score is None else score["value"], state=state)
        return score is not None

    for lost in kept.get_trials(states=(states.RUNNING,)) if run else []:
        if lost.params.keys() != space.keys():  # stopped before it was drawn
            kept.tell(lost.number, state=states.PRUNED)
    stopped = kept.get_trials(states=(states.RUNNING,)) if run else []
    ended = len(kept.get_trials(states=(states.COMPLETE, states.FAIL)))
    if run:
        run_jobs(range(ended, wanted), lambda place: f"{row}, trial {place}", run_trial)
    return _choose(study, row, measure, kept.get_trials(states=(states.COMPLETE, states.FAIL)), folder, run)


def _before(job: Job) -> list[Job]:
    """What a job starts from, the first first."""
    return [] if job.after is None else [*_before(job.after), job.after]


def _choose(study: Study, row: str, measure: Measure, trials: list[Any], folder: Path, write: bool) -> Searched:
    """The trial with the best score, of equals the earlier; all of them go to `search.csv` in their folder, if asked for.

    Raises:
        UserError: trials that were scored on different validation records.
    """
    space, lines, digests = study.config.rows[row].space, [], {}
    for trial in trials:
        place, values = folder / f"trial-{trial.number}", _values(space, trial.params)
        score = None if trial.value is None else _score(place, measure)
        found = find_evaluation(place)
        if score is not None and found is not None:
            digests[f"trial {trial.number}"] = read_digest(found)
        lines.append({"trial": trial.number, "values": values, "score": score})
    if digests:
        require_same_validation(digests)
    scored = [line for line in lines if line["score"] is not None]
    failed = len(lines) - len(scored)
    if not scored:
        return Searched(row, measure, len(lines), failed, why=f"none of {len(lines)} trials has a score on validation")
    sign = -1 if measure.lower_is_better else 1
    best = max(scored, key=lambda line: sign * line["score"]["value"])  # the first of equals
    table = [
        {"trial": line["trial"], **line["values"], measure.name: line["score"]["value"] if line["score"] else None}
        for line in lines
    ]
    if write:
        pd.DataFrame(table).to_csv(folder / "search.csv", index=False)
        print(f"{row}: of {len(lines)} trials {say_settings(best['values'])} is the best on validation", flush=True)
    return Searched(row, measure, len(lines), failed, best["values"], best["score"])


def say_settings(values: Settings) -> str:
    """`optim.lr = 0.0003, model.mask_ratio = 0.6`."""
    return ", ".join(f"{key} = {f'{v:.3g}' if isinstance(v, float) else v}" for key, v in values.items())


def say_search(study: Study, found: Searched) -> str:
    """What a reader must know of a search."""
    part = study.config.search
    assert part is not None
    if found.chosen is None:
        return f"{found.row} was searched for, but {found.why}."
    failed = f" ({found.failed} failed)" if found.failed else ""
    end, scored = "lowest" if found.measure.lower_is_better else "highest", found.trials - found.failed
    assert found.score is not None
    return (
        f"{found.row} was searched for on validation: {found.trials} trials{failed} with seed {study.config.seeds[0]}, drawn by "
        f"{part.sampler} with seed {part.seed}. Chosen: {say_settings(found.chosen)}, by {found.measure.name} "
        f"{format_interval(found.score)} on {found.score['n']} validation records; the {end} of {scored} scores flatters it. "
        "No test score was read."
    )


def _score(folder: Path, measure: Measure) -> Interval | None:
    evaluation = find_evaluation(folder)
    return None if evaluation is None else read_score(evaluation / VALIDATION_FILE, measure)


def _values(space: Mapping[str, Space], params: Mapping[str, Any]) -> Settings:
    """Settings of a trial; of choices Optuna is given the numbers, as they may be lists."""
    choices = {key: values.choices for key, values in space.items()}
    return {key: params[key] if of is None else of[params[key]] for key, of in choices.items()}


def _distributions(optuna: Any, space: Mapping[str, Space]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, values in space.items():
        if values.choices is not None:
            made[key] = optuna.distributions.CategoricalDistribution(range(len(values.choices)))
        else:
            kind = "IntDistribution" if values.whole else "FloatDistribution"
            made[key] = getattr(optuna.distributions, kind)(*values.ends, log=values.log)
    return made


def _sampler(optuna: Any, part: SearchPart, number: int) -> Any:
    """Of one draw: its seed follows from the trial's number alone, so that a search can be stopped between any two."""
    kind = optuna.samplers.TPESampler if part.sampler == "tpe" else optuna.samplers.RandomSampler
    return kind(seed=(part.seed * 100_003 + number) % 2**32)


def _open(optuna: Any, path: Path, name: str, measure: Measure) -> Any:
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    storage = optuna.storages.JournalStorage(backend)
    direction = "minimize" if measure.lower_is_better else "maximize"
    return optuna.create_study(storage=storage, study_name=name, direction=direction, load_if_exists=True)


def _optuna() -> Any:
    """The library, quiet.

    Raises:
        UserError: it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise UserError(
            'a search needs Optuna: pip install "ssl-ecg-biosignals[search]", or take `search` out.'
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
