"""Jobs on GPUs: each waits for the one that it needs and for nothing else, and one that fails stops no other."""

from __future__ import annotations

import threading
import time

import pytest

from shared.jobs import run_jobs


def run_named(jobs: dict[str, str | None], ok: set[str], seconds: float = 0.01) -> tuple[list[str], list[str]]:
    """Run jobs that wait for the one they name; those that failed, and starts and ends as they came."""
    events: list[str] = []
    lock = threading.Lock()

    def run(job: str, gpu: str | None) -> bool:
        with lock:
            events.append(f"{job} on {gpu}")
        time.sleep(seconds)
        with lock:
            events.append(f"{job} ended")
        return job in ok

    return run_jobs(list(jobs), lambda job: job, run, lambda job: jobs[job]), events


def test_a_job_waits_for_the_one_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUS", "0,1,2")
    jobs = {"a": None, "b": None, "a1": "a", "b1": "b", "a2": "a1", "free": None}
    failed, events = run_named(jobs, ok={"a", "b", "a1", "a2", "free"})
    assert failed == ["b1"]
    assert len(events) == 12
    for job, needs in jobs.items():
        if needs is not None:
            start = next(i for i, event in enumerate(events) if event.startswith(f"{job} on"))
            assert events.index(f"{needs} ended") < start
    # What waits for nothing takes the third GPU at once.
    assert {event.partition(" ")[0] for event in events[:3]} == {"a", "b", "free"}
    assert {event.rpartition(" ")[2] for event in events if " on " in event} == {"0", "1", "2"}


def test_without_gpus_one_after_the_other_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GPUS", raising=False)
    failed, events = run_named({"a": None, "b": "a", "c": None}, ok={"b", "c"})
    assert failed == ["a"]
    assert events == [f"{job} {what}" for job in "abc" for what in ("on None", "ended")]


def test_what_cannot_be_started_is_named_and_a_stop_starts_nothing_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GPUS", "0,1")
    started: list[str] = []

    def run(job: str, _gpu: str | None) -> bool:
        started.append(job)
        if job == "odd":
            raise PermissionError("not allowed")
        if job == "stop":
            raise KeyboardInterrupt
        return True

    assert run_jobs(["odd", "fine"], str, run) == ["odd"]
    assert "odd: FAILED, not allowed" in capsys.readouterr().out
    started.clear()
    monkeypatch.setenv("GPUS", "0")
    with pytest.raises(KeyboardInterrupt):
        run_jobs(["stop", "later"], str, run)
    assert started == ["stop"]
