"""The table of a sweep: validation ranks, test is shown of the chosen point alone, and what it says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from shared.errors import UserError
from shared.evaluation.ranking import Measure
from shared.evaluation.validation import VALIDATION_FILE
from shared.sweep.__main__ import main
from shared.sweep.grid import Sweep
from shared.sweep.table import write_table
from tests.shared.sweep.planted import run_in_process, sweep_of

MEASURE = Measure("knn", "auroc_macro", "AUROC macro")


def end_of(argv: list[str]) -> int:
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert isinstance(end.value.code, int)
    return end.value.code


def test_the_point_that_is_best_on_validation_is_chosen_though_another_is_best_on_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_in_process(monkeypatch)
    argv = sweep_of(tmp_path, "encoder.leads=II,I")
    assert end_of(argv) == 0
    out = tmp_path / "sweep"
    test = {
        lead: json.loads((out / f"leads={lead}" / "metrics.json").read_text())["knn"]["auroc_macro"]
        for lead in ("I", "II")
    }
    assert test["II"]["value"] > 0.9 > 0.7 > test["I"]["value"]  # ranked by test, II would be chosen
    table = pd.read_csv(out / "sweep.csv").set_index("encoder.leads")
    assert list(table.index) == ["I", "II"] and list(table["rank"]) == [1, 2]
    assert table.state["I"] == "chosen" and table.validation_value["I"] > 0.95 > table.validation_value["II"]
    assert table.test_value["I"] == test["I"]["value"] and pd.isna(table.test_value["II"])
    others = f"{test['II']['value']:.3f} [{test['II']['low']:.3f}"
    written = {name: (out / name).read_text() for name in ("sweep.md", "sweep.tex", "report.html")}
    for name, text in written.items():
        assert others not in text, name
        assert f"{test['I']['value']:.3f} [" in text, name
    assert "Chosen of 2 points by knn/auroc_macro on 20 validation records: leads=I with" in written["sweep.md"]

    assert end_of([*argv, "table=true", "show_test=true"]) == 0
    assert f"{others}" in (out / "sweep.md").read_text() and "(not for choosing)" in (out / "report.html").read_text()
    table = pd.read_csv(out / "sweep.csv").set_index("encoder.leads")
    assert table.test_is["II"] == "not for choosing" and table.test_value["II"] == test["II"]["value"]
    assert table.state["I"] == "chosen"  # what is shown changes nothing


def score(value: float, **more: Any) -> dict[str, Any]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 7, **more}


def write_scores(folder: Path, validation: dict[str, Any], test: dict[str, Any], digest: str = "d") -> None:
    """What an evaluation leaves, as far as a table reads it."""
    folder.mkdir(parents=True)
    (folder / VALIDATION_FILE).write_text(json.dumps(validation))
    (folder / "metrics.json").write_text(json.dumps(test))
    (folder / "summary.json").write_text(json.dumps({"validation": {"digest": digest}}))


def sweep_over(out: Path, *values: str, **options: Any) -> Sweep:
    axes = {"optim.lr": list(values), "optim.epochs": ["2"]}
    return Sweep("some.yaml", axes, out, "st_mem_modified.pretrain", "evaluation.yaml", **options)


def test_equal_scores_missing_scores_and_what_was_chosen_on_validation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("1", 0.7), ("2", 0.8), ("3", 0.8), ("5", float("nan"))):
        scores = {"knn": {"auroc_macro": score(value, optimistic="the probe's l2")}}
        write_scores(tmp_path / f"lr={name}" / "evaluation", scores, {"knn": {"auroc_macro": score(0.5)}})
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "lr=4.txt").write_text("broken")
    assert write_table(sweep_over(tmp_path, "1", "2", "3", "4", "5", "6"), MEASURE) == tmp_path / "report.html"
    table = pd.read_csv(tmp_path / "sweep.csv", dtype={"optim.lr": str})
    assert list(table["optim.lr"]) == ["2", "3", "1", "4", "5", "6"]  # of equals the first
    assert list(table["rank"][:3]) == [1, 2, 3] and table["rank"][3:].isna().all()
    assert list(table.state.fillna("")[[0, 1, 2, 5]]) == ["chosen", "", "", "not run"]
    assert (
        str(tmp_path / "logs" / "lr=4.txt") in table.state[3] and "no knn/auroc_macro on validation" in table.state[4]
    )
    shown = capsys.readouterr().out
    assert (
        "Chosen of 3 points by knn/auroc_macro on 7 validation records: lr=2 with 0.800 [0.700, 0.900]; its score on test is 0.500"
        in shown
    )
    assert "within the interval of the chosen one: 1 of 2 others." in shown
    assert "each point chose the probe's l2 too: their scores are too high" in shown
    assert "3 of 6 points have no score: lr=4, lr=5, lr=6." in shown
    assert len([line for line in (tmp_path / "sweep.md").read_text().splitlines() if line.startswith("| ")]) == 1 + 6


def test_where_lower_is_better_the_lowest_is_chosen(tmp_path: Path) -> None:
    for name, value in (("1", 9.0), ("2", 6.5), ("3", 7.0)):
        scores = {"clusters": {"labels/davies_bouldin": score(value)}}
        write_scores(tmp_path / f"lr={name}", scores, scores)
    write_table(
        sweep_over(tmp_path, "1", "2", "3"),
        Measure("clusters", "labels/davies_bouldin", "Davies–Bouldin of the labels ↓"),
    )
    assert list(pd.read_csv(tmp_path / "sweep.csv").validation_value) == [6.5, 7.0, 9.0]


def test_different_validation_records_have_no_ranks(tmp_path: Path) -> None:
    for name in ("1", "2"):
        scores = {"knn": {"auroc_macro": score(0.7)}}
        write_scores(tmp_path / f"lr={name}", scores, scores, digest=name)
    with pytest.raises(UserError, match="lr=1 and lr=2 were scored on different validation records"):
        write_table(sweep_over(tmp_path, "1", "2"), MEASURE)


def test_a_point_that_failed_now_is_not_ranked_by_what_it_scored_before(tmp_path: Path) -> None:
    for name, value in (("1", 0.7), ("2", 0.9), ("3", 0.6)):
        scores = {"knn": {"auroc_macro": score(value)}}
        write_scores(tmp_path / f"lr={name}", scores, scores)
    write_table(sweep_over(tmp_path, "1", "2", "3"), MEASURE, failed=["lr=2"])
    table = pd.read_csv(tmp_path / "sweep.csv")
    assert list(table.point) == ["lr=1", "lr=3", "lr=2"] and pd.isna(table.validation_value[2])


def test_fewer_than_two_scores_are_no_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = {"knn": {"auroc_macro": score(0.7)}}
    write_scores(tmp_path / "lr=1", scores, scores)
    assert write_table(sweep_over(tmp_path, "1", "2"), MEASURE) is None
    assert "lr=2: not run\nfewer than two points have a score knn/auroc_macro" in capsys.readouterr().out
    assert not (tmp_path / "sweep.csv").exists()
