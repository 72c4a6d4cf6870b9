"""Tables of a report: what is better, what competes, what stands beside what."""

from __future__ import annotations

import pytest

from shared.evaluation.context import RANDOM, Result
from shared.evaluation.protocols import PROTOCOLS
from shared.evaluation.report.tables import (
    MOST_COLUMNS,
    Line,
    class_table,
    direction,
    format_parts,
    judge,
    main_table,
    tables_of,
    to_latex,
    to_markdown,
)
from shared.statistics.interval import Interval, Scores


def interval(value: float, low: float | None = None, high: float | None = None) -> Interval:
    return {
        "value": value,
        "low": value - 0.1 if low is None else low,
        "high": value + 0.1 if high is None else high,
        "n": 9,
    }


def scores(auroc: float, ece: float) -> Scores:
    return {"auroc_macro": interval(auroc), "ece_macro": interval(ece)}


def best_of(lines: tuple[Line, ...], column: int) -> list[str]:
    return [line.name for line in lines if line.cells[column].best]


@pytest.mark.parametrize(
    ("metric", "sign"),
    [
        ("auroc_macro", 1),
        ("knn/auroc_macro@10%", 1),
        ("auprc/MI", 1),
        ("ece_macro", -1),
        ("ece/MI", -1),
        ("labels/davies_bouldin", -1),
        ("kmeans/davies_bouldin", -1),
        ("true_heart_rate/mae", -1),
        ("true_heart_rate/r2", 1),
        ("eer", -1),
        ("c_index", 1),
        ("alpha_req", 0),
        ("knn/auroc_macro_std@10%", 0),
        ("something_else", 0),
    ],
)
def test_what_is_better(metric: str, sign: int) -> None:
    assert direction(metric) == sign


def test_every_titled_metric_says_whether_higher_is_better() -> None:
    for protocol in PROTOCOLS.values():
        for metric, title in protocol.titles.items():
            assert direction(metric) == (0 if metric in protocol.unranked else -1 if "↓" in title else 1)


def test_the_best_run_of_a_column_is_marked_by_its_value() -> None:
    rows = {"own": scores(0.7, 0.05), "other": scores(0.8, 0.09), RANDOM: scores(0.9, 0.01)}
    (table,) = tables_of(Result(rows, {RANDOM: {"own": scores(-0.2, 0.04)}, "own": {"other": scores(0.99, 0.0)}}))
    assert best_of(table.lines, 0) == ["other"]  # not the own row, no random encoder, no difference
    assert best_of(table.lines, 1) == ["own"]  # lower is better
    assert [(line.name, line.kind) for line in table.lines] == [
        ("own", "run"), ("other", "run"), (RANDOM, "random"), ("other − own", "difference"),
    ]  # fmt: skip
    own, other, random, difference = table.lines
    assert own.cells[0].gain == interval(-0.2) and own.cells[0].told == "worse"
    assert other.cells[0].gain is None and random.cells[0].gain is None
    assert difference.cells[0].signed and difference.cells[0].told == "better"


def test_one_run_and_equal_runs_are_not_called_the_best() -> None:
    (alone,) = tables_of(Result({"own": scores(0.7, 0.1), RANDOM: scores(0.5, 0.2)}))
    (equal,) = tables_of(Result({"a": scores(0.7, 0.1), "b": scores(0.7, 0.2)}))
    assert not best_of(alone.lines, 0) and not best_of(equal.lines, 0) and best_of(equal.lines, 1) == ["a"]
    (nan,) = tables_of(Result({"a": scores(float("nan"), 0.1), "b": scores(0.7, 0.2), "c": scores(0.6, 0.2)}))
    assert best_of(nan.lines, 0) == ["b"]


@pytest.mark.parametrize(
    ("metric", "low", "high", "told"),
    [
        ("auroc_macro", 0.01, 0.2, "better"),
        ("auroc_macro", -0.2, -0.01, "worse"),
        ("auroc_macro", -0.01, 0.2, "open"),
        ("auroc_macro", 0.0, 0.2, "open"),
        ("ece_macro", -0.2, -0.01, "better"),
        ("ece_macro", 0.01, 0.2, "worse"),
        ("auroc_macro", float("nan"), float("nan"), "open"),
        ("alpha_req", 0.1, 0.2, "open"),
    ],
)
def test_a_difference_is_one_where_its_interval_excludes_0(metric: str, low: float, high: float, told: str) -> None:
    assert judge(metric, interval(0.1, low, high)) == told


def test_conditions_are_columns_of_one_table_per_metric() -> None:
    rows = {"own": {f"{m}@{c}": interval(0.5) for m in ("auroc_macro", "auprc_macro") for c in ("1%", "arms_swapped")}}
    tables = tables_of(Result(rows))
    assert [(t.title, t.columns) for t in tables] == [
        ("AUROC macro", ("1%", "arms swapped")), ("AUPRC macro", ("1%", "arms swapped")),
    ]  # fmt: skip
    targets = tables_of(Result({"own": {"age/mae": interval(9), "age/r2": interval(0.3), "rate/mae": interval(2)}}))
    assert [(t.title, t.columns) for t in targets] == [
        ("mean absolute error ↓", ("age", "rate")), ("R²", ("age",)),
    ]  # fmt: skip


def test_the_main_table_has_few_columns() -> None:
    own = {"own": scores(0.7, 0.1), "b": scores(0.6, 0.1), "c": scores(0.6, 0.1), "d": scores(0.6, 0.1)}
    result = Result(own, {"own": {row: scores(0.1, 0.1) for row in "bcd"}})
    names = ("finetune", "linear_probe", "knn", "knn_cosine", "attentive_probe")
    table = main_table(dict.fromkeys(names, result))
    assert table is not None and len(table.columns) == MOST_COLUMNS
    assert table.columns[1] == "linear probe: AUROC macro"
    assert [line.kind for line in table.lines] == ["run"] * 4  # many differences are left to the protocols' tables
    assert main_table({"label_fractions": Result({"own": {"auroc_macro@1%": interval(0.5)}})}) is None


def test_classes_are_the_lines_of_their_table() -> None:
    of_class = {"auroc/MI": interval(0.8), "auprc/MI": interval(0.6)}
    table = class_table(of_class, {"auroc/MI": interval(0.2)}, ["MI", "RARE"], [12, 1])
    assert table.columns == ("test records", "AUROC", "AUPRC")
    mi, rare = table.lines
    assert mi.cells[0].text == "12" and mi.cells[1].score == interval(0.8) and mi.cells[1].told == "better"
    assert rare.cells[0].text == "1" and rare.cells[1].score is None


def test_markdown_and_latex_have_runs_as_lines() -> None:
    rows = {"a_b": scores(0.7, 0.1), "c": scores(0.8, 0.2), RANDOM: scores(0.5, 0.3)}
    results = {"linear_probe": Result(rows, {RANDOM: {"c": scores(0.3, -0.1)}})}
    lines = to_markdown(results).splitlines()
    assert lines[:3] == ["## linear probe", "", "| | AUROC macro | calibration error ↓ |"]
    assert lines[4] == "| a_b | 0.700 [0.600, 0.800] | **0.100 [0.000, 0.200]** |"
    assert lines[6] == f"| c − {RANDOM} | +0.300 [+0.200, +0.400] | -0.100 [-0.200, +0.000] |"
    latex = to_latex(results)
    assert r"a\_b & 0.700 [0.600, 0.800] & \textbf{0.100 [0.000, 0.200]}" in latex
    assert r"calibration error $\downarrow$" in latex


def test_numbers_are_written_as_their_size_asks_for() -> None:
    assert format_parts(interval(0.8123)) == ("0.812", "[0.712, 0.912]")
    assert format_parts(interval(812.34, 800, 820)) == ("812.3", "[800.0, 820.0]")
    assert format_parts(None) == ("–", "") and format_parts(interval(float("nan"))) == ("–", "")
