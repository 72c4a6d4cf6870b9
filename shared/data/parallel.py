"""Work on chunks of records in processes of this machine or of a cluster; results in order, a few at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, TypeVar

import joblib

from shared.errors import UserError

R = TypeVar("R")
PATIENCE = "30s"
"""How long a scheduler may take to answer."""
AHEAD = 3
"""Jobs handed out for each process beyond what has been taken; more would only pile up results."""
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def map_in_order(
    work: Callable[..., R], jobs: Iterable[tuple[Any, ...]], backend: str, workers: int, scheduler: str | None = None
) -> Iterator[R]:
    """`work(*job)` of every job, in the order of the jobs, computed ahead by a bounded number.

    Args:
        work, jobs: what is done.
        backend: `sequential`, `threading`, `loky` (processes) or `dask` (a cluster, which repeats what a lost worker had).
        workers: processes or threads; -1: one a core. Of a cluster that the scheduler knows it is not asked.
        scheduler: address of a dask scheduler; None: the active client's, or a cluster of `workers` processes here.

    Raises:
        UserError: dask is not installed, there is no scheduler at the address, or a process was killed.
    """
    if backend == "sequential":
        yield from (work(*job) for job in jobs)
        return
    with ExitStack() as held:
        submit, number = _executor(backend, workers, scheduler, held)
        pending: deque[Future[R]] = deque()
        held.callback(lambda: [future.cancel() for future in pending])
        try:
            for job in jobs:
                pending.append(submit(work, *job))
                if len(pending) >= AHEAD * number:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenExecutor:
            raise UserError(
                "a process that read records was killed, perhaps for want of memory: give fewer workers or a smaller chunk."
            ) from None


def _executor(
    backend: str, workers: int, scheduler: str | None, held: ExitStack
) -> tuple[Callable[..., Future[Any]], int]:
    """What takes a job, and how many it works on at once."""
    if backend == "dask":
        return _dask(workers, scheduler, held)
    number = joblib.effective_n_jobs(workers)
    if backend == "threading":
        return held.enter_context(ThreadPoolExecutor(number)).submit, number
    from joblib.externals.loky import get_reusable_executor

    # Each process has a core to itself: threads of BLAS within would only be in each other's way.
    return get_reusable_executor(number, env=ONE_THREAD).submit, number


def _dask(workers: int, scheduler: str | None, held: ExitStack) -> tuple[Callable[..., Any], int]:
    try:
        from distributed import Client, LocalCluster, get_client
    except ImportError:
        raise UserError('backend=dask needs dask: pip install -e ".[cluster]" brings it.') from None
    try:
        client = get_client() if scheduler is None else held.enter_context(Client(scheduler, timeout=PATIENCE))
    except ValueError:  # no active client
        number = joblib.effective_n_jobs(workers)
        cluster = held.enter_context(LocalCluster(number, threads_per_worker=1, dashboard_address=None))
        client = held.enter_context(Client(cluster))
    except (OSError, TimeoutError) as error:
        raise UserError(
            f"no dask scheduler answers at {scheduler} ({error}). Start one, or give backend=loky."
        ) from None

    def submit(work: Callable[..., Any], *job: Any) -> Any:
        return client.submit(work, *job, pure=False)

    return submit, max(1, sum(client.nthreads().values()))
