"""Scores of trainings with several seeds: intervals over test patients and seeds, p-values, Holm, and what would decide.

A score is the mean over seeds. Two things vary: which patients were recorded, the same for all seeds, and how a training
falls out. Patients are drawn with replacement. Seeds are too few for that: three drawn with replacement vary by a third too
little and know no tails. Their mean is drawn from the t distribution of their own spread instead (a parametric bootstrap), so
that a draw is

    mean + c (mean of the drawn patients − mean) ± t SD / √S,    t of S − 1 degrees of freedom,

both signs with every draw of patients, so that a − b has the interval of b − a, mirrored, and the same p-value.

The seeds' spread already holds what each seed makes of its patients, and so does a draw of patients; c takes it out of the
latter: the variances add up to σ²_patients + (σ²_seeds + σ²_both) / S. With one seed nothing is known of seeds, and the
interval is one over patients.

Source: Davison and Hinkley 1997, sec. 3.8 (hierarchical data); Owen, Ann. Appl. Stat. 2007;1:386 (crossed factors, and the
variance of drawing both); Holm, Scand. J. Stat. 1979;6:65.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.special import nctdtr, ndtr, ndtri, stdtrit

from shared.statistics.interval import LEVEL
from shared.statistics.metrics import Array

ALPHA = 1 - LEVEL
POWER = 0.8
MOST_RECORDS, MOST_SEEDS = 10**9, 1000
MOST_DEGREES = 1000  # of freedom; a t of more is normal


@dataclass(frozen=True)
class SeededScore:
    """A score over seeds, or a difference of two on the same seeds.

    Attributes:
        value: mean over seeds.
        sd: standard deviation over seeds; NaN for one.
        low, high: 95 % interval over patients and seeds.
        p: two-sided, of a value of 0.
        n: test records.
        seeds: how many.
        of_patients: variance of the mean that more records lower.
        of_seeds: variance of the mean that only more seeds lower; 0 for one seed.
        of_both: variance of one seed's own part in its patients; 0 for one seed.
    """

    value: float
    sd: float
    low: float
    high: float
    p: float
    n: int
    seeds: int
    of_patients: float
    of_seeds: float
    of_both: float


def score_seeds(
    values: Array,
    n: int,
    seed: int = 0,
    recentre: bool = False,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> SeededScore:
    """Summarise a score that every seed's run got on the same draws of patients.

    Args:
        values: `[S, 1 + R]`, a line per seed: the observed score, and that of each draw; draws with a NaN do not take part.
        n: test records.
        seed: of the draws of seeds; the same values and seed give the same digits.
        recentre: move the interval so that its median is the value, see `bootstrap_interval`.
        bounds: the range of the score, which the interval must not leave.

    Raises:
        ValueError: not `[S, 1 + R]`.
    """
    if values.ndim != 2 or not len(values) or values.shape[1] < 2:
        raise ValueError(f"values {values.shape} given; expected [seeds, 1 + draws] with a seed and a draw at least")
    num = len(values)
    observed, drawn = values[:, 0], values[:, 1:]
    drawn = drawn[:, ~np.isnan(drawn).any(axis=0)]
    value = float(observed.mean())
    sd = float(observed.std(ddof=1)) if num > 1 else float("nan")
    if np.isnan(value) or drawn.shape[1] < 2:
        nan = float("nan")
        return SeededScore(value, sd, nan, nan, nan, n, num, nan, nan, nan)
    draws, of_patients, of_both = _draw(observed, drawn, seed)
    if recentre:
        draws = draws + value - np.median(draws)
    low, high = np.clip(np.quantile(draws, [ALPHA / 2, 1 - ALPHA / 2]), *bounds)
    tail = 1 + min((draws <= 0).sum(), (draws >= 0).sum())
    p = float(min(1.0, 2 * tail / (1 + len(draws))))
    of_seeds = max(0.0, sd**2 - of_both) / num if num > 1 else 0.0
    return SeededScore(value, sd, float(low), float(high), p, n, num, of_patients, of_seeds, of_both)


def _draw(observed: Array, drawn: Array, seed: int) -> tuple[Array, float, float]:
    """Draws of the mean of `observed [S]`, its variance over patients, and the variance of one seed's own part in it.

    Two for each draw of patients, `[2 R]`; one, `[R]`, where no seed differs.
    """
    num, value = len(observed), observed.mean()
    means = drawn.mean(axis=0)
    of_patients = float(means.var(ddof=1))
    if num == 1:
        return means, of_patients, 0.0
    of_both = float((drawn - means).var(axis=1, ddof=1).sum() / (num - 1))
    common = max(0.0, of_patients - of_both / num)
    share = math.sqrt(common / of_patients) if of_patients > 0 else 0.0
    patients, spread = value + share * (means - value), observed.std(ddof=1) / math.sqrt(num)
    if spread == 0:
        return patients, of_patients, of_both
    of_seeds = spread * np.random.default_rng(seed).standard_t(num - 1, len(means))
    return np.concatenate([patients + of_seeds, patients - of_seeds]), of_patients, of_both


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted by Holm's step-down procedure, in the given order; a NaN stays and counts as a test.

    Source: Holm 1979.
    """
    order = sorted(range(len(p_values)), key=lambda i: (math.isnan(p_values[i]), p_values[i]))
    adjusted, largest = [float("nan")] * len(p_values), 0.0
    for rank, i in enumerate(order):
        if not math.isnan(p_values[i]):
            largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
            adjusted[i] = largest
    return adjusted


@dataclass(frozen=True)
class Needed:
    """Test records, and seeds, that would show a difference of the observed size with a power of 80 %; None: no number would."""

    records: int | None
    seeds: int


def needed(difference: SeededScore, tests: int = 1) -> Needed:
    """How much data a difference of this size, were it the true one, asks for with a power of 80 %.

    Variance over patients falls with the number of records, that of the seeds' own with more seeds alone. Where no number of
    records is enough for the seeds there are, or ten times as many are not, as many seeds are added as it takes.

    Args:
        difference: as observed, with its variances.
        tests: hypotheses that share the 5 % of a two-sided test; Holm asks for no more than this.
    """
    if not abs(difference.value) > 0:
        return Needed(None, difference.seeds)
    enough = partial(_is_found, difference, ALPHA / tests)
    most = 10 * difference.n
    seeds = next((s for s in range(difference.seeds, MOST_SEEDS + 1) if enough(most, s)), difference.seeds)
    high = most if enough(most, seeds) else MOST_RECORDS
    if not enough(high, seeds):
        return Needed(None, seeds)
    low = 0  # never enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle, seeds) else (middle, high)
    return Needed(high, seeds)


def _is_found(difference: SeededScore, alpha: float, records: int, seeds: int) -> bool:
    """Whether so many test records and seeds find the difference with 80 % power.

    Critical value by Cochran and Cox, degrees of freedom by Satterthwaite, power by the noncentral t.
    """
    share = difference.n / records
    common = max(0.0, difference.of_patients - difference.of_both / difference.seeds) * share
    of_seeds = (difference.of_seeds * difference.seeds + difference.of_both * share) / seeds
    variance = common + of_seeds
    if variance == 0:
        return True
    size = abs(difference.value) / math.sqrt(variance)
    part, of_normal = of_seeds / variance, ndtri(1 - alpha / 2)
    if part == 0 or seeds == 1:
        return bool(ndtr(size - of_normal) >= POWER)
    critical = part * stdtrit(seeds - 1, 1 - alpha / 2) + (1 - part) * of_normal
    degrees = (seeds - 1) / part**2
    if degrees > MOST_DEGREES:
        return bool(ndtr(size - critical) >= POWER)
    return bool(1 - nctdtr(degrees, size, critical) >= POWER)
