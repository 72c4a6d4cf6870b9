"""Studies that Slurm runs: arrays in the order of their stages, and what each job of them does."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import UserError
from shared.evaluation.study.__main__ import main
from tests.shared.evaluation.study.studies import finish, run_in_process, write_study
from tests.shared.evaluation.study.test_search import search_study
from tests.shared.sweep.planted import stand_in_sbatch


def test_stages_are_arrays_that_wait_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = stand_in_sbatch(tmp_path, monkeypatch)
    commands = run_in_process(monkeypatch)
    write_study(tmp_path)
    row = {"config": str(tmp_path / "leads.yaml")}
    rows = {"lead V1": {**row, "after": "lead I", "start": "encoder.weights", "set": {"encoder.module": None}}}
    path = write_study(tmp_path, rows=rows | {"lead I": row}, seeds=[0, 1], hypotheses=[])
    with pytest.raises(UserError, match="there is no row 'lead II'"):
        main([path, "slurm=--gres gpu:1", "baseline=lead II"])
    assert not calls.exists()  # a bad study is found before anything is submitted
    main([path, "slurm=--gres gpu:1", "draws=50"])
    first, second, page, _ = calls.read_text().split("--\n")
    assert "--array=0-1" in first.splitlines() and {"--gres", "gpu:1"} <= set(first.splitlines())
    assert "--dependency" not in first and "only=$SLURM_ARRAY_TASK_ID" in first and "draws=50" in first
    assert "--array=2-3" in second.splitlines() and "--dependency=afterany:77" in second.splitlines()
    assert "only=table" in page and "--array" not in page and "slurm=" not in first + second + page
    assert commands == []


def test_a_search_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = stand_in_sbatch(tmp_path, monkeypatch)
    main([search_study(tmp_path), "slurm="])
    search, array, _, _ = calls.read_text().split("--\n")
    assert "only=search" in search and "--dependency=afterany:77" in array.splitlines() and "--array=0-3" in array


def test_what_the_jobs_run_is_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = run_in_process(monkeypatch)
    path, out = search_study(tmp_path, seeds=[4]), tmp_path / "study"
    assert finish(path, "only=1") == 1 and commands == []  # what is to be searched for has no setting yet
    assert finish(path, "only=search") == 0 and len(commands) == 3
    assert finish(path, "only=0") == 0 and finish(path, "only=table") == 1
    assert "searched, seed 4 has no scores: not run" in (out / "study.md").read_text()
    assert finish(path, "only=1") == 0 and finish(path, "only=table") == 0 and len(commands) == 5
    told = (out / "study.csv").read_text()
    assert finish(path) == 0 and len(commands) == 5 and (out / "study.csv").read_text() == told
    with pytest.raises(UserError, match="only=2: expected search, table, or the number of one of 2 jobs"):
        main([path, "only=2"])
