"""One prediction task under several conditions (fewer labels, fewer leads, disturbed signals): `metric@condition`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from shared.evaluation.context import RANDOM, Context, Result
from shared.statistics.bootstrap import find_left_out
from shared.statistics.interval import Scores, bootstrap_interval, paired_difference
from shared.statistics.metrics import METRICS, Array, average_classes, check_inputs

CURVE_METRICS = ("auroc_macro", "auprc_macro")
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
        ValueError: what `check_inputs` and `find_left_out` refuse.
    """
    truth = context.labels[context.split.test]
    left_out = find_left_out(truth, context.task.classes, context.config.min_positives)
    kept = [c for c, name in enumerate(context.task.classes) if name not in left_out]
    values = {
        row: {condition: _resample(context, truth, draws, kept) for condition, draws in conditions.items()}
        for row, conditions in predictions.items()
    }
    result = Result({row: {} for row in predictions}, {row: {} for row in predictions if row != RANDOM})
    if RANDOM not in predictions:
        result.differences.clear()
    for row, conditions in values.items():
        for condition, metrics in conditions.items():
            for metric, drawn in metrics.items():  # [draws, 1 + R]
                name, mean = f"{prefix}{metric}@{condition}", drawn.mean(axis=0)
                result.scores[row][name] = bootstrap_interval(mean, len(truth))
                if len(drawn) > 1:
                    spread = f"{prefix}{metric}_std@{condition}"
                    result.scores[row][spread] = bootstrap_interval(drawn.std(axis=0, ddof=1), len(truth))
                if row in result.differences and condition in values[RANDOM]:
                    against = values[RANDOM][condition][metric].mean(axis=0)
                    result.differences[row][name] = paired_difference(mean, against, len(truth))
    result.notes = [f"left out of the averages: {name} ({reason})" for name, reason in left_out.items()]
    return result


def merge(results: Sequence[Result]) -> Result:
    """One result with the scores of several; rows and notes are kept in order."""
    merged = Result({row: {} for row in results[0].scores}, {row: {} for row in results[0].differences})
    for result in results:
        for mine, theirs in ((merged.scores, result.scores), (merged.differences, result.differences)):
            for row, scores in theirs.items():
                mine[row].update(scores)
        merged.notes += [note for note in result.notes if note not in merged.notes]
        merged.figures += result.figures
    return merged


def curve(scores: Scores, metric: str, conditions: Sequence[str]) -> list[tuple[str, float, float, float]]:
    """`(condition, value, low, high)` of the conditions that were scored."""
    found = [(c, scores[f"{metric}@{c}"]) for c in conditions if f"{metric}@{c}" in scores]
    return [(c, score["value"], score["low"], score["high"]) for c, score in found]


def _resample(context: Context, truth: Array, draws: Draws, kept: Sequence[int]) -> dict[str, Array]:
    """Metric to `[draws, 1 + R]`."""
    scored = []
    for scores in draws:
        _, checked, _ = check_inputs(truth, scores, None)

        def score(weights: Array, given: Array = checked) -> dict[str, Array]:
            return {
                name: average_classes(
                    METRICS[name].compute(truth, given, weights), truth, weights, METRICS[name].average, kept
                )
                for name in CURVE_METRICS
            }

        scored.append(context.resamples.evaluate(score))
    return {name: np.stack([values[name] for values in scored]) for name in CURVE_METRICS}
