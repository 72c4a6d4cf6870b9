"""What a study found: scores of every row over seeds, paired differences to the baseline, and what becomes of each hypothesis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shared.errors import UserError
from shared.evaluation.context import RANDOM
from shared.evaluation.report.tables import metric_title, protocol_title
from shared.evaluation.study.config import Hypothesis
from shared.evaluation.study.measures import CLUSTERS, Scored, fingerprint, recentres, shown_measures, values_of
from shared.evaluation.study.plan import Study
from shared.statistics.clusters import BOUNDS
from shared.statistics.hierarchical import ALPHA, SeededScore, holm, needed, score_seeds
from shared.statistics.metrics import Array

CONFIRMED, REFUTED, UNDECIDED, MISSING = "confirmed", "refuted", "undecided", "not judged"
Values = dict[int, dict[str, Array]]
"""Seed → measure → `[1 + draws]`."""


@dataclass(frozen=True)
class Conclusion:
    """What becomes of a hypothesis.

    Attributes:
        hypothesis: as declared, the row it is compared with named.
        difference: row minus the other; None where one has no scores.
        holm: its p-value adjusted over all hypotheses.
        verdict: `confirmed`, `refuted`, `undecided` or `not judged`.
        sentence: all of it.
    """

    hypothesis: Hypothesis
    difference: SeededScore | None
    holm: float
    verdict: str
    sentence: str


@dataclass(frozen=True)
class Found:
    """The results of a study.

    Attributes:
        measures: `PROTOCOL/METRIC` of the columns.
        rows: in the order of the tables, random encoders last.
        scores: row → measure → score over its seeds.
        differences: row → measure → row minus baseline over the seeds of both.
        conclusions: one for each hypothesis, in their order.
        num_records, num_patients: of the test.
        problems: what a reader must know.
    """

    measures: list[str]
    rows: list[str]
    scores: dict[str, dict[str, SeededScore]]
    differences: dict[str, dict[str, SeededScore]]
    conclusions: list[Conclusion]
    num_records: int
    num_patients: int
    problems: list[str]


def collect(study: Study, missing: Mapping[str, str], notes: Sequence[str] = ()) -> Found | None:
    """Score what was evaluated; None where nothing was.

    Args:
        study: its jobs have run.
        missing: name of each job without scores to the reason.
        notes: further problems, which come first.

    Raises:
        UserError: rows that were tested on different records.
    """
    config = study.config
    scored = {key: Scored(job.evaluation) for key, job in study.jobs.items() if job.name not in missing}
    if not scored:
        return None
    first = next(iter(scored.values()))
    for (row, seed), other in scored.items():
        if not other.test.equals(first.test):
            raise UserError(
                f"{row} with seed {seed} was tested on other records or labels than {next(iter(scored))[0]}; evaluate all "
                "rows on the same store, or give another out=…"
            )
    protocols = list(dict.fromkeys(p for job in study.jobs.values() for p in job.scored.protocols))
    measures = shown_measures(protocols, [h.metric for h in config.hypotheses])
    problems = [*notes, *(f"{name} has no scores: {why}" for name, why in missing.items())]
    values = _values(study, scored, measures, problems)
    measures = [m for m in measures if any(m in found for row in values.values() for found in row.values())]
    n, seed, base = len(first.test), config.seed, values.get(config.baseline, {})
    return Found(
        measures,
        list(values),
        {row: _over_seeds(of_seed, measures, n, seed, False) for row, of_seed in values.items()},
        {
            row: found
            for row, of_seed in values.items()
            if row != config.baseline and (found := _over_seeds(_minus(of_seed, base), measures, n, seed, True))
        },
        _conclude(study, values, n),
        n,
        int(first.test.patient.nunique()),
        problems,
    )


def _values(
    study: Study, scored: Mapping[tuple[str, int], Scored], measures: Sequence[str], problems: list[str]
) -> dict[str, Values]:
    """Row → its values; declared rows in their order, then the random encoders that none of them is."""
    config, found = study.config, {}
    done: dict[tuple[str, int], dict[str, Array]] = {}  # most rows share their random encoder

    def read(job_row: str, seed: int, part: str | None) -> dict[str, Array]:
        evaluation = scored[job_row, seed]
        name, least = part or evaluation.name, study.jobs[job_row, seed].scored.min_positives
        key = (fingerprint(evaluation, name, measures), least)
        if key not in done:
            done[key] = values_of(evaluation, name, measures, config.draws, config.seed, least)
        return done[key]

    for name, row in config.rows.items():
        job_row = study.job_of(name, config.seeds[0]).row
        of_seed = {seed: read(job_row, seed, row.part) for seed in config.seeds if (job_row, seed) in scored}
        found[name] = {seed: values for seed, values in of_seed.items() if values}
        if of_seed and not found[name]:
            parts = ", ".join(scored[job_row, next(iter(of_seed))].rows)
            problems.append(f"{name} has no scores: the evaluation of {job_row} has the rows {parts}")
    known = [found[name] for name, row in config.rows.items() if row.part == RANDOM]
    for job_row in dict.fromkeys(row for row, _ in scored):
        random = {seed: read(job_row, seed, RANDOM) for seed in config.seeds if (job_row, seed) in scored}
        random = {seed: values for seed, values in random.items() if values}
        if random and not any(_same(random, other) for other in known):
            known.append(random)
            found[RANDOM if RANDOM not in found else f"{RANDOM}, {job_row}"] = random
    return {name: of_seed for name, of_seed in found.items() if of_seed}


def _same(random: Values, known: Values) -> bool:
    """Whether two evaluations had the same random encoder, seed by seed: one line is enough for it."""
    pairs = [
        (seed, measure) for seed in random.keys() & known.keys() for measure in random[seed].keys() & known[seed].keys()
    ]
    return bool(pairs) and all(
        np.array_equal(random[seed][measure][0], known[seed][measure][0], equal_nan=True) for seed, measure in pairs
    )


def _minus(a: Values, b: Values) -> Values:
    """Paired differences over the seeds and measures of both."""
    return {seed: {m: v - b[seed][m] for m, v in a[seed].items() if m in b[seed]} for seed in a if seed in b}


def _over_seeds(
    of_seed: Values, measures: Sequence[str], n: int, seed: int, difference: bool
) -> dict[str, SeededScore]:
    """Measure → score over seeds."""
    scores = {}
    for measure in measures:
        values = [found[measure] for found in of_seed.values() if measure in found]
        if values:
            bounds = (-np.inf, np.inf) if difference else _bounds(measure)
            scores[measure] = score_seeds(np.stack(values), n, seed, recentres(measure), bounds)
    return scores


def _bounds(measure: str) -> tuple[float, float]:
    protocol, _, metric = measure.partition("/")
    return BOUNDS[metric.rpartition("/")[2]] if protocol == CLUSTERS else (0.0, 1.0)


def _conclude(study: Study, values: Mapping[str, Values], n: int) -> list[Conclusion]:
    """Judge all hypotheses together: Holm counts each that was declared, whether it has scores or not."""
    config = study.config
    differences: list[SeededScore | None] = []
    for claim in config.hypotheses:
        pair = _minus(values.get(claim.row, {}), values.get(claim.than or config.baseline, {}))
        differences.append(_over_seeds(pair, [claim.metric], n, config.seed, True).get(claim.metric))
    adjusted = holm([float("nan") if d is None else d.p for d in differences])
    return [
        _judge(claim.model_copy(update={"than": claim.than or config.baseline}), difference, p, len(adjusted))
        for claim, difference, p in zip(config.hypotheses, differences, adjusted, strict=True)
    ]


def _judge(claim: Hypothesis, difference: SeededScore | None, p: float, num: int) -> Conclusion:
    text = f"{claim.row} has a {claim.direction} {measure_title(claim.metric)} than {claim.than}"
    if difference is None or np.isnan(p):
        return Conclusion(claim, difference, p, MISSING, f"{text}: {MISSING}, one of the two has no such score.")
    as_claimed = (difference.value > 0) == (claim.direction == "higher")
    verdict = UNDECIDED if p >= ALPHA else CONFIRMED if as_claimed else REFUTED
    seeds = f"{difference.seeds} seed{'' if difference.seeds == 1 else 's'}"
    return Conclusion(
        claim,
        difference,
        p,
        verdict,
        f"{text}: {verdict}, {format_score(difference, '+')} over {seeds}, p = {format_p(p)} after Holm. "
        f"{_say_needed(difference, num)}",
    )


def _say_needed(difference: SeededScore, num: int) -> str:
    """How many records would decide, were the observed difference the true one, beside `num - 1` other hypotheses."""
    found = needed(difference, num)
    if found.records is None:
        return "No number of test records would show a difference as small as this one."
    return (
        f"Were the true difference of this size, {found.records} test records with {found.seeds} "
        f"seed{'' if found.seeds == 1 else 's'} would decide it with 80 % power (here {difference.n} with {difference.seeds})."
    )


def measure_title(measure: str) -> str:
    """`knn/auroc_macro` is "kNN AUROC macro"."""
    protocol, _, metric = measure.partition("/")
    title = metric_title(metric).rstrip(" ↑↓")
    return title if protocol == CLUSTERS else f"{protocol_title(protocol)} {title}"


def format_score(score: SeededScore | None, sign: str = "") -> str:
    """`0.812 ± 0.010 [0.790, 0.833]`: mean, standard deviation over seeds, interval; "–" where there is no score."""
    if score is None or np.isnan(score.value):
        return "–"
    digits = 3 if abs(score.value) < 100 else 1
    sd = "" if np.isnan(score.sd) else f" ± {score.sd:.{digits}f}"
    interval = "" if np.isnan(score.low) else f" [{score.low:{sign}.{digits}f}, {score.high:{sign}.{digits}f}]"
    return f"{score.value:{sign}.{digits}f}{sd}{interval}"


def format_p(p: float) -> str:
    """Three digits."""
    return "–" if np.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"
