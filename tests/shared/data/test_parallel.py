"""Chunks worked on elsewhere: in order, a bounded number ahead, also where a worker of a cluster dies."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from shared.data.parallel import AHEAD, map_in_order
from shared.data.prepare import prepare
from shared.errors import UserError
from tests.shared.data.test_unfinished import bytes_of, demo


def double(number: int) -> int:
    time.sleep(0.01 * (number % 3))
    return 2 * number


@pytest.mark.parametrize("backend", ["sequential", "threading", "loky"])
def test_results_come_in_order_and_are_not_piled_up(backend: str) -> None:
    taken: list[int] = []

    def jobs() -> object:
        for number in range(40):
            taken.append(number)
            yield (number,)

    found = []
    for result in map_in_order(double, jobs(), backend, 2):
        found.append(result)
        assert len(taken) <= len(found) + AHEAD * 2
    assert found == [2 * number for number in range(40)]


def test_an_error_comes_through() -> None:
    with pytest.raises(TypeError, match="not all arguments converted|unsupported operand"):
        list(map_in_order(double, [(1,), (None,)], "threading", 2))


def die(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_killed_process_is_an_error_that_says_so() -> None:
    with pytest.raises(UserError, match="was killed, perhaps for want of memory"):
        list(map_in_order(die, ((number,) for number in range(9)), "loky", 2))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_repeats_what_a_killed_worker_had(tmp_path: Path) -> None:
    """Two workers behind an address, one of which is killed while it reads."""
    distributed = pytest.importorskip("distributed", reason="dask is not installed")
    values = {"num_records": 1200, "chunk": 4, "shard": 16}
    with distributed.LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster:
        victim = next(iter(cluster.workers.values()))
        killed = []

        def kill() -> None:
            until = time.monotonic() + 60
            while not (tmp_path / ".out.unfinished" / "progress.json").is_file() and time.monotonic() < until:
                time.sleep(0.01)
            killed.append((tmp_path / "out").exists())
            os.kill(victim.pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        config = demo(tmp_path / "out", backend="dask", scheduler=cluster.scheduler_address, **values)
        store = prepare(config)
        killer.join()
    assert killed == [False]
    assert bytes_of(store) == bytes_of(prepare(demo(tmp_path / "whole", **values)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_an_address_where_no_scheduler_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="dask is not installed")
    monkeypatch.setattr("shared.data.parallel.PATIENCE", "1s")
    with pytest.raises(UserError, match="no dask scheduler answers at tcp://127.0.0.1:9"):
        prepare(demo(tmp_path / "out", backend="dask", scheduler="tcp://127.0.0.1:9"))
    with pytest.raises(ValueError, match="scheduler is for backend=dask, not backend=sequential"):
        demo(tmp_path / "out", scheduler="tcp://127.0.0.1:9")
