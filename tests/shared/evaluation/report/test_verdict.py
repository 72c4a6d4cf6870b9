"""The sentence at the top of a page follows the interval; notes are said once."""

from __future__ import annotations

import pytest

from shared.evaluation.context import RANDOM, UNTUNED, Result
from shared.evaluation.report.verdict import comparison_verdict, lead_first, merge_notes, rank_runs, single_verdict
from shared.statistics.interval import Interval, Scores


def auroc(value: float, low: float, high: float) -> Scores:
    return {"auroc_macro": {"value": value, "low": low, "high": high, "n": 9}}


@pytest.mark.parametrize(
    ("low", "high", "tone", "words"),
    [
        (0.02, 0.2, "better", "better than random."),
        (-0.02, 0.2, "open", "not distinguishable from random."),
        (-0.2, -0.02, "worse", "worse than random."),
    ],
)
def test_verdict_follows_the_interval(low: float, high: float, tone: str, words: str) -> None:
    gain = auroc((low + high) / 2, low, high)
    result = Result({"ST-MEM": auroc(0.81, 0.78, 0.84), RANDOM: auroc(0.7, 0.6, 0.8)}, {RANDOM: {"ST-MEM": gain}})
    verdict = single_verdict({"linear_probe": result}, "ST-MEM")
    assert verdict is not None and verdict.tone == tone
    assert verdict.sentence.startswith("ST-MEM, linear probe: AUROC macro 0.810 [0.780, 0.840], ")
    assert f"[{low:+.3f}, {high:+.3f}] over a random encoder: " in verdict.sentence and verdict.sentence.endswith(words)


def test_lower_is_better_where_the_metric_says_so() -> None:
    def eer(value: float, low: float, high: float) -> Scores:
        return {"eer": {"value": value, "low": low, "high": high, "n": 9}}

    result = Result({"a": eer(0.1, 0.05, 0.15), "b": eer(0.3, 0.2, 0.4)}, {RANDOM: {"a": eer(-0.2, -0.3, -0.1)}})
    verdict = single_verdict({"biometrics": result}, "a")
    assert verdict is None or "better than random" in verdict.sentence  # None where it declares no headline
    clusters = Result(
        {"a": {"labels/davies_bouldin": eer(2, 1, 3)["eer"]}, "b": {"labels/davies_bouldin": eer(1, 0.5, 2)["eer"]}},
        {RANDOM: {"b": {"labels/davies_bouldin": eer(-2, -3, -1)["eer"]}}},
    )
    assert rank_runs("clusters", clusters) == ["b", "a"]
    found = single_verdict({"clusters": clusters}, "b")
    assert found is not None and found.tone == "better"
    assert "-2.000 [-3.000, -1.000] against a random encoder: better than random" in found.sentence


def test_verdict_without_a_random_encoder_and_with_an_untuned_one() -> None:
    alone = single_verdict({"finetune": Result({"a": auroc(0.8, 0.7, 0.9)})}, "a")
    assert alone is not None and alone.tone == "open" and "no random encoder to compare with" in alone.sentence
    tuned = Result(
        {"a": auroc(0.8, 0.7, 0.9)}, {RANDOM: {"a": auroc(0.1, 0.05, 0.2)}, UNTUNED: {"a": auroc(0.01, -0.1, 0.1)}}
    )
    verdict = single_verdict({"knn": tuned}, "a")
    assert verdict is not None and verdict.tone == "better"
    assert "over the untuned encoder: not distinguishable from it" in verdict.sentence
    assert (
        single_verdict({"label_fractions": Result({"a": {"auroc_macro@1%": auroc(0.8, 0.7, 0.9)["auroc_macro"]}})}, "a")
        is None
    )


def test_which_protocol_speaks_first_is_not_a_matter_of_scores() -> None:
    low, high = Result({"a": auroc(0.6, 0.5, 0.7)}), Result({"a": auroc(0.9, 0.8, 1.0)})
    assert [*lead_first({"knn": high, "clusters": high, "linear_probe": low})] == ["linear_probe", "knn", "clusters"]


def test_comparison_says_whether_the_first_two_can_be_told_apart() -> None:
    rows = {"a": auroc(0.8, 0.7, 0.9), "b": auroc(0.82, 0.7, 0.9), f"{RANDOM}, a": auroc(0.9, 0.8, 1.0)}
    results = {
        "linear_probe": Result(rows, {f"{RANDOM}, a": {"b": auroc(-0.08, -0.1, -0.01)}, "a": {"b": auroc(0, -1, 1)}})
    }
    asked: list[tuple[str, ...]] = []

    def between(low: float) -> Interval:
        return {"value": 0.02, "low": low, "high": 0.05, "n": 9}

    def open_difference(*which: str) -> Interval:
        asked.append(which)
        return between(-0.01)

    verdict = comparison_verdict(results, open_difference)
    assert asked == [("linear_probe", "auroc_macro", "b", "a")]
    assert verdict is not None and verdict.tone == "worse"
    assert verdict.sentence == (
        "Best: b, linear probe: AUROC macro 0.820 [0.700, 0.900], -0.080 [-0.100, -0.010] over a random encoder: "
        "worse than random; a follows with 0.800 [0.700, 0.900] (+0.020 [-0.010, +0.050] between the two: cannot be "
        "told apart)."
    )
    told = comparison_verdict(results, lambda *_: between(0.01))
    assert told is not None and "between the two: a difference)" in told.sentence
    rows["c"] = auroc(0.1, 0.0, 0.2)
    three = comparison_verdict(results, lambda *_: None)
    assert three is not None and "The best of 3 is picked by test scores" in three.more[-1]


def test_a_note_of_several_runs_stands_once_with_whom_it_concerns() -> None:
    rows = ["ST-MEM", RANDOM], ["ECG-JEPA", RANDOM], ["VQ", RANDOM, "histogram of codes"]
    said = [
        ("ST-MEM", rows[0], ["30 of 40 test records take part", "linear probe of ST-MEM: l2 = 0.1, chosen on validation",
                             f"linear probe of {RANDOM}: l2 = 1, chosen on validation", "only here"]),
        ("JEPA (x)", rows[1], ["30 of 40 test records take part", "linear probe of ECG-JEPA: l2 = 0.1, chosen on validation"]),
        ("VQ", rows[2], ["30 of 40 test records take part", "320 pretraining and 40 test records",
                         "linear probe of histogram of codes: l2 = 1e-05, chosen on validation"]),
    ]  # fmt: skip
    assert merge_notes(said) == [
        "30 of 40 test records take part",
        f"linear probe: l2 = 0.1 (ST-MEM, JEPA (x)), 1 ({RANDOM} of ST-MEM), 1e-05 (histogram of codes of VQ), "
        "chosen on validation",
        "only here (ST-MEM)",
        "320 pretraining and 40 test records (VQ)",
    ]


def test_notes_that_differ_in_two_numbers_stay_apart() -> None:
    said = [(name, [name], [f"{n} pretraining and {n + 1} test records"]) for name, n in (("a", 1), ("b", 5), ("c", 1))]
    assert merge_notes(said) == ["1 pretraining and 2 test records (a, c)", "5 pretraining and 6 test records (b)"]
    left_out = [
        "left out of the averages: CD (4 positives, fewer than 5)",
        "left out of the averages: MI (2 positives, fewer than 5)",
    ]
    assert merge_notes([("a", ["a", RANDOM], left_out)]) == left_out
    two_subsets = ["lead subset 1: left out", "lead subset 2: left out"]
    assert merge_notes([("a", ["a"], two_subsets)]) == two_subsets
    assert merge_notes([(run, [run], two_subsets) for run in "ab"]) == two_subsets
