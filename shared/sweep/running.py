"""Running the points: here, one process per GPU, or as a Slurm array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shared.data.store import ECGStore
from shared.evaluation.study.job import Job, is_done, run_job
from shared.jobs import run_jobs, submit_arrays
from shared.sweep.grid import Sweep


def run_here(sweep: Sweep, checked: Mapping[str, Job]) -> list[str]:
    """The points on this machine, one process per GPU in `GPUS`, or one after the other; the names of those that failed."""
    stores = {job.scored.store for job in checked.values()}
    fingerprints = {store: ECGStore(store).fingerprint for store in stores}

    def run(job: Job, gpu: str | None) -> bool:
        store = fingerprints[job.scored.store]
        if is_done(job, store):
            print(f"{job.name}: done before\n", end="", flush=True)  # in one piece: other threads print too
            return True
        return run_job(job, job.log(sweep.out), store, gpu)

    return run_jobs(list(checked.values()), lambda job: job.name, run)


def submit(sweep: Sweep, argv: Sequence[str], given: Sequence[str]) -> None:
    """Hand the points to Slurm as an array, and the table to a job that waits for it.

    Args:
        sweep: its points were checked.
        argv: the command line.
        given: options of sbatch.

    Raises:
        UserError: sbatch refuses.
    """
    script = ["bash", "scripts/sweep.sh", *(arg for arg in argv if not arg.startswith("slurm="))]
    numbers = range(len(sweep.points))
    array, table = submit_arrays(script, "point", [numbers], "table=true", sweep.out / "logs", given)
    print(f"submitted {len(numbers)} points as array {array} and the table as job {table}; results in {sweep.out}")
