"""Searches: ranked on validation, the same after a stop, and refused where they would look at test."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import shared.evaluation.study.job
from shared.errors import UserError
from shared.evaluation.study.__main__ import main
from shared.evaluation.study.check import check_study
from shared.evaluation.study.config import read_study
from shared.evaluation.study.plan import plan_study
from shared.evaluation.study.search import check_search, search_rows
from tests.shared.evaluation.study.studies import finish, run_in_process, write_study
from tests.shared.sweep.planted import in_process

LEADS = {"encoder.leads": {"choices": [["II"], ["I"], ["V2"]]}}
"""Lead II tells the classes on test alone, lead I on validation alone, V2 nowhere."""


def search_study(tmp: Path, space: dict[str, Any] = LEADS, search: dict[str, Any] | None = None, **changes: Any) -> str:
    """The path of a study of a row with a space beside lead V1."""
    write_study(tmp)
    config = str(tmp / "leads.yaml")
    rows = {
        "lead V1": {"config": config, "set": {"encoder.leads": ["V1"]}},
        "searched": {"config": config, "space": space},
    }
    given = {"trials": 3, "sampler": "grid"} if search is None else search
    few: dict[str, Any] = {"baseline": "lead V1", "seeds": [4, 5], "hypotheses": [{"row": "searched"}], "draws": 40}
    return write_study(tmp, protocols=["knn"], rows=rows, search=given, **(few | changes))


def test_the_best_on_validation_is_run_with_all_seeds_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = run_in_process(monkeypatch)
    path, out = search_study(tmp_path), tmp_path / "study"
    assert finish(path) == 0
    assert len(commands) == 3 + 4  # trials, then two rows with two seeds
    assert all("seed=4" in " ".join(command) for command in commands[:3])
    table = pd.read_csv(out / "study.csv")
    found = table[table.kind == "search on validation"].iloc[0]
    assert json.loads(found.chosen) == {"encoder.leads": ["I"]}  # II would be the best on test
    assert found.trials == 3 and found.failed == 0 and found.value > 0.9
    score = table[(table.kind == "score") & (table.row == "searched") & (table.measure == "knn/auroc_macro")].iloc[0]
    assert score.seeds == 2 and score.value < 0.7
    for name in ("report.html", "study.md"):
        text = (out / name).read_text()
        assert "searched was searched for on validation: 3 trials with seed 4, drawn by grid" in text
        assert "No test score was read" in text
    commands.clear()
    assert finish(path) == 0 and commands == []


def choose(path: str, out: Path) -> tuple[list[list[float]], object]:
    """Search only: all trials with their scores, and what was chosen."""
    study = plan_study(path, read_study(path, [f"out={out}"]))
    out.mkdir(exist_ok=True)
    check_study(study)
    _, found = search_rows(study, check_search(study))
    (trials,) = out.glob("searched/search-*/search.csv")
    return pd.read_csv(trials).to_numpy().tolist(), found[0].chosen


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_search_that_was_killed_ends_as_one_that_was_not(
    sampler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = run_in_process(monkeypatch)
    space = {"knn.k": {"low": 1, "high": 60, "whole": True, "log": True}, "knn.temperature": {"low": 0.05, "high": 0.5}}
    path = search_study(tmp_path, space, {"trials": 4, "sampler": sampler, "seed": 3})
    whole = choose(path, tmp_path / "whole")
    assert len({line[1] for line in whole[0]}) > 1
    commands.clear()

    def killed(command: Sequence[str], log: Path, gpu: str | None) -> bool:
        commands.append(command)
        if len(commands) == 3:
            raise KeyboardInterrupt
        return in_process(command, log, gpu)

    with monkeypatch.context() as during:
        during.setattr(shared.evaluation.study.job, "execute", killed)
        with pytest.raises(KeyboardInterrupt):
            choose(path, tmp_path / "broken")
    assert choose(path, tmp_path / "broken") == whole
    assert len(commands) == 3 + 2  # the one that was stopped, and the last


def test_a_trial_that_fails_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_in_process(monkeypatch)

    def run(command: Sequence[str], log: Path, gpu: str | None) -> bool:
        if log.stem.endswith("trial-1"):
            log.write_text("out of memory\n")
            return False
        return in_process(command, log, gpu)

    monkeypatch.setattr(shared.evaluation.study.job, "execute", run)
    path = search_study(tmp_path, seeds=[4])
    assert finish(path) == 0
    assert "out of memory" in capsys.readouterr().out
    text = (tmp_path / "study" / "study.md").read_text()
    assert (
        "3 trials (1 failed) with seed 4" in text and "encoder.leads = ['I']" not in text
    )  # it was the one that failed


def test_a_search_without_a_score_names_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_in_process(monkeypatch)
    monkeypatch.setattr(
        shared.evaluation.study.job, "execute", lambda c, log, g: "trial" not in log.stem and in_process(c, log, g)
    )
    monkeypatch.setattr(shared.evaluation.study.job, "say_end", lambda *_: None)
    assert finish(search_study(tmp_path, seeds=[4])) == 1
    text = (tmp_path / "study" / "study.md").read_text()
    assert "searched, seed 4 has no scores: none of 3 trials has a score on validation" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"search": {"metric": "test/knn/auroc_macro"}},
            "search.metric=test/knn/auroc_macro: a search never looks at test",
        ),
        (
            {"search": {"metric": "knn/auprc_macro"}},
            "search.metric=knn/auprc_macro: knn has no metric 'auprc_macro' on valid",
        ),
        ({"search": {"metric": "clusters/kmeans/nmi"}}, "'clusters' is no protocol with validation scores"),
        ({"search": {"sampler": "tpes"}}, "'tpe', 'random' or 'grid'"),
        ({"space": {"encoder.led": {"choices": [1]}}}, "searched with encoder.led = 1 cannot run, .*encoder.led"),
        ({"space": {"knn.k": {"choices": [3, 0]}}}, "searched with knn.k = 0 cannot run"),
        ({"space": {"knn.k": {"low": 3, "high": 1}}}, "low 3 and high 1; low must be smaller"),
        ({"space": {"knn.k": {"low": 3}}}, "either `low` and `high`, or `choices`"),
        ({"space": {"knn.k": {"low": 1, "high": 3}}}, "rows.searched.space.knn.k has no `choices`, of which a grid"),
        ({"space": {"val_folds": {"choices": [[9], [8]]}, "train_folds": {"choices": [[1]]}}}, "different validation"),
        (
            {"space": {"train_folds": {"choices": [[1]]}, "test_folds": {"choices": [[10], [8]]}}},
            "changes the test rec",
        ),
        ({"space": {}}, "no row has a `space`"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_anything_runs(
    changes: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = run_in_process(monkeypatch)
    with pytest.raises(UserError, match=message):
        main([search_study(tmp_path, **changes)])
    assert commands == []


def test_a_space_needs_a_search(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has a `space`, but there is no `search`"):
        read_study(search_study(tmp_path), ["search=null"])
