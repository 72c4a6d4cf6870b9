"""One training with its evaluation: a row of a study with one seed, a point of a sweep, or a trial of a search."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from shared.config import Section, to_yaml
from shared.evaluation.config import CommonSettings
from shared.evaluation.following import Followed, followed
from shared.evaluation.presets import EVALUATION
from shared.finetune.config import FinetuneConfig
from shared.jobs import execute, python, say_end

DONE = "study.json"
"""In a run folder: what its numbers follow from, written when it is trained and evaluated."""


@dataclass(frozen=True)
class Job:
    """What is run, and where.

    Attributes:
        row: of a study; the name of a point or a trial.
        seed: of the row; None where the name says all.
        folder: its run folder.
        program: what makes it.
        arguments: of the program.
        config: as the program will read it.
        scored: the evaluation's config.
        scoring: arguments of the package's `evaluate`; None: the program evaluates.
        after: the job whose run it starts from.
    """

    row: str
    seed: int | None
    folder: Path
    program: str
    arguments: list[str]
    config: Section
    scored: CommonSettings
    scoring: list[str] | None
    after: Job | None = None

    @property
    def name(self) -> str:
        """As messages call it."""
        return self.row if self.seed is None else f"{self.row}, seed {self.seed}"

    @property
    def follows(self) -> Followed | None:
        """The published protocol that its scores follow."""
        if isinstance(self.config, FinetuneConfig):
            return followed(self.config, self.config.mode)
        return followed(self.scored, EVALUATION)

    @property
    def evaluation(self) -> Path:
        """Where its scores stand."""
        return self.folder if isinstance(self.config, CommonSettings) else self.folder / "evaluation"

    @property
    def scorer(self) -> str:
        """The program that evaluates it."""
        return f"{self.program.partition('.')[0]}.evaluate"

    @cached_property
    def content(self) -> str:
        """All that its numbers follow from, but the store: configs, and those of what it starts from."""
        start = "" if self.after is None else self.after.content
        return "\n".join([start, self.program, to_yaml(self.config), to_yaml(self.scored)])

    def log(self, out: Path) -> Path:
        """Where its output goes, of a study or sweep in `out`."""
        return out / "logs" / f"{'-'.join(self.folder.relative_to(out).parts)}.txt"


def run_job(job: Job, log: Path, store: str, gpu: str | None = None) -> bool:
    """Train and evaluate; whether there are scores at the end. A training that is finished is not made again.

    Args:
        job: what to run.
        log: where its output goes.
        store: fingerprint of the store that it is scored on.
        gpu: where it runs; None: as it finds the machine.
    """
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
    """Whether a job was trained and evaluated as it would be now; arguments as `run_job`."""
    path = job.folder / DONE
    if not path.is_file() or not (job.evaluation / "predictions.parquet").is_file():
        return False
    try:
        known = json.loads(path.read_text())
    except ValueError:
        return False
    return bool(known == {"store": store, "content": job.content})
