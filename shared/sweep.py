"""Run a grid of settings and end in one table: one process per GPU, or a Slurm array.

    python -m shared.sweep CONFIG key=a,b,c key2=d,e key3=f [out=runs/sweep] [evaluate=CONFIG] [slurm="…"]

The YAML says which program runs its points; points that do not evaluate themselves are scored by that package's `evaluate`
program on the YAML `evaluate`. GPUS=0,1 runs one point per GPU; slurm="--gres gpu:1" hands them to Slurm with these options.
Every point is a run folder below `out`; what is finished is not done again, so the same command continues a sweep.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import queue
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from shared.config import LONGEST_NAME, REPO_ROOT, asks_for_help, entry_point, repo_path
from shared.errors import UserError
from shared.programs import find_program, program_of, programs_of

MOST_POINTS = 1000
OWN = {"out", "evaluate", "slurm", "point", "table"}


@dataclass(frozen=True)
class Sweep:
    """What is run.

    Attributes:
        config: the YAML all points start from.
        axes: key to its values, as text.
        out: folder of the run folders.
        program: what runs a point.
        evaluate: config of the evaluation of points that do not evaluate themselves.
        own: the sweep's own options, as given.
    """

    config: str
    axes: dict[str, list[str]]
    out: Path
    program: str
    evaluate: str
    own: dict[str, str] = field(default_factory=dict)

    @property
    def scorer(self) -> str:
        """The program that evaluates a point."""
        return f"{self.program.partition('.')[0]}.evaluate"

    @property
    def points(self) -> list[dict[str, str]]:
        """Every combination, the last key changing fastest."""
        return [dict(zip(self.axes, values, strict=True)) for values in itertools.product(*self.axes.values())]

    def name(self, point: dict[str, str]) -> str:
        """Folder of a point: what differs between points, by the last part of the key where that is enough."""
        varied = [key for key, values in self.axes.items() if len(values) > 1]
        last = [key.rpartition(".")[2] for key in varied]
        short = last if len(set(last)) == len(last) else varied
        return re.sub(r"[^\w.,=+-]+", "_", ",".join(f"{s}={point[key]}" for s, key in zip(short, varied, strict=True)))


def parse(argv: Sequence[str]) -> Sweep:
    """The sweep that the command line describes.

    Raises:
        UserError: no config, one without a program or of one whose runs have no scores, fewer than two points, or two of a name.
    """
    configs = [arg for arg in argv if "=" not in arg]
    if len(configs) != 1:
        raise UserError(
            f"one config is expected, {len(configs)} given. Usage: CONFIG key=a,b,c key2=… [out=runs/sweep]"
        )
    given: dict[str, str] = {}
    for arg in argv:
        key, equals, text = arg.partition("=")
        if equals and (not key or key in given):
            raise UserError(
                f"{arg[:80]!r}: {'the key stands twice' if key else 'no key'}; expected key=a,b,c, each key once."
            )
        if equals:
            given[key] = text
    own = {key: given.pop(key) for key in [*given] if key in OWN}
    axes = {key: split_values(text) for key, text in given.items()}
    program = program_of(configs[0], [f"program={given['program']}"] if "program" in given else [])
    package = program.partition(".")[0]
    sweep = Sweep(
        config=configs[0],
        axes=axes,
        out=repo_path(own.get("out", f"runs/sweep/{Path(configs[0]).stem}")),
        program=program,
        evaluate=own.get("evaluate", f"configs/{package.removesuffix('_modified')}/inference_clusters.yaml"),
        own=own,
    )
    if sweep.scorer not in programs_of(package):
        raise UserError(
            f"{configs[0]} is for {program}: a sweep compares scores, and there is no {sweep.scorer} to give them."
        )
    empty = [key for key, values in axes.items() if not values]
    if empty:
        raise UserError(f"{', '.join(empty)} has no value; expected key=a,b,c.")
    num = math.prod(map(len, axes.values()))
    if num > MOST_POINTS:
        raise UserError(f"{num} points are more than {MOST_POINTS}: give fewer values.")
    if num < 2:
        raise UserError("a sweep needs two points or more: give some key several values, key=a,b,c.")
    names = [sweep.name(point) for point in sweep.points]
    longest = max(names, key=len)
    if len(longest.encode()) > LONGEST_NAME - len(".txt"):
        raise UserError(
            f"a folder cannot be called {longest[:60]}…: its name would be {len(longest)} long. Vary fewer keys."
        )
    if len(set(names)) < len(names):
        raise UserError(f"two points are called {next(n for n in names if names.count(n) > 1)}; give each value once.")
    return sweep


def split_values(text: str) -> list[str]:
    """`a,b,[c,d]` to `a`, `b`, `[c,d]`: commas in brackets do not separate.

    Raises:
        UserError: a bracket without its partner.
    """
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[{(") - (letter in "]})")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
        if depth < 0:
            break
    if depth:
        raise UserError(f"{text[:80]!r} has a bracket without its partner; expected values such as a,[b,c].")
    return [part.strip() for part in parts if part.strip()]


# ---------------------------------------------------------------- running


def run_point(sweep: Sweep, point: dict[str, str], gpu: str | None = None) -> bool:
    """Train and evaluate one point, its output in `logs/`; whether it has an evaluation at the end."""
    name = sweep.name(point)
    folder, log = sweep.out / name, sweep.out / "logs" / f"{name}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    place = f"{'out' if sweep.program == sweep.scorer else 'run.out'}={folder}"
    settings = [f"{key}={value}" for key, value in point.items()]
    print(f"{name}: started{f' on GPU {gpu}' if gpu else ''}, output in {log}", flush=True)
    ok = execute([*_python(sweep.program), sweep.config, *settings, place], log, gpu)
    if ok and find_summary(folder) is None:
        store = yaml.safe_load((folder / "config.yaml").read_text())["data"]["store"]
        ok = execute([*_python(sweep.scorer), sweep.evaluate, f"encoder.weights={folder}", f"store={store}"], log, gpu)
    if ok:
        print(f"{name}: done", flush=True)
    else:
        last = "\n    ".join(log.read_text(errors="replace").strip().splitlines()[-4:])
        print(f"{name}: FAILED, see {log}\n    {last}", flush=True)
    return ok


def _python(program: str) -> list[str]:
    return [sys.executable, "-m", find_program(program).module]


def execute(command: Sequence[str], log: Path, gpu: str | None) -> bool:
    """Run a command from the repository root with its output appended to the log; whether it ended well."""
    env = {**os.environ, **({"CUDA_VISIBLE_DEVICES": gpu} if gpu is not None else {})}
    with log.open("a") as file:
        file.write(f"$ {shlex.join(command)}\n")
        file.flush()
        return subprocess.run(command, cwd=REPO_ROOT, env=env, stdout=file, stderr=subprocess.STDOUT).returncode == 0


def find_summary(folder: Path) -> Path | None:
    """Where a run's scores are, if it was evaluated."""
    found = [path for path in (folder, folder / "evaluation") if (path / "summary.json").is_file()]
    return found[0] if found else None


def run_here(sweep: Sweep) -> bool:
    """All points on this machine, one process per GPU in `GPUS`, or one after the other; whether all went well."""
    gpus: list[str | None] = [*filter(None, os.environ.get("GPUS", "").split(","))] or [None]
    free: queue.Queue[str | None] = queue.Queue()
    for gpu in gpus:
        free.put(gpu)

    def work(point: dict[str, str]) -> bool:
        gpu = free.get()
        try:
            return run_point(sweep, point, gpu)
        finally:
            free.put(gpu)

    with ThreadPoolExecutor(len(gpus)) as pool:
        return all([*pool.map(work, sweep.points)])


def submit(sweep: Sweep, argv: Sequence[str]) -> None:
    """Hand the points to Slurm as an array, and the table to a job that waits for it.

    Raises:
        UserError: options that no shell could read, no sbatch, or it refuses.
    """
    try:
        given = shlex.split(sweep.own["slurm"])
    except ValueError as error:
        raise UserError(f"slurm={sweep.own['slurm']!r}: {error}; expected options of sbatch as in a shell.") from None
    if shutil.which("sbatch") is None:
        raise UserError(
            "slurm=… was given but there is no sbatch on this machine; leave it out, or run on a login node."
        )
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


def write_table(sweep: Sweep) -> bool:
    """Compare the points that have scores; whether there were two or more."""
    runs = [sweep.out / sweep.name(point) for point in sweep.points]
    scored = [run for run in runs if find_summary(run) is not None]
    for run in runs:
        if run not in scored:
            print(f"without scores, so not in the table: {run.name}")
    if len(scored) < 2:
        print("fewer than two points have scores: no table")
        return False
    command = [
        sys.executable,
        "-m",
        "shared.evaluation.report.compare",
        *map(str, scored),
        f"out={sweep.out / 'compare'}",
    ]
    return subprocess.run(command, cwd=REPO_ROOT).returncode == 0


def main(argv: Sequence[str]) -> None:
    """Entry point."""
    if asks_for_help(argv):
        print(__doc__)
        return
    sweep = parse(argv)
    if "slurm" in sweep.own:
        submit(sweep, argv)
        return
    if "point" in sweep.own:
        text = sweep.own["point"]
        number = int(text) if re.fullmatch(r"\d{1,9}", text) else -1
        if not 0 <= number < len(sweep.points):
            raise UserError(f"point {text[:40]} of a sweep of {len(sweep.points)} points, counted from 0.")
        raise SystemExit(0 if run_point(sweep, sweep.points[number]) else 1)
    sweep.out.mkdir(parents=True, exist_ok=True)
    (sweep.out / "sweep.json").write_text(json.dumps({"config": sweep.config, "axes": sweep.axes}, indent=1))
    ok = True if "table" in sweep.own else run_here(sweep)
    table = write_table(sweep)
    raise SystemExit(0 if ok and table else 1)


if __name__ == "__main__":
    entry_point(main)
