"""One prediction task under several conditions (fewer labels, fewer leads, disturbed signals): `metric@condition`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from shared.evaluation.context import Context, Result
from shared.evaluation.scoring import CLASSIFICATION, say_left_out, score_values
from shared.statistics.bootstrap import find_left_out
from shared.statistics.interval import Scores
from shared.statistics.metrics import METRICS, Array, average_classes, check_inputs, compute_all, count_positives

CURVE_METRICS = ("auroc_macro", "auroc_all_macro", "auprc_macro")
SPREADS = tuple(f"{m}_std" for m in CURVE_METRICS)
CONDITION_TITLES = {m: CLASSIFICATION[m] for m in CURVE_METRICS} | {
    spread: f"{CLASSIFICATION[m]}, sd over draws" for m, spread in zip(CURVE_METRICS, SPREADS, strict=True)
}
Draws = Sequence[np.ndarray]
"""Test scores `[n_test, C]` of one condition, one array per random draw of it."""


def score_conditions(context: Context, predictions: Mapping[str, Mapping[str, Draws]], prefix: str = "") -> Result:
    """Score every row under every condition, on the same resamples of test patients.

    The value is the mean over draws, and its interval that of the mean: each resample of test patients scores all draws
    and averages them. Where there are several draws, `metric_std@condition` is their standard deviation (n − 1), which
    tells how much depends on the draw; its interval is over test patients too.

    Args:
        context: labels, resamples, class names.
        predictions: row to condition to draws.
        prefix: before every metric's name.

    Raises:
        UserError: what `check_inputs` and `find_left_out` refuse.
    """
    truth = context.labels[context.split.test]
    left_out = find_left_out(truth, context.task.classes, context.config.min_positives)
    of_every = find_left_out(truth, context.task.classes, 1)
    kept = {
        metric: [c for c, name in enumerate(context.task.classes) if name not in (of_every if m.every else left_out)]
        for metric, m in ((metric, METRICS[metric]) for metric in CURVE_METRICS)
    }
    values: dict[str, dict[str, Array]] = {}
    spreads: set[str] = set()
    for row, conditions in predictions.items():
        values[row] = {}
        for condition, draws in conditions.items():
            for metric, drawn in _resample(context, truth, draws, kept).items():  # [draws, 1 + R]
                values[row][f"{prefix}{metric}@{condition}"] = drawn.mean(axis=0)
                if len(drawn) > 1:
                    spread = f"{prefix}{metric}_std@{condition}"
                    values[row][spread] = drawn.std(axis=0, ddof=1)
                    spreads.add(spread)
    result = score_values(context, values, len(truth), alone=spreads)
    result.notes = say_left_out(left_out, of_every)
    return result


def merge(results: Sequence[Result]) -> Result:
    """One result with the scores of several; rows and notes are kept in order."""
    merged = Result({}, {})
    for result in results:
        for row, scores in result.scores.items():
            merged.scores.setdefault(row, {}).update(scores)
        for baseline, rows in result.differences.items():
            of_baseline = merged.differences.setdefault(baseline, {})
            for row, scores in rows.items():
                of_baseline.setdefault(row, {}).update(scores)
        merged.notes += [note for note in result.notes if note not in merged.notes]
        merged.figures += result.figures
    return merged


def curve(scores: Scores, metric: str, conditions: Sequence[str]) -> list[tuple[str, float, float, float]]:
    """`(condition, value, low, high)` of the conditions that were scored."""
    found = [(c, scores[f"{metric}@{c}"]) for c in conditions if f"{metric}@{c}" in scores]
    return [(c, score["value"], score["low"], score["high"]) for c, score in found]


def _resample(context: Context, truth: Array, draws: Draws, kept: Mapping[str, Sequence[int]]) -> dict[str, Array]:
    """Metric to `[draws, 1 + R]`."""
    scored = []
    for scores in draws:
        _, checked, _ = check_inputs(truth, scores, None)

        def score(weights: Array, given: Array = checked) -> dict[str, Array]:
            computed = compute_all((METRICS[m].compute for m in CURVE_METRICS), truth, given, weights)
            positives = count_positives(truth, weights)
            return {
                name: average_classes(computed[METRICS[name].compute], positives, METRICS[name].average, kept[name])
                for name in CURVE_METRICS
            }

        scored.append(context.resamples.evaluate(score))
    return {name: np.stack([values[name] for values in scored]) for name in CURVE_METRICS}
