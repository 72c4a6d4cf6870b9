"""The table of a protocol: which rows are compared with which baseline, by any kind of score."""

from __future__ import annotations

import numpy as np
import pytest

from shared.evaluation.context import RANDOM, UNTUNED
from shared.evaluation.scoring import score_predictions, score_rows, score_values
from tests.shared.evaluation.contexts import NAME, make_context, make_store


@pytest.fixture
def context(tmp_path):
    store, labels = make_store(tmp_path / "store", num=100)
    return make_context(tmp_path, store, labels, {}, baselines=(RANDOM, UNTUNED))


def pairs(result):
    return {baseline: list(rows) for baseline, rows in result.differences.items()}


def test_a_baseline_is_compared_with_those_before_it(context):
    names = (NAME, UNTUNED, "other", RANDOM)
    result = score_rows(context, names, lambda row: {}, lambda row, baseline: {})
    assert list(result.scores) == list(names)
    assert pairs(result) == {RANDOM: [NAME, UNTUNED, "other"], UNTUNED: [NAME, "other"]}


def test_a_baseline_that_was_not_scored_is_passed_over(context):
    result = score_rows(context, (NAME, UNTUNED), lambda row: {}, lambda row, baseline: {})
    assert pairs(result) == {UNTUNED: [NAME]}
    assert pairs(score_rows(context, (NAME,), lambda row: {}, lambda row, baseline: {})) == {}


def test_values_of_resamples(context):
    rng = np.random.default_rng(0)
    values = {row: {"a": rng.random(51), "b": rng.random(51), "spread": rng.random(51)} for row in (NAME, RANDOM)}
    del values[RANDOM]["b"]
    result = score_values(context, values, {"a": 7, "b": 8, "spread": 9}, recentre=("a",), alone=("spread",))
    assert {m: score["n"] for m, score in result.scores[NAME].items()} == {"a": 7, "b": 8, "spread": 9}
    (difference,) = result.differences[RANDOM][NAME].values()
    own, other = values[NAME]["a"], values[RANDOM]["a"]
    assert difference["value"] == own[0] - other[0] and difference["n"] == 7
    middle = np.quantile((own - other)[1:], 0.5)
    low = np.quantile((own - other)[1:], 0.025)
    assert difference["low"] == pytest.approx(low + difference["value"] - middle)


def test_predictions(context):
    rng = np.random.default_rng(0)
    split = context.split
    chance = {row: rng.random((len(context.indices), 3)) for row in (UNTUNED, RANDOM)}
    given = {NAME: 0.5 * context.labels + 0.4 * chance[UNTUNED], **chance}
    result = score_predictions(context, {row: (p[split.val], p[split.test]) for row, p in given.items()})
    assert pairs(result) == {RANDOM: [NAME, UNTUNED], UNTUNED: [NAME]}
    assert result.scores[NAME]["auroc_macro"]["value"] == 1
    for baseline in (RANDOM, UNTUNED):
        found = result.differences[baseline][NAME]["auroc_macro"]
        assert found["value"] == pytest.approx(1 - result.scores[baseline]["auroc_macro"]["value"])
        assert found["low"] > 0.2
    np.testing.assert_array_equal(result.predictions[NAME], given[NAME][split.test])
