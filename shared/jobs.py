"""Programs started one after the other, or one per GPU: what a sweep and a study run their trainings with."""

from __future__ import annotations

import os
import queue
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from shared.config import REPO_ROOT
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


def run_jobs(jobs: Sequence[J], name: Callable[[J], str], run: Callable[[J, str | None], bool]) -> list[str]:
    """Run all jobs, one at a time on each GPU of `GPUS`, or one after the other; one that fails does not stop the others.

    Args:
        jobs: in the order of their start.
        name: of a job, in messages.
        run: runs a job on a GPU (None: as it finds the machine); whether it ended well.

    Returns:
        The names of those that failed.
    """
    gpus: list[str | None] = [*filter(None, os.environ.get("GPUS", "").split(","))] or [None]
    free: queue.Queue[str | None] = queue.Queue()
    for gpu in gpus:
        free.put(gpu)

    def work(job: J) -> str | None:
        gpu = free.get()
        try:
            return None if run(job, gpu) else name(job)
        except OSError as error:  # one that cannot be started or logged does not stop the others
            print(f"{name(job)}: FAILED, {error}", flush=True)
            return name(job)
        finally:
            free.put(gpu)

    with ThreadPoolExecutor(len(gpus)) as pool:
        return [failed for failed in pool.map(work, jobs) if failed is not None]


def say_end(name: str, ok: bool, log: Path) -> None:
    """Print how a job ended; of one that failed the last lines of its log."""
    if ok:
        print(f"{name}: done", flush=True)
    else:
        last = "\n    ".join(log.read_text(errors="replace").strip().splitlines()[-LAST_LINES:])
        print(f"{name}: FAILED, see {log}\n    {last}", flush=True)
