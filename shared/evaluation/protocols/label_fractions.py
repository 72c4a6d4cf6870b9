"""Label efficiency: probes trained on a share of the training patients."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from shared.config import Section
from shared.data.splits import draw_patients
from shared.evaluation.conditions import CONDITION_TITLES, SPREADS, Draws, curve, merge, score_conditions
from shared.evaluation.context import Context, Picture, Protocol, Result
from shared.evaluation.protocols.knn import KNNSettings
from shared.evaluation.protocols.linear_probe import fit_row
from shared.statistics.knn import knn_scores
from shared.statistics.metrics import Array


class LabelFractionsSettings(Section):
    """Shares of the training patients."""

    label_fractions: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (0.01, 0.05, 0.1, 1.0), min_length=1, description="shares of the training patients"
    )
    label_draws: int = Field(3, ge=1, description="draws of patients per share below 1")


def label_fractions(context: Context) -> Result:
    """Linear probe and kNN (Euclidean) with 1 %, 5 %, 10 %, … of the training patients, several draws of each.

    Every row gets the same patients. The validation fold that chooses the probe's strength stays whole, as is usual, so
    the smallest shares know a little more than their own labels.
    """
    settings, k = context.config.settings(LabelFractionsSettings), context.config.settings(KNNSettings).k
    chosen = {share_name(f): draw_shares(context, f) for f in sorted(set(settings.label_fractions))}
    probes: dict[str, dict[str, Draws]] = {}
    neighbours: dict[str, dict[str, Draws]] = {}
    for row, embeddings in context.rows.items():
        test = embeddings[context.split.test]
        probes[row] = {
            name: [fit_row(context, embeddings, train).predict(test) for train in draws]
            for name, draws in chosen.items()
        }
        neighbours[row] = {
            name: [
                knn_scores(
                    embeddings[train],
                    context.labels[train],
                    test,
                    num_neighbours(k, len(train), len(context.split.train)),
                    device=context.device,
                )
                for train in draws
            ]
            for name, draws in chosen.items()
        }
    result = merge([score_conditions(context, probes), score_conditions(context, neighbours, "knn/")])
    sizes = {name: round(float(np.mean([len(train) for train in draws]))) for name, draws in chosen.items()}
    result.notes.append(
        f"label fractions: {', '.join(f'{name} = {n} records' for name, n in sizes.items())}; "
        f"{settings.label_draws} draws of patients below 100%, the mean is shown, its interval is over test patients"
    )
    fewer = {name: num_neighbours(k, min(map(len, draws)), len(context.split.train)) for name, draws in chosen.items()}
    lowered = [f"k = {n} at {name}" for name, n in fewer.items() if n < k]
    if lowered:
        result.notes.append(f"label fractions, kNN: {', '.join(lowered)}")
    result.figures.append(draw_shares_curve(context, result, list(chosen)))
    return result


def draw_shares_curve(context: Context, result: Result, shares: list[str]) -> Picture:
    """Macro AUROC over the shares, of the linear probe and of kNN."""
    from shared.plots.scores import plot_curves

    path = context.out / "figures" / "label_fractions.png"
    panels = {
        title: {row: curve(scores, metric, shares) for row, scores in result.scores.items()}
        for title, metric in (("linear probe", "auroc_macro"), ("kNN", "knn/auroc_macro"))
    }
    plot_curves(path, panels, dict.fromkeys(panels, CURVE[1]))
    return Picture(path, "Label efficiency: macro AUROC over the share of training patients, 95 % intervals.")


def draw_shares(context: Context, fraction: float) -> list[Array]:
    """Training positions of each draw of a share of the training patients; 100 % is one draw."""
    train, seed = context.split.train, context.config.seed
    draws = context.config.settings(LabelFractionsSettings).label_draws if fraction < 1 else 1
    return [draw_patients(train, context.patients, context.labels, fraction, (seed, draw)) for draw in range(draws)]


def num_neighbours(k: int, num_train: int, num_all: int) -> int:
    """k with all training records, so that 100 % is the plain protocol; with fewer at most the root of their number.

    Of 24 records, 20 neighbours would be nearly everybody.
    """
    return min(k, num_train) if num_train == num_all else min(k, max(1, round(num_train**0.5)))


def share_name(fraction: float) -> str:
    """`1%`, `0.5%`."""
    return f"{100 * fraction:g}%"


CURVE = ("Label efficiency", "share of training patients")
LABEL_FRACTIONS = Protocol(
    label_fractions, LabelFractionsSettings, titles=CONDITION_TITLES, curve=CURVE, unranked=SPREADS
)
