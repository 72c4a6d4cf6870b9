"""Running a study's jobs: what is done is not done again, and one that fails stops none but those that start from it."""

from __future__ import annotations

import json
from pathlib import Path

from shared.data.store import ECGStore
from shared.errors import UserError
from shared.evaluation.study.config import StudyConfig
from shared.evaluation.study.plan import Job, Study, as_text
from shared.jobs import execute, python, run_jobs, say_end

DONE = "study.json"
"""In a run folder: what its numbers follow from, written when it is trained and evaluated."""
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


def run_study(study: Study) -> dict[str, str]:
    """Train and evaluate what is missing; returns the name of each job that has no scores, and why."""
    assert study.config.store is not None
    store = ECGStore(study.config.store).fingerprint
    missing: dict[str, str] = {}

    def run(job: Job, gpu: str | None) -> bool:
        if is_done(job, store):
            print(f"{job.name}: done before\n", end="", flush=True)  # in one piece: other threads print too
            return True
        if job.after is not None and job.after.name in missing:
            missing[job.name] = f"not run, {job.after.name} has no run to start from"
            print(f"{job.name}: {missing[job.name]}", flush=True)
            return False
        missing[job.name] = f"failed, see {log_of(study, job)}"  # until it has ended well
        if not run_job(study, job, store, gpu):
            return False
        del missing[job.name]
        return True

    jobs = list(study.jobs.values())
    run_jobs(jobs, lambda job: job.name, run, lambda job: None if job.after is None else job.after.name)
    return {job.name: missing[job.name] for job in jobs if job.name in missing}


def run_job(study: Study, job: Job, store: str, gpu: str | None) -> bool:
    """Train and evaluate one row with one seed; whether it has its scores."""
    log = log_of(study, job)
    log.parent.mkdir(parents=True, exist_ok=True)
    print(f"{job.name}: started{f' on GPU {gpu}' if gpu else ''}, output in {log}", flush=True)
    (job.folder / DONE).unlink(missing_ok=True)
    ok = execute([*python(job.program), *job.arguments], log, gpu)
    if ok and job.scoring is not None:
        ok = execute([*python(job.scorer), *job.scoring], log, gpu)
    ok = ok and (job.evaluation / "summary.json").is_file()
    if ok:
        partial = job.folder / f".{DONE}.partial"
        partial.write_text(json.dumps({"store": store, "content": job.content}))
        partial.replace(job.folder / DONE)
    say_end(job.name, ok, log)
    return ok


def is_done(job: Job, store: str) -> bool:
    """Whether a job was trained and evaluated as it would be now."""
    path = job.folder / DONE
    if not path.is_file() or not (job.evaluation / "predictions.parquet").is_file():
        return False
    try:
        known = json.loads(path.read_text())
    except ValueError:
        return False
    return bool(known == {"store": store, "content": job.content})


def log_of(study: Study, job: Job) -> Path:
    """Where the output of a job goes."""
    return study.out / "logs" / f"{job.folder.parent.name}-{job.folder.name}.txt"
