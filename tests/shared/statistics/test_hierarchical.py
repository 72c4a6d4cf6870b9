"""Intervals over patients and seeds: coverage in simulation, p-values, Holm, and the records that would decide."""

from __future__ import annotations

import math

import numpy as np
import pytest

from shared.statistics.bootstrap import Resamples
from shared.statistics.hierarchical import SeededScore, holm, needed, score_seeds
from shared.statistics.interval import bootstrap_interval
from shared.statistics.metrics import Array

PATIENTS = 60


def simulate(num: int, patients: float, seeds: float, both: float, rng: np.random.Generator, draws: int = 300) -> Array:
    """Values `[S, 1 + draws]` of a score that is a mean over records and truly 0.

    Args:
        num: seeds.
        patients, seeds, both: standard deviations of a patient, of a seed, and of a patient with a seed.
        rng: of the simulation.
        draws: of patients.
    """
    scores = patients * rng.normal(size=PATIENTS) + seeds * rng.normal(size=(num, 1))
    scores = scores + both * rng.normal(size=(num, PATIENTS))
    counts = rng.multinomial(PATIENTS, [1 / PATIENTS] * PATIENTS, size=draws)
    return np.concatenate([scores.mean(1, keepdims=True), scores @ counts.T / PATIENTS], axis=1)


@pytest.mark.parametrize(
    ("num", "patients", "seeds", "both"),
    [(3, 1, 0.0, 0.3), (3, 1, 0.13, 0.5), (3, 0.3, 0.3, 1), (3, 0.1, 0.0, 1), (5, 1, 0.03, 0.3), (5, 0.3, 0.2, 0.3)],
)
def test_interval_covers_the_truth(num: int, patients: float, seeds: float, both: float) -> None:
    """92 to 98 % of 400 studies, whatever varies most; p-values below 5 % in 2 to 8 % of them."""
    rng = np.random.default_rng(1)
    found = [score_seeds(simulate(num, patients, seeds, both, rng), PATIENTS, seed=i) for i in range(400)]
    assert 0.92 <= np.mean([score.low <= 0 <= score.high for score in found]) <= 0.98
    assert 0.02 <= np.mean([score.p < 0.05 for score in found]) <= 0.08


def test_seeds_drawn_with_replacement_would_cover_too_little() -> None:
    """Why the seeds' mean is drawn from a t distribution: three seeds drawn with replacement leave out too much."""
    rng, covered = np.random.default_rng(0), 0
    for _ in range(300):
        values = simulate(3, 0.3, 0.3, 1, rng)
        picked = rng.integers(3, size=(values.shape[1] - 1, 3))
        drawn = values[picked.T, np.arange(1, values.shape[1])].mean(axis=0)
        low, high = np.quantile(drawn, [0.025, 0.975])
        covered += low <= 0 <= high
    assert covered / 300 < 0.9


def test_variances_are_told_apart() -> None:
    """Means over many studies are the variances that were put in."""
    rng = np.random.default_rng(2)
    found = [score_seeds(simulate(5, 1, 0.5, 0.7, rng), PATIENTS) for _ in range(400)]
    assert np.mean([score.of_patients for score in found]) == pytest.approx((1 + 0.49 / 5) / PATIENTS, rel=0.05)
    assert np.mean([score.of_seeds for score in found]) == pytest.approx(0.25 / 5, rel=0.1)
    assert np.mean([score.sd**2 for score in found]) == pytest.approx(0.25 + 0.49 / PATIENTS, rel=0.1)


def test_one_seed_and_equal_seeds_give_the_interval_over_patients() -> None:
    values = simulate(1, 1, 0, 0, np.random.default_rng(3))
    plain = bootstrap_interval(values[0], PATIENTS)
    for copies in (1, 4):
        score = score_seeds(np.repeat(values, copies, axis=0), PATIENTS)
        assert (score.low, score.high) == pytest.approx((plain["low"], plain["high"]))
        assert score.seeds == copies and score.of_seeds == 0
    assert math.isnan(score_seeds(values, PATIENTS).sd) and score_seeds(np.repeat(values, 2, 0), PATIENTS).sd == 0


def test_a_difference_and_its_negative_are_one() -> None:
    rng = np.random.default_rng(6)
    for num in (1, 2, 3, 5):
        values = simulate(num, 1, 0.3, 0.3, rng) + 0.2
        one, other = (score_seeds(sign * values, PATIENTS, recentre=True) for sign in (1, -1))
        assert (other.low, other.high) == pytest.approx((-one.high, -one.low)) and other.p == one.p


def test_p_value_follows_the_interval_and_the_same_seed_gives_the_same_digits() -> None:
    rng = np.random.default_rng(4)
    for shift in np.linspace(-1, 1, 21):
        score = score_seeds(simulate(3, 1, 0.1, 0.3, rng, 999) + shift, PATIENTS, seed=5)
        assert (score.p < 0.05) == (score.low > 0 or score.high < 0) or 0.04 < score.p < 0.06
        assert 2 / 1000 <= score.p <= 1
    values = simulate(3, 1, 0.1, 0.3, rng)
    assert score_seeds(values, 9, 7) == score_seeds(values.copy(), 9, 7) != score_seeds(values, 9, 8)


def test_draws_without_a_score_take_no_part_and_bounds_are_kept() -> None:
    values = simulate(3, 1, 0.1, 0.3, np.random.default_rng(6))
    holes = np.concatenate([values, np.full((3, 50), np.nan)], axis=1)
    assert score_seeds(holes, 9) == score_seeds(values, 9)
    assert score_seeds(values, 9, bounds=(-0.01, 0.01)).high <= 0.01
    nothing = score_seeds(np.full((3, 20), np.nan), 9)
    assert math.isnan(nothing.value) and math.isnan(nothing.low) and math.isnan(nothing.p)
    moved = score_seeds(values + np.r_[0.0, np.ones(values.shape[1] - 1)], 9, recentre=True)
    assert moved.low < moved.value < moved.high
    with pytest.raises(ValueError, match="expected \\[seeds, 1 \\+ draws\\]"):
        score_seeds(values[0], 9)


@pytest.mark.parametrize(
    ("given", "adjusted"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # by hand
        ([0.02, 0.02, 0.5], [0.06, 0.06, 0.5]),
        ([0.6, 0.7], [1.0, 1.0]),
        ([0.03], [0.03]),
        ([], []),
    ],
)
def test_holm_by_hand(given: list[float], adjusted: list[float]) -> None:
    assert holm(given) == pytest.approx(adjusted)


def test_holm_counts_a_hypothesis_without_a_p_value() -> None:
    first, second, third = holm([0.01, float("nan"), 0.02])
    assert (first, third) == (pytest.approx(0.03), pytest.approx(0.04)) and math.isnan(second)


def test_holm_is_that_of_statsmodels() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest", reason="statsmodels is not installed")
    rng = np.random.default_rng(0)
    for num in (1, 2, 7, 40):
        p_values = np.round(rng.uniform(size=num) ** 3, 3)  # ties among them
        assert holm(p_values.tolist()) == pytest.approx(multitest.multipletests(p_values, method="holm")[1])


def test_needed_records_give_the_power() -> None:
    """A normal test of a mean with as many records as `needed` says rejects in 80 % of studies."""
    rng = np.random.default_rng(8)
    assert needed(score_seeds(np.full((1, 50), 0.1), PATIENTS)).records == 1  # nothing varies
    values = simulate(1, 1, 0, 0, rng, 4000)
    score = score_seeds(values - values[0, 0] + 0.25, PATIENTS)
    found = needed(score)
    assert found.records is not None and found.seeds == 1
    spread = math.sqrt(score.of_patients * PATIENTS / found.records)
    rejected = np.abs(0.25 + spread * rng.normal(size=20_000)) > 1.96 * spread
    assert rejected.mean() == pytest.approx(0.8, abs=0.01)


def test_needed_asks_for_seeds_where_no_number_of_records_would_do() -> None:
    rng = np.random.default_rng(9)
    values = simulate(3, 0.3, 1.0, 0.1, rng)
    values += 0.3 - values[:, 0].mean()
    score = score_seeds(values, PATIENTS)
    found = needed(score)
    assert found.seeds > 3 and found.records is not None
    assert needed(score, tests=5).seeds > found.seeds
    zero = values - values[:, :1]
    assert needed(score_seeds(zero, PATIENTS)).records is None


@pytest.mark.parametrize("spreads", [(1, 0.0, 0.3), (0.5, 0.15, 0.5)])
def test_needed_data_find_the_difference_in_most_studies(spreads: tuple[float, float, float]) -> None:
    """As many patients and seeds as `needed` says, in new studies of that true difference: about 80 % of them find it."""
    patients, seeds, both = spreads
    size = (patients**2 + both**2 / 3) / PATIENTS
    score = SeededScore(0.35, 0.1, 0, 1, 0.1, PATIENTS, 3, size, seeds**2 / 3, both**2 / PATIENTS)
    found, rng = needed(score), np.random.default_rng(11)
    assert found.records is not None
    num = found.records
    hits = 0
    for i in range(300):
        scores = 0.35 + patients * rng.normal(size=num) + seeds * rng.normal(size=(found.seeds, 1))
        scores = scores + both * rng.normal(size=(found.seeds, num))
        counts = rng.multinomial(num, [1 / num] * num, size=300)
        values = np.concatenate([scores.mean(1, keepdims=True), scores @ counts.T / num], axis=1)
        hits += score_seeds(values, num, seed=i).p < 0.05
    assert 0.7 <= hits / 300 <= 0.92


def test_a_row_is_compared_on_the_same_draws() -> None:
    """Paired: what two rows share falls out of the difference, so that it is far narrower than either."""
    rng = np.random.default_rng(10)
    resamples = Resamples(np.arange(PATIENTS), 300)
    hard = rng.normal(size=PATIENTS)

    def of_row(gain: float) -> Array:
        per_seed = [hard + gain + 0.05 * rng.normal(size=PATIENTS) for _ in range(3)]
        return np.stack([resamples.evaluate(lambda w, s=s: {"m": w @ s / w.sum(1)})["m"] for s in per_seed])

    a, b = of_row(0.1), of_row(0.0)
    single, difference = score_seeds(a, PATIENTS), score_seeds(a - b, PATIENTS)
    assert difference.high - difference.low < 0.3 * (single.high - single.low)
    assert difference.low > 0 and difference.p < 0.05
