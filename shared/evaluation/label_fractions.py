"""Label efficiency: probes trained on a share of the training patients."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from shared.evaluation.conditions import Draws, curve, merge, score_conditions
from shared.evaluation.context import Context, Figure, Result
from shared.evaluation.knn import knn_scores
from shared.evaluation.metrics import Array
from shared.evaluation.plots import plot_curves
from shared.evaluation.probe import fit_row


def label_fractions(context: Context) -> Result:
    """Linear probe and kNN (Euclidean) with 1 %, 5 %, 10 %, … of the training patients, several draws of each.

    Every row gets the same patients. The validation fold that chooses the probe's strength stays whole, as is usual, so
    the smallest shares know a little more than their own labels.
    """
    config, fractions = context.config, sorted(set(context.config.label_fractions))
    chosen = {share_name(f): list(draw_patients(context, f)) for f in fractions}
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
                    num_neighbours(config.knn.k, len(train), len(context.split.train)),
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
        f"{config.label_draws} draws of patients below 100%, the mean is shown, its interval is over test patients"
    )
    fewer = {
        name: num_neighbours(config.knn.k, min(map(len, draws)), len(context.split.train))
        for name, draws in chosen.items()
    }
    fewer = {name: k for name, k in fewer.items() if k < config.knn.k}
    if fewer:
        result.notes.append(f"label fractions, kNN: {', '.join(f'k = {k} at {name}' for name, k in fewer.items())}")
    path = context.out / "figures" / "label_fractions.png"
    panels = {
        title: {row: curve(scores, metric, list(chosen)) for row, scores in result.scores.items()}
        for title, metric in (("linear probe", "auroc_macro"), ("kNN", "knn/auroc_macro"))
    }
    plot_curves(path, panels, dict.fromkeys(panels, "share of training patients"))
    result.figures.append(
        Figure(path, "Label efficiency: macro AUROC over the share of training patients, 95 % intervals.")
    )
    return result


def num_neighbours(k: int, num_train: int, num_all: int) -> int:
    """k with all training records, so that 100 % is the plain protocol; with fewer at most the root of their number.

    Of 24 records, 20 neighbours would be nearly everybody.
    """
    return min(k, num_train) if num_train == num_all else min(k, max(1, round(num_train**0.5)))


def share_name(fraction: float) -> str:
    """`1%`, `0.5%`."""
    return f"{100 * fraction:g}%"


def draw_patients(context: Context, fraction: float) -> Iterator[Array]:
    """Yield training positions of each draw of a share of the training patients; 100 % is one draw.

    Patients are stratified by the rarest class among their records' labels, so that rare classes keep their share. Each
    stratum gives its proportional number; what rounding leaves goes to the largest remainders, equal ones by lot.
    """
    train = context.split.train
    if fraction >= 1:
        yield train
        return
    patients, names = pd.factorize(context.patients[train])
    labels = context.labels[train]
    of_patient = np.zeros((len(names), labels.shape[1]), dtype=bool)
    np.logical_or.at(of_patient, patients, labels)
    rarest = np.argsort(of_patient.sum(axis=0), kind="stable")
    stratum = np.where(of_patient.any(axis=1), of_patient[:, rarest].argmax(axis=1), labels.shape[1])
    total = max(2, round(fraction * len(names)))
    for draw in range(context.config.label_draws):
        rng = np.random.default_rng([context.config.seed, draw])
        picked = stratified(stratum, total, rng)
        yield train[np.isin(patients, picked)]


def stratified(stratum: Array, total: int, rng: np.random.Generator) -> Array:
    """Draw `total` members, each stratum in proportion, int `[total]`, from `stratum [n]` of everybody.

    Raises:
        ValueError: more asked for than there are.
    """
    if not 0 < total <= len(stratum):
        raise ValueError(f"{total} of {len(stratum)} asked for; expected a number from 1 to {len(stratum)}")
    kinds, counts = np.unique(stratum, return_counts=True)
    exact = counts * (total / len(stratum))
    quota = np.floor(exact + 1e-9).astype(int)
    order = np.lexsort((rng.random(len(kinds)), -np.round(exact - quota, 9)))
    quota[order[: total - quota.sum()]] += 1
    parts = [rng.permutation(np.flatnonzero(stratum == kind))[:n] for kind, n in zip(kinds, quota, strict=True)]
    return np.sort(np.concatenate(parts))
