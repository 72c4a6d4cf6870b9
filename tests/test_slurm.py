"""The Slurm job: on stand-ins of its commands everywhere, and on a real Slurm where one runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared.config import REPO_ROOT
from tests.test_ranks import compare

JOB = REPO_ROOT / "scripts" / "slurm" / "pretrain.sbatch"
CONFIG = "configs/test/st_mem_pretrain.yaml"


def stand_ins(folder: Path, srun: str) -> dict[str, str]:
    """`srun` as given, and a `scontrol` that answers as Slurm does and writes down what it was asked to requeue."""
    scontrol = f"""case "$1 $2" in
        "show job") echo "   Command={JOB} x";;
        "show hostnames") echo 127.0.0.1;;
        *) echo "$@" >> {folder}/asked; kill -9 $PPID;;
    esac"""
    for name, text in {"srun": srun, "scontrol": scontrol}.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "VIRTUAL_ENV": sys.prefix,
        **{"SLURM_JOB_ID": "7", "SLURM_NTASKS": "1", "SLURM_JOB_NODELIST": "here", "OMP_NUM_THREADS": "1"},
        **{"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "CUDA_VISIBLE_DEVICES": ""},
    }


def submit(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", JOB, *arguments], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_job_trains_and_passes_on_how_it_ended(synthetic_store: Path, tmp_path: Path) -> None:
    environment = stand_ins(tmp_path, 'shift; exec "$@"')
    settings = (f"data.store={synthetic_store}", f"run.out={tmp_path / 'run'}", "model.input.seconds=1.8")
    done = submit(environment, CONFIG, *settings)
    assert done.returncode == 0 and f"pretrained: {tmp_path / 'run'}" in done.stdout, done.stdout + done.stderr
    wrong = submit(environment, CONFIG, "optim.epoch=3")
    assert wrong.returncode == 2 and "did you mean 'optim.epochs'" in wrong.stdout + wrong.stderr
    assert not (tmp_path / "asked").exists()


def test_a_saved_run_is_requeued_and_a_failed_one_is_not(tmp_path: Path) -> None:
    submit(stand_ins(tmp_path, 'touch "$SAVED"'), CONFIG)
    assert (tmp_path / "asked").read_text() == "requeue 7\n"
    (tmp_path / "asked").unlink()
    assert submit(stand_ins(tmp_path, "exit 3"), CONFIG).returncode == 3
    bare = submit(stand_ins(tmp_path, "exit 0"))
    assert bare.returncode == 2 and "usage: sbatch" in bare.stdout
    two = {**stand_ins(tmp_path, "exit 0"), "SLURM_NTASKS": "2"}
    alone = submit(two, "configs/test/synthetic.yaml")
    assert alone.returncode == 2 and "shared.data.prepare runs in one process, not in 2" in alone.stdout
    assert not (tmp_path / "asked").exists()


@pytest.mark.slurm
@pytest.mark.slow
def test_a_real_job_of_two_tasks_is_requeued_and_continues(synthetic_store: Path, tmp_path: Path) -> None:
    """Slurm lets a requeued job wait for two minutes."""
    if shutil.which("sinfo") is None or subprocess.run(["sinfo", "-h"], capture_output=True, check=False).returncode:
        pytest.skip("no Slurm runs here")
    settings = [
        f"data.store={synthetic_store}",
        "model.input.seconds=1.8",
        "run.device=cpu",
        "optim.epochs=20",
        "log_every=1",
    ]
    submitted = subprocess.run(
        ["sbatch", "--parsable", "--ntasks-per-node=2", f"--output={tmp_path}/job.txt", JOB, CONFIG, *settings,
         f"run.out={tmp_path / 'run'}"],
        capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    job, log, until = submitted.stdout.strip(), tmp_path / "run" / "log.jsonl", time.monotonic() + 400
    try:
        while not log.is_file() or len(log.read_text().splitlines()) < 3:
            assert time.monotonic() < until, (tmp_path / "job.txt").read_text()
            time.sleep(0.2)
        subprocess.run(["scancel", "--signal=USR1", job], check=True)
        while "pretrained: " not in (said := (tmp_path / "job.txt").read_text()):
            assert time.monotonic() < until, said
            time.sleep(1)
    finally:
        subprocess.run(["scancel", job], check=False, capture_output=True)
    assert "saved; requeued" in said and "resuming" in said
    whole = [sys.executable, "-m", "st_mem_modified.pretrain", CONFIG, *settings, f"run.out={tmp_path / 'whole'}"]
    subprocess.run(whole, cwd=REPO_ROOT, check=True, capture_output=True)
    compare(tmp_path / "whole", tmp_path / "run")
