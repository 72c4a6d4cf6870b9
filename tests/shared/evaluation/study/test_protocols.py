"""Studies that follow a published protocol: its settings in every row, and what is written out named as a deviation."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import UserError
from shared.evaluation.study.config import read_study
from shared.evaluation.study.plan import plan_study
from tests.shared.evaluation.study.studies import finish, run_in_process, write_study

FEW = {"seeds": [0], "hypotheses": [{"row": "lead V1"}], "draws": 20}


def test_a_preset_holds_in_every_row_but_for_what_is_written_out(
    synthetic_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_in_process(monkeypatch)
    evaluation = {"protocol": "seed", "task": "superclass", "min_positives": 1, "resamples": 20, "set": {"knn.k": 5}}
    path = write_study(tmp_path, store=str(synthetic_store), evaluation=evaluation, **FEW)
    study = plan_study(path, read_study(path))
    for job in study.jobs.values():
        assert job.scored.protocols == ("knn", "clusters") and job.scored.single_label
        assert job.follows is not None and job.follows.deviations == ("knn.k = 5 (protocol: 20)",)
    assert finish(path) == 0
    for name in ("report.html", "study.md"):
        text = (tmp_path / "study" / name).read_text()
        assert text.count("but for knn.k = 5 (protocol: 20)") == 1, name


def test_a_deviation_of_one_row_is_its_own(synthetic_store: Path, tmp_path: Path) -> None:
    evaluation = {"protocol": "l2_logistic", "task": "superclass"}
    path = write_study(tmp_path, store=str(synthetic_store), evaluation=evaluation, hypotheses=[])
    config = read_study(path, ["rows.lead V1.evaluation={min_positives: 3}"])
    found = {job.row: job.follows.deviations for job in plan_study(path, config).jobs.values() if job.follows}
    assert found == {
        "lead I": (),
        "lead V1": ("min_positives = 3 (protocol: 10)",),
        "lead I again": (),
    }


def test_a_fine_tuning_follows_the_part_of_its_mode(synthetic_store: Path, tmp_path: Path) -> None:
    finetune = tmp_path / "finetune.yaml"
    finetune.write_text("program: st_mem_modified.finetune\nrun: {out: unused}\ndata: {store: unused}\n")
    rows = {"tuned": {"config": str(finetune), "set": {"encoder.weights": str(tmp_path)}}}
    changes = {"store": str(synthetic_store), "rows": rows, "baseline": "tuned", "hypotheses": [], "seeds": [0]}
    path = write_study(tmp_path, evaluation={"protocol": "st_mem", "task": "superclass"}, **changes)
    job = plan_study(path, read_study(path)).jobs["tuned", 0]
    assert job.scored.single_label and job.scored.num_crops == 3
    assert job.follows is not None and job.follows.part == "finetune" and job.follows.deviations == ()
    path = write_study(tmp_path, evaluation={"protocol": "l2_logistic", "task": "superclass"}, **changes)
    with pytest.raises(UserError, match="l2_logistic says nothing of 'finetune'; it has evaluation"):
        plan_study(path, read_study(path))
