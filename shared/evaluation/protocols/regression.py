"""Numbers read from embeddings: heart rate and intervals where the truth is known, age, and sex."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field

from shared.config import Section
from shared.errors import UserError
from shared.evaluation.context import Context, Picture, Protocol, Result
from shared.evaluation.protocols.linear_probe import LinearProbeSettings
from shared.evaluation.scoring import score_values
from shared.statistics.metrics import Array, auroc
from shared.statistics.regression import REGRESSION as METRICS

UNITS = {"true_heart_rate": "bpm", "true_pr_ms": "ms", "true_qrs_ms": "ms", "true_qt_ms": "ms", "age": "years"}
MIN_RECORDS = 10


class RegressionSettings(Section):
    """What is predicted."""

    regression: tuple[str, ...] = Field(
        ("true_heart_rate", "true_pr_ms", "true_qrs_ms", "true_qt_ms", "age", "sex"),
        min_length=1,
        description="number columns of the store; one of only 0 and 1 is scored as a class",
    )


def regression(context: Context) -> Result:
    """Ridge on frozen embeddings for each number column; a column of only 0 and 1 (sex) is scored by AUROC.

    Records without the number take no part in that column; the resamples stay the same. Metrics: `column/mae`, `/rmse`,
    `/r2`, `/pearson`, or `column/auroc`.

    Raises:
        UserError: the store has none of the columns, or none with enough records.
    """
    targets, notes = find_targets(context)
    if not targets:
        asked = context.config.settings(RegressionSettings).regression
        raise UserError(
            f"none of the columns {', '.join(asked)} can be predicted ({'; '.join(notes)}). "
            "Name number columns of the store in `regression`."
        )
    values: dict[str, dict[str, Array]] = {row: {} for row in context.rows}  # row -> metric -> [1 + R]
    counts: dict[str, int] = {}
    pictures: dict[str, dict[str, tuple[Array, Array]]] = {}
    for column, target in targets.items():
        kept = np.flatnonzero(np.isfinite(target[context.split.test]))
        truth = target[context.split.test][kept]
        for row, embeddings in context.rows.items():
            predicted = predict_column(context, embeddings, target)[kept]
            scored = score_column(context, truth, predicted, kept)
            values[row] |= {f"{column}/{metric}": v for metric, v in scored.items()}
            counts |= {f"{column}/{metric}": len(kept) for metric in scored}
            if not is_binary(target):
                pictures.setdefault(column, {})[row] = truth, predicted
    result = score_values(context, values, counts)
    result.notes = notes
    units = [f"{column} in {UNITS[column]}" for column in targets if column in UNITS]
    if units:
        result.notes.append(f"regression: {', '.join(units)}")
    if pictures:
        path = context.out / "figures" / "regression.png"
        first = next(iter(context.rows))
        plot_regression(path, {column: of_row[first] for column, of_row in pictures.items()})
        result.figures.append(Picture(path, f"Numbers predicted by ridge from embeddings of {first}, test records."))
    return result


def find_targets(context: Context) -> tuple[dict[str, Array], list[str]]:
    """Column to float64 `[n]` (NaN where unknown) for the columns that can be predicted, and why others cannot."""
    records = context.store.records.iloc[context.indices]
    targets: dict[str, Array] = {}
    notes: list[str] = []
    for column in context.config.settings(RegressionSettings).regression:
        if column not in records:
            notes.append(f"regression: the store has no column {column}")
            continue
        target = pd.to_numeric(records[column], errors="coerce").to_numpy(np.float64)
        target[~np.isfinite(target)] = np.nan
        parts = [target[part] for part in (context.split.train, context.split.val, context.split.test)]
        known = [part[np.isfinite(part)] for part in parts]
        if min(map(len, known)) < MIN_RECORDS:
            numbers = ", ".join(str(len(part)) for part in known)
            notes.append(
                f"regression: {column} is known for {numbers} records of train, validation and test; "
                f"{MIN_RECORDS} of each are needed"
            )
        elif any(len(np.unique(part)) < 2 for part in known):
            notes.append(f"regression: {column} does not vary in every split")
        else:
            targets[column] = target
    return targets, notes


def is_binary(target: Array) -> bool:
    """Whether a column holds 0 and 1 only."""
    return set(np.unique(target[np.isfinite(target)])) <= {0.0, 1.0}


def predict_column(context: Context, embeddings: Array, target: Array) -> Array:
    """Test predictions `[n_test]` of a probe fitted where the target is known."""
    from shared.statistics.probe import fit_logistic, fit_ridge

    train, val = (part[np.isfinite(target[part])] for part in (context.split.train, context.split.val))
    test = embeddings[context.split.test]
    strengths, device = context.config.settings(LinearProbeSettings).l2, context.device
    if is_binary(target):
        labels, val_labels = target[train][:, None], target[val][:, None]
        probe = fit_logistic(embeddings[train], labels, embeddings[val], val_labels, strengths, device=device)
    else:
        probe = fit_ridge(embeddings[train], target[train], embeddings[val], target[val], strengths, device=device)
    return np.asarray(probe.predict(test)[:, 0])


def score_column(context: Context, truth: Array, predicted: Array, kept: Array) -> dict[str, Array]:
    """Metric to `[1 + R]` on the test records `kept`, with the context's resamples."""
    if set(np.unique(truth)) <= {0.0, 1.0}:
        return context.resamples.evaluate(
            lambda weights: {"auroc": auroc(truth[:, None], predicted[:, None], weights[:, kept])[:, 0]}
        )
    return context.resamples.evaluate(
        lambda weights: {name: metric(truth, predicted, weights[:, kept]) for name, metric in METRICS.items()}
    )


def plot_regression(path: Path, columns: dict[str, tuple[Array, Array]]) -> None:
    """Predicted against true values, one panel per column; the line is a perfect prediction."""
    from matplotlib.figure import Figure

    from shared.plots.charts import COLOURS, panels, save

    width = min(len(columns), 3)
    lines = -(-len(columns) // width)
    figure = Figure(figsize=(3.9 * width, 3.7 * lines), layout="constrained")
    for axes, (column, (truth, predicted)) in zip(panels(figure, len(columns), width), columns.items(), strict=True):
        ends = min(truth.min(), predicted.min()), max(truth.max(), predicted.max())
        axes.plot(ends, ends, color="#888888", ls="--", lw=1)
        axes.scatter(truth, predicted, s=9, alpha=0.5, lw=0, color=COLOURS[0])
        error = np.abs(truth - predicted).mean()
        unit = UNITS.get(column, "")
        axes.set_title(f"{column}: mean error {error:.3g} {unit}".rstrip(), fontsize=10)
        axes.set_xlabel(f"true {unit}".rstrip(), fontsize=9)
        axes.set_ylabel(f"predicted {unit}".rstrip(), fontsize=9)
        axes.set_aspect("equal", adjustable="box")
    save(figure, path)


REGRESSION = Protocol(
    regression,
    RegressionSettings,
    titles={
        "auroc": "AUROC",
        "mae": "mean absolute error ↓",
        "rmse": "root mean squared error ↓",
        "r2": "R²",
        "pearson": "Pearson correlation",
    },
)
