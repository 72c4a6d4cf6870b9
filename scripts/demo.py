"""The main job, small, in stages: what does not depend on one another runs side by side, each on its share of the cores or its GPU.

python scripts/demo.py [all] [ptbxl FOLDER]
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.config import REPO_ROOT, entry_point, repo_path
from shared.errors import UserError
from shared.programs import find_program

COMPARE = "shared.evaluation.report.compare"
SETTING = os.environ.get("SETTING", "demo")
"""Which folder of `configs/` is run; `test` takes a few records and steps."""


@dataclass(frozen=True)
class Job:
    """One process: a program of the table (or a module) and its arguments."""

    name: str
    program: str
    arguments: tuple[str, ...]

    @property
    def command(self) -> list[str]:
        """As the shell would start it."""
        module = self.program if self.program == COMPARE else find_program(self.program).module
        return [sys.executable, "-m", module, *self.arguments]


@dataclass(frozen=True)
class Stage:
    """Jobs that run side by side."""

    title: str
    jobs: tuple[Job, ...]


def plan(everything: bool, ptbxl: Path | None, setting: str = SETTING) -> list[Stage]:
    """The stages, in order.

    Args:
        everything: also the modifications: triplet, VQ-VAE, masked tokens, hybrid input, fine-tuning.
        ptbxl: the folder of PTB-XL; None takes embedded synthetic ECG.
        setting: folder of `configs/`.
    """
    name = setting if ptbxl is None else f"{setting}_ptbxl"
    store, runs, configs = f"data/{name}", f"runs/{name}", f"configs/{setting}"
    more = ("optim.epochs=40",) if ptbxl is not None and setting == "demo" else ()
    data = (f"{configs}/synthetic.yaml",)
    if ptbxl is not None:
        data = ("configs/data/ptbxl.yaml", "features=all", f"root={ptbxl}")

    def train(title: str, method: str, kind: str, run: str, *rest: str, config: str = "") -> Job:
        places = (f"data.store={store}", f"run.out={runs}/{run}")
        return Job(title, f"{method}_modified.{kind}", (f"{configs}/{config or run}.yaml", *places, *rest))

    def score(title: str, method: str, run: str, config: str = "") -> Job:
        config = f"{configs}/{config or method}_inference.yaml"
        where = (f"store={store}", f"encoder.weights={runs}/{run}")
        return Job(title, f"{method}_modified.evaluate", (config, *where))

    def compare(*names: str, out: str) -> Job:
        return Job("comparison", COMPARE, (*(f"{runs}/{run}" for run in names), f"out={runs}/{out}"))

    both = (("ST-MEM", "st_mem"), ("ECG-JEPA", "ecg_jepa"))
    stages = [
        Stage("prepare the data", (Job("data", "shared.data.prepare", (*data, f"out={store}")),)),
        Stage("pretrain", tuple(train(t, m, "pretrain", m, *more, config=f"{m}_pretrain") for t, m in both)),
        Stage("evaluate", tuple(score(t, m, m) for t, m in both)),
        Stage("compare", (compare("st_mem", "ecg_jepa", out="compare"),)),
    ]
    if not everything:
        return stages
    start = {method: f"encoder.weights={runs}/{method}" for _, method in both}
    tokens = (f"tokenizer={runs}/st_mem_vqvae_frozen", *more)
    return [
        *stages[:3],
        Stage(
            "triplet fine-tuning",
            tuple(train(f"{t} triplet", m, "triplet", f"{m}_triplet", start[m]) for t, m in both),
        ),
        Stage(
            "hybrid input; VQ-VAE on the pretrained encoder",
            (
                train("hybrid", "ecg_jepa", "pretrain", "ecg_jepa_hybrid", *more, config="ecg_jepa_hybrid_pretrain"),
                train("VQ-VAE", "st_mem", "vqvae", "st_mem_vqvae_frozen", start["st_mem"], *more),
            ),
        ),
        Stage(
            "masked tokens; a VQ-VAE from scratch",
            (
                train("masked tokens", "st_mem", "pretrain", "st_mem_masked_tokens", *tokens),
                train("VQ-VAE, scratch", "st_mem", "vqvae", "st_mem_vqvae", *more),
            ),
        ),
        Stage(
            "evaluate what was added",
            (
                score("hybrid", "ecg_jepa", "ecg_jepa_hybrid", config="ecg_jepa_hybrid"),
                score("masked tokens", "st_mem", "st_mem_masked_tokens"),
            ),
        ),
        Stage("fine-tune", tuple(train(t, m, "finetune", f"{m}_finetune", start[m]) for t, m in both)),
        Stage(
            "compare",
            (
                compare(
                    *("st_mem", "st_mem_triplet", "st_mem_vqvae", "st_mem_vqvae_frozen", "st_mem_masked_tokens"),
                    *("ecg_jepa", "ecg_jepa_triplet", "ecg_jepa_hybrid"),
                    out="compare",
                ),
            ),
        ),
    ]


def run_stage(stage: Stage) -> None:
    """Run the jobs of a stage side by side and show their lines, each behind its name.

    Raises:
        UserError: one failed; its last lines are above.
    """
    gpus = [gpu for gpu in os.environ.get("GPUS", "").split(",") if gpu]
    threads = max(1, (os.cpu_count() or 1) // len(stage.jobs))
    running: list[tuple[Job, subprocess.Popen[str]]] = []
    for i, job in enumerate(stage.jobs):
        env = {**os.environ, **({"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} if gpus else {})}
        if len(stage.jobs) > 1:
            env.setdefault("OMP_NUM_THREADS", str(threads))
        process = subprocess.Popen(
            job.command, cwd=REPO_ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        threading.Thread(target=show, args=(job.name, process), daemon=True).start()
        running.append((job, process))
    failed = [job.name for job, process in running if process.wait()]
    if failed:
        raise UserError(f"{', '.join(failed)} failed in the stage {stage.title!r}; the reason stands above.")


def show(name: str, process: subprocess.Popen[str]) -> None:
    """Print a process's lines as they come."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip():
            print(f"{name:>16} | {line.rstrip()}", flush=True)


def parse(argv: Sequence[str]) -> tuple[bool, Path | None]:
    """Whether everything is asked for, and the folder of PTB-XL.

    Raises:
        UserError: anything else.
    """
    rest = [arg for arg in argv if arg != "all"]
    if not rest:
        return "all" in argv, None
    if rest[0] != "ptbxl" or len(rest) != 2:
        raise UserError(f"{' '.join(argv)} was given; expected demo.sh [all] [ptbxl FOLDER_OF_PTB_XL].")
    folder = Path(os.environ.get("CALLED_FROM", ".")) / rest[1]
    return "all" in argv, folder.resolve()


def main(argv: Sequence[str]) -> None:
    """Entry point."""
    everything, ptbxl = parse(argv)
    stages = plan(everything, ptbxl)
    began = time.monotonic()
    for number, stage in enumerate(stages, start=1):
        jobs = f": {', '.join(job.name for job in stage.jobs)}" if len(stage.jobs) > 1 else ""
        took = time.monotonic() - began
        print(f"\n=== stage {number} of {len(stages)}: {stage.title}{jobs} (after {took / 60:.1f} min)", flush=True)
        run_stage(stage)
    page = repo_path(stages[-1].jobs[0].arguments[-1].removeprefix("out=")) / "report.html"
    print(f"\ndone in {(time.monotonic() - began) / 60:.1f} min. Open {page}")


if __name__ == "__main__":
    entry_point(main)
