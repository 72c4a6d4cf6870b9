"""The table of a protocol: the score of each row and its paired difference to each baseline, all on the same resamples."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

import numpy as np

from shared.errors import UserError
from shared.evaluation.context import Context, Result
from shared.evaluation.validation import mark_optimistic
from shared.statistics.bootstrap import difference_drawn, draw_scores, score_all, score_drawn
from shared.statistics.interval import Scores, bootstrap_interval, paired_difference
from shared.statistics.metrics import METRICS, Array, choose_thresholds

CLASSIFICATION = {
    "auroc_macro": "AUROC macro",
    "auroc_all_macro": "AUROC macro, every class",
    "auroc_weighted": "AUROC weighted",
    "auprc_macro": "AUPRC macro",
    "f1_macro": "F1 macro",
    "f1_weighted": "F1 weighted",
    "sensitivity_macro": "sensitivity macro",
    "specificity_macro": "specificity macro",
    "ppv_macro": "PPV macro",
    "sensitivity_at_95_macro": "sensitivity at 95 % specificity",
    "ece_macro": "calibration error ↓",
}
"""What `score_predictions` gives for all classes together, and how it is called."""
CLASSIFICATION_MAIN = tuple(
    m for m in CLASSIFICATION if m not in ("sensitivity_macro", "specificity_macro", "ppv_macro")
)
"""What a table shows of them; sensitivity, specificity and PPV stand in the table of the classes."""
CLASSIFICATION_HEADLINES = ("auroc_macro", "f1_weighted")
ON_VALIDATION = ("auroc_macro", "auroc_all_macro", "auroc_weighted", "f1_macro", "f1_weighted")
"""What is scored on the validation records too: the headlines, and what costs no pass of its own."""


def score_rows(
    context: Context, rows: Iterable[str], score: Callable[[str], Scores], minus: Callable[[str, str], Scores]
) -> Result:
    """Score each row, and take from each the baselines among them.

    Args:
        context: names the baselines. A baseline is compared with those before it only.
        rows: their names.
        score: row to its scores.
        minus: row and baseline to the scores of their difference.
    """
    names = list(rows)
    baselines = [name for name in context.baselines if name in names]
    return Result(
        {row: score(row) for row in names},
        {
            baseline: {row: minus(row, baseline) for row in names if row not in baselines[: i + 1]}
            for i, baseline in enumerate(baselines)
        },
    )


def score_values(
    context: Context,
    values: Mapping[str, Mapping[str, Array]],
    counts: int | Mapping[str, int],
    *,
    recentre: Collection[str] = (),
    alone: Collection[str] = (),
) -> Result:
    """Score rows whose metrics were computed on every resample.

    Args:
        context: names the baselines.
        values: row to metric to `[1 + R]`, the observed score first, of the same resamples for all rows.
        counts: how many records were scored, the same for all metrics or of each.
        recentre: metrics whose interval is moved onto the value, see `bootstrap_interval`.
        alone: metrics of which differences say nothing.
    """

    def count(metric: str) -> int:
        return counts if isinstance(counts, int) else counts[metric]

    def score(row: str) -> Scores:
        return {m: bootstrap_interval(v, count(m), recentre=m in recentre) for m, v in values[row].items()}

    def minus(row: str, baseline: str) -> Scores:
        return {
            m: paired_difference(v, values[baseline][m], count(m), recentre=m in recentre)
            for m, v in values[row].items()
            if m in values[baseline] and m not in alone
        }

    return score_rows(context, values, score, minus)


def score_predictions(
    context: Context, predictions: Mapping[str, tuple[np.ndarray, np.ndarray]], chosen: str | None = None
) -> Result:
    """Score every row's test predictions; F1 thresholds come from its validation predictions.

    Args:
        context: labels, resamples, class names and baselines.
        predictions: row to `(val [n_val, C], test [n_test, C])`.
        chosen: what of the predictor was chosen on the validation records, which makes their scores too high.
    """
    split, labels = context.split, context.labels
    truth, classes, least = labels[split.test], context.task.classes, context.config.min_positives
    thresholds = {name: choose_thresholds(labels[split.val], val) for name, (val, _) in predictions.items()}
    metrics = tuple(CLASSIFICATION)

    drawn = {
        name: draw_scores(truth, test, context.resamples, classes, metrics, thresholds[name])
        for name, (_, test) in predictions.items()
    }
    result = score_rows(
        context,
        predictions,
        lambda row: score_drawn(drawn[row], least),
        lambda row, baseline: difference_drawn(drawn[row], drawn[baseline], least),
    )
    result.predictions = {name: test for name, (_, test) in predictions.items()}
    first = next(iter(result.scores.values()))
    result.notes = say_left_out(*(first[m].get("left_out", {}) for m in ("auroc_macro", "auroc_all_macro")))
    try:
        result.validation = {
            name: score_validation(context, val, thresholds[name], chosen) for name, (val, _) in predictions.items()
        }
    except UserError as error:
        result.notes.append(f"no scores on the validation records: {error}")
    return result


def say_left_out(rare: Mapping[str, str], one_sided: Mapping[str, str]) -> list[str]:
    """A sentence on each class that is left out of averages.

    Args:
        rare: class to reason, of the averages over classes with enough positives.
        one_sided: of the average over every class, which leaves out those that all test records have, or none.
    """
    said = {True: "left out of all averages", False: "left out of the averages, but not of that over every class"}
    return [f"{said[name in one_sided]}: {name} ({reason})" for name, reason in rare.items()]


def score_validation(context: Context, predictions: Array, thresholds: Array, chosen: str | None) -> Scores:
    """Score validation predictions `[n_val, C]`; what was chosen on the same records stands beside each score.

    Raises:
        UserError: fewer than two validation patients, or no class that can be scored.
    """
    truth, classes, least = context.labels[context.split.val], context.task.classes, context.config.min_positives
    scores = score_all(truth, predictions, context.val_resamples, classes, ON_VALIDATION, thresholds, least)
    if chosen is not None:
        mark_optimistic(scores, chosen)
    mark_optimistic({m: s for m, s in scores.items() if m in METRICS and METRICS[m].takes_decisions}, "the thresholds")
    return scores
