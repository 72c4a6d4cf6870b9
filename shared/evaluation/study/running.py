"""Running a study's jobs: what is done is not done again, and one that fails stops none but those that start from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from shared.data.store import ECGStore
from shared.errors import UserError
from shared.evaluation.study.config import StudyConfig
from shared.evaluation.study.job import Job, is_done, run_job
from shared.evaluation.study.plan import Study, as_text
from shared.jobs import execute, python, run_jobs, submit_arrays

DECLARED = "declared.json"
"""In the study's folder: its hypotheses as they were when it began."""


def prepare_store(config: StudyConfig, out: Path) -> None:
    """Make the store by the YAML `prepare`, where it is not there.

    Raises:
        UserError: it is not there and cannot be made.
    """
    assert config.store is not None
    if config.prepare is None or config.store.exists():
        return
    log = out / "logs" / "prepare.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    print(f"{config.store} is not there: prepared by {config.prepare}, output in {log}", flush=True)
    root = {} if config.root is None else {"root": str(config.root)}
    settings = as_text({"out": str(config.store), **root, **config.prepare_with})
    if not execute([*python("shared.data.prepare"), config.prepare, *settings], log, None):
        said = log.read_text(errors="replace").strip().splitlines()[-1:]
        raise UserError(f"{config.store} could not be prepared, see {log}: {''.join(said)}")


def declare(study: Study) -> list[str]:
    """Write down the hypotheses before anything runs; of a study that had begun, say which came later.

    Returns:
        A sentence, where some were not declared then: their p-values may follow from having seen the others.
    """
    path = study.out / DECLARED
    baseline = study.config.baseline
    now = [{**h.model_dump(), "than": h.than or baseline} for h in study.config.hypotheses]
    if not path.is_file():
        partial = path.with_name(f".{DECLARED}.partial")
        partial.write_text(json.dumps(now, indent=1))
        partial.replace(path)
        return []
    before = json.loads(path.read_text())
    later = [f"{h['row']} {h['direction']} than {h['than']} by {h['metric']}" for h in now if h not in before]
    dropped = sum(h not in now for h in before)
    said = f"Declared after the study had begun: {'; '.join(later)}." if later else ""
    if dropped:
        said += f"{' ' if said else ''}{dropped} of {len(before)} hypotheses declared at its beginning were taken out."
    return [said] if said else []


def run_study(
    study: Study, jobs: Sequence[Job] | None = None, unusable: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Train and evaluate what is missing; returns the name of each job that has no scores, and why.

    Args:
        study: was checked.
        jobs: those to run, in the order of their start; None: all.
        unusable: row that cannot run to why.
    """
    store = store_of(study)
    jobs = [*study.jobs.values()] if jobs is None else jobs
    missing: dict[str, str] = {}

    def run(job: Job, gpu: str | None) -> bool:
        if unusable is not None and job.row in unusable:
            missing[job.name] = unusable[job.row]
            return False
        if is_done(job, store):
            print(f"{job.name}: done before\n", end="", flush=True)  # in one piece: other threads print too
            return True
        if job.after is not None and job.after.name in missing:
            missing[job.name] = f"not run, {job.after.name} has no run to start from"
            print(f"{job.name}: {missing[job.name]}", flush=True)
            return False
        log = job.log(study.out)
        missing[job.name] = f"failed, see {log}"  # until it has ended well
        if not run_job(job, log, store, gpu):
            return False
        del missing[job.name]
        return True

    run_jobs(jobs, lambda job: job.name, run, lambda job: None if job.after is None else job.after.name)
    return {job.name: missing[job.name] for job in jobs if job.name in missing}


def store_of(study: Study) -> str:
    """The fingerprint of the records of all rows."""
    assert study.config.store is not None
    return ECGStore(study.config.store).fingerprint


def find_missing(study: Study) -> dict[str, str]:
    """The name of each job that has no scores yet, and why: of what ran elsewhere."""
    store = store_of(study)
    return {
        job.name: f"failed, see {log}" if (log := job.log(study.out)).is_file() else "not run"
        for job in study.jobs.values()
        if not is_done(job, store)
    }


def submit_study(study: Study, argv: Sequence[str], given: Sequence[str], searched: bool = False) -> None:
    """Hand the jobs to Slurm: an array of those that start from nothing, one of those that follow them, …, and the page.

    Args:
        study: was checked.
        argv: the command line.
        given: options of sbatch.
        searched: whether settings are searched for, which comes first.

    Raises:
        UserError: sbatch refuses.
    """
    levels: dict[int, list[int]] = {}
    depth: dict[str, int] = {}
    for number, job in enumerate(study.jobs.values()):
        depth[job.name] = 0 if job.after is None else depth[job.after.name] + 1
        levels.setdefault(depth[job.name], []).append(number)
    script = ["bash", "scripts/study.sh", *(arg for arg in argv if not arg.startswith("slurm="))]
    first = "only=search" if searched else None
    ids = submit_arrays(script, "only", list(levels.values()), "only=table", study.out / "logs", given, first)
    print(
        f"submitted {len(study.jobs)} jobs as {', '.join(ids[:-1])} and the page as {ids[-1]}; results in {study.out}"
    )
