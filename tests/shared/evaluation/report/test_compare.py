"""Comparison of runs: paired differences on the same records, and refusals where records or tasks differ."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shared.errors import UserError
from shared.evaluation.context import RANDOM
from shared.evaluation.report.compare import compare, main
from shared.plots.predictions import frequent_classes, plot_confusion
from shared.plots.scores import plot_conditions
from tests.shared.evaluation.test_evaluate import Statistics, run


@pytest.fixture(scope="module")
def two(synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("compared")
    run(synthetic_store, folder / "a")
    run(synthetic_store, folder / "b" / "evaluation", encoder=Statistics(7))
    return folder / "a", folder / "b"


def test_table_of_two_runs(two: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(two[0]), str(two[1]), f"out={tmp_path}"])
    assert f"report: {tmp_path / 'report.html'}" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "comparison.csv")
    rows = set(table[table.protocol == "knn"].row)
    assert rows == {
        "statistics (a)",
        "statistics (b)",
        "random encoder, statistics (a)",  # the same in both runs, so once
        "statistics (a) − random encoder, statistics (a)",
        "statistics (b) − random encoder, statistics (a)",
        "statistics (b) − statistics (a)",
    }

    def value(row: str) -> float:
        line = table[(table.protocol == "knn") & (table.row == row) & (table.metric == "auroc_macro")]
        return float(line.value.iloc[0])

    difference = value("statistics (b) − statistics (a)")
    assert difference == pytest.approx(value("statistics (b)") - value("statistics (a)"), abs=1e-9)
    metrics = json.loads((two[0] / "metrics.json").read_text())
    assert value("statistics (a)") == pytest.approx(metrics["knn"]["auroc_macro"]["value"], abs=1e-9)
    for name in ("comparison.md", "comparison.tex", "figures/auroc_per_class.png"):
        assert (tmp_path / name).is_file()


def test_a_run_against_itself_differs_by_nothing(two: tuple[Path, Path], tmp_path: Path) -> None:
    compare([two[0], two[0]], tmp_path)
    table = pd.read_csv(tmp_path / "comparison.csv")
    differences = table[table.row.str.contains("−") & ~table.row.str.contains("random")]
    assert len(differences)
    assert np.allclose(differences[["value", "low", "high"]], 0)


def test_other_records_are_refused(synthetic_store: Path, two: tuple[Path, Path], tmp_path: Path) -> None:
    run(synthetic_store, tmp_path / "c", "test_folds=9", "val_folds=10")
    with pytest.raises(UserError, match="tested on different records"):
        compare([two[0], tmp_path / "c"], tmp_path / "out")
    with pytest.raises(UserError, match="holds no evaluation"):
        compare([two[0], tmp_path / "nothing"], tmp_path / "out")
    with pytest.raises(UserError, match="name at least two"):
        compare([two[0]], tmp_path / "out")
    with pytest.raises(UserError, match="unknown key 'to'"):
        main([str(two[0]), str(two[1]), "to=x"])


def test_figures_of_a_comparison(two: tuple[Path, Path], tmp_path: Path) -> None:
    compare([two[0], two[1]], tmp_path)
    for name in ("overview", "roc_knn", "calibration_knn", "confusion_knn", "roc_knn_cosine"):
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 1_500
        assert (tmp_path / "figures" / f"{name}.svg").read_text().startswith("<?xml")
    page = (tmp_path / "report.html").read_text()
    assert "ROC curves of kNN" in page and "Confusion matrices of kNN" in page and "Calibration of kNN" in page


def test_runs_are_lines_and_a_leak_of_one_run_stands_on_the_page(two: tuple[Path, Path], tmp_path: Path) -> None:
    leaky = tmp_path / "leaky"
    shutil.copytree(two[1] / "evaluation", leaky)
    summary = json.loads((leaky / "summary.json").read_text())
    summary["notes"].append("LEAK: 3 test patients were in pretraining")
    (leaky / "summary.json").write_text(json.dumps(summary))
    page = compare([two[0], leaky], tmp_path / "out").read_text()
    leak = page.index('<p class="leak"><strong>LEAK: 3 test patients were in pretraining (statistics (leaky))')
    assert page.index('class="verdict') < leak < page.index('<nav aria-label="Contents">')
    assert page.count("12 of 20 test records have exactly one label and take part") == 1
    lines = (tmp_path / "out" / "comparison.md").read_text().splitlines()
    first, second = (
        next(i for i, line in enumerate(lines) if line.startswith(f"| statistics ({name})")) for name in ("a", "leaky")
    )
    assert lines[0] == "## kNN" and "AUROC macro" in lines[2]
    assert lines[first + 1].startswith("| statistics (a) − random encoder |") and first < second
    metrics = json.loads((two[0] / "metrics.json").read_text())[f"knn minus {RANDOM}"]["f1_macro"]
    assert f"{metrics['value']:+.3f} [{metrics['low']:+.3f}, {metrics['high']:+.3f}]" in lines[first + 1]
    latex = (tmp_path / "out" / "comparison.tex").read_text()
    assert r"\toprule" in latex and latex.count(r"\textbf{") == "\n".join(lines).count("**") / 2


def test_confusion_needs_two_classes_with_one_label_each(tmp_path: Path) -> None:
    truth = np.zeros((6, 3), dtype=bool)
    truth[:, 0] = True
    truth[:2, 1] = True
    assert not plot_confusion(tmp_path / "c.png", truth, {"a": np.zeros((6, 3))}, ["A", "B", "C"], "t")
    assert not (tmp_path / "c.png").exists()
    truth[2:4, 0], truth[2:4, 2] = False, True
    assert plot_confusion(tmp_path / "c.png", truth, {"a": np.zeros((6, 3))}, ["A", "B", "C"], "t")


def test_curves_over_conditions(tmp_path: Path) -> None:
    score = {"value": 0.7, "low": 0.6, "high": 0.8, "n": 5}
    rows = {"a": {"auroc_macro@1%": score, "auroc_macro@100%": score}, "b": {"auroc_macro@1%": score}}
    assert plot_conditions(tmp_path / "f.png", "Label efficiency", "share", rows)
    assert not plot_conditions(tmp_path / "g.png", "Reduced leads", "leads", {"a": {"other": score}})
    assert not (tmp_path / "g.png").exists()


def test_classes_beyond_the_limit_are_left_to_the_tables() -> None:
    truth = np.random.default_rng(0).random((200, 40)) < np.linspace(0.02, 0.9, 40)
    truth[:, 39] = True  # no negatives: no curve
    kept = frequent_classes(truth)
    assert kept == sorted(kept) and len(kept) == 12 and 39 not in kept and 38 in kept
