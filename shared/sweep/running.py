"""Running the points: here, one process per GPU, or as a Slurm array."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from shared.config import REPO_ROOT, Section, to_yaml
from shared.errors import UserError
from shared.evaluation.validation import VALIDATION_FILE
from shared.jobs import execute, python, run_jobs, say_end
from shared.sweep.check import Scoring, settings_of
from shared.sweep.grid import Sweep


def run_point(sweep: Sweep, point: dict[str, str], scoring: Scoring, gpu: str | None = None) -> bool:
    """Train and evaluate one point, its output in `logs/`; whether it has an evaluation at the end."""
    name, folder, log = sweep.name(point), sweep.folder(point), log_of(sweep, point)
    log.parent.mkdir(parents=True, exist_ok=True)
    print(f"{name}: started{f' on GPU {gpu}' if gpu else ''}, output in {log}", flush=True)
    ok = execute([*python(sweep.program), sweep.config, *settings_of(sweep, point)], log, gpu)
    if ok and scoring.arguments is not None and not is_evaluated(folder, scoring.config):
        ok = execute([*python(sweep.scorer), *scoring.arguments], log, gpu)
    say_end(name, ok, log)
    return ok


def log_of(sweep: Sweep, point: dict[str, str]) -> Path:
    """Where the output of a point goes."""
    return sweep.out / "logs" / f"{sweep.name(point)}.txt"


def find_evaluation(folder: Path) -> Path | None:
    """Where a run's scores are, if it was evaluated with scores of the validation records."""
    found = [
        path
        for path in (folder, folder / "evaluation")
        if (path / "summary.json").is_file() and (path / VALIDATION_FILE).is_file()
    ]
    return found[0] if found else None


def is_evaluated(folder: Path, config: Section) -> bool:
    """Whether a run was evaluated as this config says."""
    found = find_evaluation(folder)
    path = None if found is None else found / "config.yaml"
    return path is not None and path.is_file() and path.read_text() == to_yaml(config)


def run_here(sweep: Sweep, checked: Mapping[str, Scoring]) -> list[str]:
    """All points on this machine, one process per GPU in `GPUS`, or one after the other; the names of those that failed."""
    return run_jobs(
        sweep.points, sweep.name, lambda point, gpu: run_point(sweep, point, checked[sweep.name(point)], gpu)
    )


def slurm_options(text: str) -> list[str]:
    """The options of sbatch in a text.

    Raises:
        UserError: no shell could read them, or there is no sbatch.
    """
    try:
        given = shlex.split(text)
    except ValueError as error:
        raise UserError(f"slurm={text!r}: {error}; expected options of sbatch as in a shell.") from None
    if shutil.which("sbatch") is None:
        raise UserError(
            "slurm=… was given but there is no sbatch on this machine; leave it out, or run on a login node."
        )
    return given


def submit(sweep: Sweep, argv: Sequence[str], given: Sequence[str]) -> None:
    """Hand the points to Slurm as an array, and the table to a job that waits for it.

    Args:
        sweep: its points were checked.
        argv: the command line.
        given: options of sbatch.

    Raises:
        UserError: sbatch refuses.
    """
    arguments = shlex.join(arg for arg in argv if not arg.startswith("slurm="))
    script = f"cd {shlex.quote(str(REPO_ROOT))} && bash scripts/sweep.sh {arguments}"
    (sweep.out / "logs").mkdir(parents=True, exist_ok=True)
    options = ["--parsable", f"--output={sweep.out}/logs/slurm-%A_%a.txt", *given]
    array = f"--array=0-{len(sweep.points) - 1}"
    job = _sbatch([*options, array, f"--wrap={script} point=$SLURM_ARRAY_TASK_ID"])
    table = _sbatch([*options, f"--dependency=afterany:{job}", f"--wrap={script} table=true"])
    print(f"submitted {len(sweep.points)} points as array {job} and the table as job {table}; results in {sweep.out}")


def _sbatch(options: Sequence[str]) -> str:
    done = subprocess.run(["sbatch", *options], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"sbatch refused: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip().partition(";")[0]
