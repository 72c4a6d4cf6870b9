"""Patient-level bootstrap: draws, coverage, pairing, classes left out, speed and bad input."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from shared.statistics.bootstrap import (
    Resamples,
    difference_all,
    find_left_out,
    score_all,
)
from shared.statistics.interval import bootstrap_interval, paired_difference
from shared.statistics.metrics import METRICS, auroc, choose_thresholds

NAMES = ("NORM", "MI", "HYP")


def make_case(num_patients=100, per_patient=2, seed=0, shift=1.0):
    """Labels and scores `[n, 3]` and patients `[n]`."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(num_patients), per_patient)
    labels = (rng.random((len(patients), 3)) < 0.4).astype(int)
    scores = 1 / (1 + np.exp(-rng.normal(size=labels.shape) - shift * labels))
    return labels, scores, patients


def test_patients_are_drawn_whole_and_as_often_as_there_are_patients():
    patients = np.array(["b", "a", "b", "c", "a", "b"])
    resamples = Resamples(patients, num=500, seed=3)
    weights = resamples.weights(0, 500)
    assert weights.dtype == np.uint8
    assert (weights[:, 0] == weights[:, 2]).all() and (weights[:, 1] == weights[:, 4]).all()
    assert (weights[:, 0].astype(int) + weights[:, 1] + weights[:, 3] == 3).all()
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.1)


def test_chunks_cover_all_resamples_and_the_seed_fixes_the_bits():
    patients = np.arange(30_000) // 2
    resamples = Resamples(patients, num=150, seed=1)
    chunks = list(resamples.chunks())
    assert len(chunks) > 1
    np.testing.assert_array_equal(np.concatenate(chunks), Resamples(patients, num=150, seed=1).weights(0, 150))
    assert (np.concatenate(chunks) != Resamples(patients, num=150, seed=2).weights(0, 150)).any()


def test_same_seed_gives_the_same_result():
    labels, scores, patients = make_case()
    first, second = (score_all(labels, scores, Resamples(patients, 200, 5), NAMES) for _ in range(2))
    assert first == second


def test_interval_equals_a_naive_bootstrap():
    labels, scores, patients = make_case(30, 2)
    resamples = Resamples(patients, num=100)
    naive = []
    for row in resamples.weights(0, 100):
        rows = np.repeat(np.arange(len(row)), row)
        naive.append(roc_auc_score(labels[rows], scores[rows], average="macro"))
    found = score_all(labels, scores, resamples, NAMES, ("auroc_macro",))["auroc_macro"]
    assert found["value"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert found["low"] == pytest.approx(np.quantile(naive, 0.025), abs=1e-12)
    assert found["high"] == pytest.approx(np.quantile(naive, 0.975), abs=1e-12)
    assert found["n"] == 60


def simulate_coverage(num_cases, num_resamples=400, seed=0):
    """Share of simulated cases whose interval covers the true AUROC; records of a patient share part of their score."""
    rng, separation, covered = np.random.default_rng(seed), 1.0, 0
    patients = np.repeat(np.arange(150), 2)
    truth = norm.cdf(separation / np.sqrt(2 * (0.6**2 + 0.8**2)))
    for case in range(num_cases):
        labels = (rng.random(len(patients)) < 0.4)[:, None]
        shared = rng.normal(size=150)[patients]
        scores = separation * labels + (0.6 * shared + 0.8 * rng.normal(size=len(patients)))[:, None]
        values = Resamples(patients, num_resamples, case).evaluate(
            lambda w, y=labels, s=scores: {"a": auroc(y, s, w)[:, 0]}
        )
        interval = bootstrap_interval(values["a"], len(patients))
        covered += interval["low"] <= truth <= interval["high"]
    return covered / num_cases


def test_interval_covers_the_truth():
    assert 0.92 <= simulate_coverage(200) <= 0.98


def test_repeated_records_of_a_patient_do_not_narrow_the_interval():
    labels, scores, patients = make_case(100, 1)
    copies = [np.repeat(x, 5, axis=0) for x in (labels, scores, patients)]

    def width(labels, scores, patients):
        found = score_all(labels, scores, Resamples(patients, 500), NAMES)["auroc_macro"]
        return found["high"] - found["low"]

    assert width(*copies) == pytest.approx(width(labels, scores, patients))
    assert width(copies[0], copies[1], np.arange(500)) < 0.6 * width(*copies)


def test_difference_is_paired():
    labels, scores, patients = make_case()
    resamples = Resamples(patients, 300)
    same = difference_all(labels, scores, scores, resamples, NAMES)["auroc_macro"]
    assert (same["value"], same["low"], same["high"]) == (0, 0, 0)
    worse = scores + np.random.default_rng(1).normal(0, 0.1, scores.shape)
    a, b = (score_all(labels, x, resamples, NAMES)["auroc_macro"] for x in (scores, worse))
    found = difference_all(labels, scores, worse, resamples, NAMES)["auroc_macro"]
    assert found["value"] == pytest.approx(a["value"] - b["value"])
    assert found["high"] - found["low"] < 0.7 * (a["high"] - a["low"])
    noise = np.random.default_rng(2).random(scores.shape)
    assert difference_all(labels, scores, noise, resamples, NAMES)["auroc_macro"]["low"] > 0


def test_all_metrics_hold_their_value_inside_their_interval():
    labels, scores, patients = make_case(60, 2)
    classes = np.random.default_rng(3).integers(3, size=len(patients))
    thresholds = choose_thresholds(labels, scores)
    for y, names in (
        (labels, [m for m in METRICS if "argmax" not in m and m != "accuracy"]),
        (np.eye(3)[classes], ["accuracy", "f1_argmax_macro", "f1_argmax_weighted"]),
    ):
        found = score_all(y, scores, Resamples(patients, 200), NAMES, names, thresholds)
        assert set(names) <= set(found)
        for name, interval in found.items():
            assert interval["low"] <= interval["value"] <= interval["high"], name
            assert "left_out" not in interval


def test_macro_and_per_class_agree():
    labels, scores, patients = make_case()
    found = score_all(labels, scores, Resamples(patients, 50), NAMES)
    per_class = [found[f"auroc/{name}"]["value"] for name in NAMES]
    assert found["auroc_macro"]["value"] == pytest.approx(np.mean(per_class))


def test_rare_and_untuned_classes_are_listed_and_left_out():
    labels, scores, patients = make_case()
    labels[:, 2] = 0
    labels[:3, 2] = 1
    thresholds = np.array([0.5, np.nan, 0.5])
    found = score_all(
        labels, scores, Resamples(patients, 50), NAMES, ("auroc_macro", "f1_macro", "f1_weighted"), thresholds
    )
    assert found["auroc_macro"]["left_out"] == {"HYP": "3 positives, fewer than 5"}
    assert "auroc/HYP" not in found
    assert found["auroc_macro"]["value"] == pytest.approx(roc_auc_score(labels[:, :2], scores[:, :2]))
    assert found["f1_macro"]["left_out"].keys() == {"MI", "HYP"}
    assert found["f1_macro"]["value"] == found["f1_weighted"]["value"]
    kept = score_all(labels, scores, Resamples(patients, 50), NAMES, min_positives=1)
    assert "auroc/HYP" in kept and "left_out" not in kept["auroc_macro"]
    labels[:, 1] = 1
    assert find_left_out(labels, NAMES)["MI"] == "all 200 records are positive"


def test_recentred_interval_stays_in_bounds():
    values = np.r_[0.05, np.linspace(0.2, 0.6, 101)]
    assert bootstrap_interval(values, 10)["low"] > 0.05
    found = bootstrap_interval(values, 10, recentre=True, bounds=(0, 1))
    assert found["low"] == 0 and found["high"] == pytest.approx(0.24)


def test_bad_input_is_named():
    labels, scores, patients = make_case()
    resamples = Resamples(patients, 10)
    with pytest.raises(ValueError, match="2 of 3 records have no patient, first row 1"):
        Resamples(np.array(["a", None, np.nan], dtype=object))
    with pytest.raises(ValueError, match="1 patients and 1000 resamples given"):
        Resamples([7, 7, 7])
    with pytest.raises(ValueError, match="10 records given, the resamples were drawn for 200"):
        score_all(labels[:10], scores[:10], resamples, NAMES, min_positives=1)
    with pytest.raises(ValueError, match="unknown metric 'auroc_makro'; did you mean 'auroc_macro'"):
        score_all(labels, scores, resamples, NAMES, ("auroc_makro",))
    with pytest.raises(ValueError, match="'f1_macro' expects thresholds"):
        score_all(labels, scores, resamples, NAMES, ("f1_macro",))
    with pytest.raises(ValueError, match="2 class names and min_positives=5 given; expected 3"):
        score_all(labels, scores, resamples, NAMES[:2])
    with pytest.raises(ValueError, match="no class can be scored"):
        score_all(np.zeros_like(labels), scores, resamples, NAMES)
    with pytest.raises(ValueError, match="3 and 4 resamples given"):
        paired_difference(np.zeros(4), np.zeros(5), 10)


def test_undefined_scores_give_undefined_intervals():
    assert np.isnan(bootstrap_interval(np.array([0.5, np.nan, np.nan]), 3)["low"])


def test_macro_auroc_over_every_class_is_that_over_those_with_both_answers():
    labels, scores, patients = make_case(100, 1)
    labels[:, 1] = 0
    labels[[3, 50], 1] = 1  # two positives: too few for the usual average
    wide = np.concatenate([labels, np.zeros((100, 1), int), np.ones((100, 1), int)], axis=1)
    names, both = (*NAMES, "NEVER", "ALWAYS"), np.tile(scores, 2)[:, :5]
    found = score_all(wide, both, Resamples(patients, 50), names, ("auroc_macro", "auroc_all_macro"))
    each = [roc_auc_score(wide[:, c], both[:, c]) for c in range(3)]  # a naive loop over those that have both
    assert found["auroc_all_macro"]["value"] == pytest.approx(np.mean(each), abs=1e-12)
    assert found["auroc_macro"]["value"] == pytest.approx(np.mean([each[0], each[2]]), abs=1e-12)
    assert set(found["auroc_all_macro"]["left_out"]) == {"NEVER", "ALWAYS"}
    assert set(found["auroc_macro"]["left_out"]) == {NAMES[1], "NEVER", "ALWAYS"}
    assert not any(name.startswith("auroc_all/") for name in found)
