"""Programs started one after the other, one per GPU, or by Slurm: what a sweep and a study run their trainings with."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from shared.config import REPO_ROOT
from shared.errors import UserError
from shared.programs import find_program

J = TypeVar("J")
LAST_LINES = 4


def python(program: str) -> list[str]:
    """The beginning of a command that runs a program by its name."""
    return [sys.executable, "-m", find_program(program).module]


def execute(command: Sequence[str], log: Path, gpu: str | None) -> bool:
    """Run a command from the repository root with its output appended to the log; whether it ended well."""
    env = {**os.environ, **({"CUDA_VISIBLE_DEVICES": gpu} if gpu is not None else {})}
    with log.open("a") as file:
        file.write(f"$ {shlex.join(command)}\n")
        file.flush()
        return subprocess.run(command, cwd=REPO_ROOT, env=env, stdout=file, stderr=subprocess.STDOUT).returncode == 0


def run_jobs(
    jobs: Sequence[J],
    name: Callable[[J], str],
    run: Callable[[J, str | None], bool],
    after: Callable[[J], str | None] = lambda _: None,
) -> list[str]:
    """Run all jobs, one at a time on each GPU of `GPUS`, or one after the other; one that fails does not stop the others.

    Args:
        jobs: in the order of their start, each after the one that it waits for.
        name: of a job, each its own.
        run: runs a job on a GPU (None: as it finds the machine); whether it ended well.
        after: the name of the job whose end, good or bad, this one waits for.

    Returns:
        The names of those that failed, in the order of `jobs`.
    """
    gpus: list[str | None] = [*filter(None, os.environ.get("GPUS", "").split(","))] or [None]
    waiting, failed, changed = list(jobs), set[str](), threading.Condition()
    unfinished = {name(job) for job in jobs}

    def take() -> J | None:
        with changed:
            while waiting:
                ready = next((job for job in waiting if after(job) not in unfinished), None)
                if ready is not None:
                    waiting.remove(ready)
                    return ready
                changed.wait()
        return None

    def work(gpu: str | None) -> None:
        while (job := take()) is not None:
            try:
                if not run(job, gpu):
                    failed.add(name(job))
            except OSError as error:  # one that cannot be started or logged does not stop the others
                print(f"{name(job)}: FAILED, {error}", flush=True)
                failed.add(name(job))
            except BaseException:
                waiting.clear()
                raise
            finally:
                with changed:
                    unfinished.discard(name(job))
                    changed.notify_all()

    with ThreadPoolExecutor(len(gpus)) as pool:
        try:
            list(pool.map(work, gpus))
        except BaseException:  # Ctrl-C reaches this thread: nothing more is started
            waiting.clear()
            raise
    return [name(job) for job in jobs if name(job) in failed]


def say_end(name: str, ok: bool, log: Path) -> None:
    """Print how a job ended; of one that failed the last lines of its log."""
    if ok:
        print(f"{name}: done", flush=True)
    else:
        last = "\n    ".join(log.read_text(errors="replace").strip().splitlines()[-LAST_LINES:])
        print(f"{name}: FAILED, see {log}\n    {last}", flush=True)


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


def submit_arrays(
    command: Sequence[str],
    key: str,
    levels: Sequence[Sequence[int]],
    last: str,
    logs: Path,
    given: Sequence[str],
    first: str | None = None,
) -> list[str]:
    """Hand numbered jobs to Slurm, each level as an array that waits for the one before, and a last job after all.

    Args:
        command: run from the repository root with one argument more.
        key: that argument of a numbered job, `KEY=NUMBER`.
        levels: numbers of each array.
        last: that of the last job, which runs whatever became of the others.
        logs: where their output goes.
        given: options of sbatch.
        first: that of a job before all others, if there is one.

    Returns:
        The numbers that Slurm gave them.

    Raises:
        UserError: sbatch refuses.
    """
    logs.mkdir(parents=True, exist_ok=True)
    script = f"cd {shlex.quote(str(REPO_ROOT))} && {shlex.join(command)}"
    options = ["--parsable", f"--output={logs}/slurm-%A_%a.txt", *given]
    ids: list[str] = []

    def add(argument: str, *more: str) -> None:
        waits = [f"--dependency=afterany:{ids[-1]}"] if ids else []
        ids.append(_sbatch([*options, *more, *waits, f"--wrap={script} {argument}"]))

    if first is not None:
        add(first)
    for numbers in levels:
        whole = list(numbers) == list(range(numbers[0], numbers[-1] + 1))
        add(
            f"{key}=$SLURM_ARRAY_TASK_ID",
            f"--array={f'{numbers[0]}-{numbers[-1]}' if whole else ','.join(map(str, numbers))}",
        )
    add(last)
    return ids


def _sbatch(options: Sequence[str]) -> str:
    done = subprocess.run(["sbatch", *options], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"sbatch refused: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip().partition(";")[0]
