"""Scores of the validation records: which protocols give them, that test never touches them, and what makes them too high."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from shared.evaluation.context import RANDOM
from shared.evaluation.protocols import PROTOCOLS
from shared.evaluation.report.results import write_results
from shared.evaluation.rows import chosen_in
from shared.evaluation.scoring import ON_VALIDATION, score_predictions
from shared.evaluation.validation import VALIDATION_FILE, describe_validation
from shared.statistics.knn import knn_scores
from shared.statistics.metrics import scored_auroc
from tests.shared.evaluation.contexts import NAME, Powers, make_context, make_store, truth_and_noise

VALIDATING = [name for name, protocol in PROTOCOLS.items() if protocol.validates]


@pytest.fixture
def data(tmp_path):
    return make_store(tmp_path / "store", num=100)


@pytest.fixture
def context(tmp_path, data):
    encoders = {NAME: Powers(), RANDOM: Powers()}
    return make_context(tmp_path, *data, truth_and_noise(data[1]), encoders, resamples=10)


def scores_of(protocol, context):
    return PROTOCOLS[protocol].run(context).validation


def test_these_protocols_give_them():
    assert {"knn", "knn_cosine", "clusters", "linear_probe", "attentive_probe"} <= set(VALIDATING)


@pytest.mark.parametrize("protocol", VALIDATING)
def test_scores_are_of_validation_records_and_no_test_record_touches_them(protocol, context, data):
    found = scores_of(protocol, context)
    assert list(found) == [NAME, RANDOM]
    headlines = PROTOCOLS[protocol].headlines
    assert all(set(headlines) <= set(scores) for scores in found.values())
    counted = {score["n"] for metric, score in found[NAME].items() if metric in headlines}
    single = (context.labels[context.split.val].sum(axis=1) == 1).sum()
    assert counted == {single if protocol == "clusters" else len(context.split.val)}
    for metric in headlines:
        assert found[NAME][metric]["low"] <= found[NAME][metric]["value"] <= found[NAME][metric]["high"]
    # Other test embeddings and test labels: the same scores to the bit.
    spoilt = {row: e.copy() for row, e in context.rows.items()}
    labels = context.task.labels.copy()
    for e in spoilt.values():
        e[context.split.test] = np.random.default_rng(1).normal(size=e[context.split.test].shape)
    labels[context.split.test] = ~labels[context.split.test]
    other = replace(context, rows=spoilt, task=replace(context.task, labels=labels))
    assert json.dumps(scores_of(protocol, other)) == json.dumps(found)


def test_neighbours_are_training_records(context):
    """As by hand: training records vote on validation records."""
    e, train, val = context.rows[NAME], context.split.train, context.split.val
    votes = knn_scores(e[train], context.labels[train], e[val], context.config.knn.k)
    found = scores_of("knn", context)[NAME]["auroc_macro"]
    assert found["value"] == pytest.approx(scored_auroc(context.labels[val], votes))


def test_what_was_chosen_on_the_same_records_stands_beside_the_score(context):
    plain, probe = scores_of("knn", context)[NAME], scores_of("linear_probe", context)[NAME]
    assert "optimistic" not in plain["auroc_macro"] and plain["f1_weighted"]["optimistic"] == "the thresholds"
    assert probe["auroc_macro"]["optimistic"] == probe["auroc/A"]["optimistic"] == "the probe's l2"
    assert probe["f1_weighted"]["optimistic"] == "the probe's l2 and the thresholds"
    assert scores_of("attentive_probe", context)[NAME]["auroc_macro"]["optimistic"]


def test_the_file_has_the_shape_of_metrics_json_without_differences(context):
    results = {name: PROTOCOLS[name].run(context) for name in ("knn", "clusters", "label_fractions")}
    write_results(context, results, [], NAME)
    scores = {file: json.loads((context.out / file).read_text()) for file in ("metrics.json", VALIDATION_FILE)}
    assert set(scores[VALIDATION_FILE]) == {"knn", "clusters", f"{RANDOM}/knn", f"{RANDOM}/clusters"}
    by_class = {f"{metric}/{name}" for metric in ("auroc", "f1") for name in context.task.classes}
    assert set(scores[VALIDATION_FILE]["knn"]) == {*ON_VALIDATION, *by_class}
    assert set(scores["metrics.json"]["clusters"]) == set(scores[VALIDATION_FILE]["clusters"])
    summary = json.loads((context.out / "summary.json").read_text())
    assert summary["validation"] == describe_validation(context)
    assert summary["validation"]["records"] == len(context.split.val)


def test_records_and_labels_make_the_digest(context):
    labels = context.task.labels.copy()
    labels[context.split.val[0]] ^= True
    digests = {
        describe_validation(c)["digest"]
        for c in (
            context,
            replace(context, task=replace(context.task, labels=labels)),
            replace(context, split=replace(context.split, val=context.split.val[1:])),
        )
    }
    assert len(digests) == 3
    other_test = replace(context, split=replace(context.split, test=context.split.test[1:]))
    assert describe_validation(other_test) == describe_validation(context)


def test_validation_records_that_cannot_be_scored_are_said_and_test_is_scored_all_the_same(context):
    few = replace(context, split=replace(context.split, val=context.split.val[:1]))
    predictions = {NAME: (0.5 * few.labels[few.split.val], 0.5 * few.labels[few.split.test])}
    result = score_predictions(few, predictions)
    assert result.validation == {} and result.scores[NAME]["auroc_macro"]["value"] == 1
    assert any(note.startswith("no scores on the validation records: 1 patients") for note in result.notes)
    clusters = PROTOCOLS["clusters"].run(few)
    assert clusters.validation == {} and "kmeans/nmi" in clusters.scores[NAME]
    assert any("clusters: no scores on the validation records" in note for note in clusters.notes)


def test_trainings_that_keep_their_best_epoch(tmp_path):
    (tmp_path / "best.json").write_text("{}")
    assert (
        chosen_in({"mode": "finetune"}, tmp_path / "run")
        == chosen_in({"choose_k": 20}, tmp_path / "run")
        == "the epoch"
    )
    assert chosen_in({"data": {}}, tmp_path / "run" / "checkpoints") is None
    assert chosen_in({"data": {}}, tmp_path) == chosen_in({"data": {}}, tmp_path / "model.safetensors") == "the epoch"
