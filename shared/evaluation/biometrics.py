"""Do two records come from the same person? Verification and identification by the cosine of their embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Canvas

from shared.evaluation.bootstrap import bootstrap_interval, paired_difference
from shared.evaluation.context import RANDOM, Context, Figure, Result
from shared.evaluation.knn import nearest_neighbours
from shared.evaluation.metrics import Array
from shared.evaluation.plots import COLOURS, save

FALSE_ACCEPTS = 0.01
VALUES_PER_BLOCK = 2**22


def biometrics(context: Context) -> Result:
    """Same patient or not, from test embeddings centred by the training mean.

    Verification compares pairs of records: all genuine pairs of patients with two or more records, and a random sample
    of impostor pairs. Metrics: `auroc`, `eer` (false accepts = false rejects), `tar_at_1_far`. Identification
    (`rank_1`): is the nearest other test record the same patient's? Sample-identical copies take no part. A resample
    that draws a patient k times counts its genuine pairs k times, and an impostor pair as often as both draws meet.

    Raises:
        ValueError: fewer than two test patients with two records.
    """
    test = context.split.test
    records = context.store.records.iloc[context.indices[test]]
    used = np.flatnonzero(~records.digest.duplicated().to_numpy())
    patients = pd.factorize(records.patient.to_numpy()[used])[0]
    repeated = np.bincount(patients)[patients] > 1
    if len(np.unique(patients[repeated])) < 2:
        raise ValueError(
            f"{len(np.unique(patients[repeated]))} test patients have two or more different records; biometrics expects "
            "at least two such patients. Use a store with several records or segments per patient."
        )
    first, second, genuine = draw_pairs(patients, context.config.impostor_pairs, context.config.seed)
    probes = np.flatnonzero(repeated)
    values, similar = {}, {}
    for row, embeddings in context.rows.items():
        centred = embeddings[test][used] - embeddings[context.split.train].mean(axis=0)
        similar[row] = cosine(centred, first, second)
        nearest = nearest_neighbours(centred, centred, 1, "cosine", exclude_self=True, device=context.device)[1]
        hits = patients[nearest[:, 0].numpy()] == patients

        def score(weights: Array, scores: Array = similar[row], hits: Array = hits) -> dict[str, Array]:
            of_used = weights[:, used]
            result = verify(scores, genuine, first, second, of_used)
            counts = of_used[:, probes].astype(np.float64)
            total = counts.sum(axis=1)
            rank_1 = np.divide(counts @ hits[probes], total, out=np.full(len(total), np.nan), where=total > 0)
            return result | {"rank_1": rank_1}

        values[row] = context.resamples.evaluate(score)
    counts = dict.fromkeys(("auroc", "eer", "tar_at_1_far"), len(genuine)) | {"rank_1": len(probes)}
    path = context.out / "figures" / "biometrics.png"
    plot_verification(path, similar, genuine)
    return Result(
        {row: {m: bootstrap_interval(v, counts[m]) for m, v in of_row.items()} for row, of_row in values.items()},
        {
            row: {m: paired_difference(v, values[RANDOM][m], counts[m]) for m, v in of_row.items()}
            for row, of_row in values.items()
            if row != RANDOM and RANDOM in values
        },
        notes=[
            f"biometrics: {int(genuine.sum())} genuine pairs of {len(np.unique(patients[repeated]))} test patients, "
            f"{int((~genuine).sum())} impostor pairs (a random sample of at most {context.config.impostor_pairs}); rank-1 among "
            f"{len(used)} records"
        ],
        figures=[
            Figure(path, "Same patient or not: true against false accepts, and the similarity of both kinds of pairs.")
        ],
    )


def draw_pairs(patients: Array, num_impostors: int, seed: int) -> tuple[Array, Array, Array]:
    """All pairs within patients and a sample of pairs between them.

    Args:
        patients: int `[n]`.
        num_impostors: at most this many; drawn with replacement, repeated pairs are kept once.
        seed: of the sample.

    Returns:
        `first [m]`, `second [m]` (positions), `genuine [m]` bool.
    """
    own: list[Array] = []
    order = np.argsort(patients, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(patients[order])) + 1):
        i, j = np.triu_indices(len(members), 1)
        own.append(np.stack([members[i], members[j]]))
    genuine = np.concatenate(own, axis=1)
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.integers(len(patients), size=(2, 2 * num_impostors)), axis=0)
    drawn = drawn[:, patients[drawn[0]] != patients[drawn[1]]]
    _, kept = np.unique(drawn[0] * len(patients) + drawn[1], return_index=True)
    drawn = drawn[:, np.sort(kept)[:num_impostors]]
    first, second = np.concatenate([genuine, drawn], axis=1)
    return first, second, np.arange(len(first)) < genuine.shape[1]


def cosine(embeddings: Array, first: Array, second: Array) -> Array:
    """Cosine similarity `[m]` of pairs of rows; 0 where a vector is zero."""
    length = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = embeddings / np.where(length > 0, length, 1)
    step = max(1, VALUES_PER_BLOCK // embeddings.shape[1])
    parts = [
        np.einsum("md,md->m", unit[first[i : i + step]], unit[second[i : i + step]]) for i in range(0, len(first), step)
    ]
    return np.concatenate(parts)


def verify(scores: Array, genuine: Array, first: Array, second: Array, weights: Array) -> dict[str, Array]:
    """Verification scores for every row of weights.

    Args:
        scores: `[m]` similarity of each pair.
        genuine: `[m]` bool.
        first, second: `[m]` the pair's records.
        weights: `[R, n]` how often each record counts (the same for all records of a patient).

    Returns:
        `auroc`, `eer`, `tar_at_1_far`, each `[R]`; NaN where a row has no genuine or no impostor pair.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # equal scores are accepted together
    first, second, genuine = first[order], second[order], genuine[order]
    step = max(1, VALUES_PER_BLOCK // len(scores))
    blocks = []
    for start in range(0, len(weights), step):
        a = weights[start : start + step][:, first].astype(np.float32)
        b = weights[start : start + step][:, second].astype(np.float32)
        blocks.append(_verify_block(np.where(genuine, a, 0), np.where(genuine, 0, a * b), ends))
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def _verify_block(positive: Array, negative: Array, ends: Array) -> dict[str, Array]:
    """`verify` from the pair weights `[R, m]`, highest similarity first."""
    accepted, false = (np.cumsum(x, axis=1, dtype=np.float64)[:, ends] for x in (positive, negative))
    with np.errstate(invalid="ignore"):  # rows without one kind of pair become NaN
        tar, far = accepted / accepted[:, -1:], false / false[:, -1:]
    start = np.zeros((len(tar), 1))
    tar, far = np.hstack([start, tar]), np.hstack([start, far])
    area = ((far[:, 1:] - far[:, :-1]) * (tar[:, 1:] + tar[:, :-1])).sum(axis=1) / 2
    gap = far + tar - 1  # false accepts less false rejects: rises from -1 to 1
    after = np.argmax(gap >= 0, axis=1).clip(1)
    rows = np.arange(len(tar))
    low, high = gap[rows, after - 1], gap[rows, after]
    share = -low / np.where(high > low, high - low, 1)
    eer = far[rows, after - 1] + share * (far[rows, after] - far[rows, after - 1])
    strict = np.where(far <= FALSE_ACCEPTS * (1 + 1e-12), tar, 0).max(axis=1)
    undefined = np.isnan(area)
    return {
        "auroc": area,
        "eer": np.where(undefined, np.nan, eer),
        "tar_at_1_far": np.where(undefined, np.nan, strict),
    }


def plot_verification(path: Path, similar: dict[str, Array], genuine: Array) -> None:
    """ROC of every row (false accepts on a logarithmic axis), and each row's similarities of both kinds of pairs."""
    figure = Canvas(figsize=(4.3 + 3.6 * len(similar), 4.0), layout="constrained")
    panels = figure.subplots(1, 1 + len(similar), squeeze=False, width_ratios=[1.2] + [1] * len(similar))[0]
    lowest = 1 / max(1, int((~genuine).sum()))
    for i, (row, scores) in enumerate(similar.items()):
        order = np.argsort(-scores)
        far, tar = (np.cumsum(x[order]) / max(1, x.sum()) for x in (~genuine, genuine))
        panels[0].step(np.maximum(far, lowest), tar, where="post", color=COLOURS[i], lw=1.5, label=row)
        axes = panels[1 + i]
        bins = np.linspace(scores.min(), scores.max() + 1e-9, 50)
        for kind, colour, name in ((genuine, COLOURS[2], "same patient"), (~genuine, COLOURS[3], "two patients")):
            axes.hist(scores[kind], bins, density=True, alpha=0.55, color=colour, label=name)
        axes.set_title(row, fontsize=11)
        axes.set_xlabel("cosine similarity", fontsize=9)
        axes.set_yticks([])
        axes.legend(fontsize=8, frameon=False)
    chance = np.geomspace(lowest, 1, 50)
    panels[0].plot(chance, chance, color="#888888", ls="--", lw=0.8, label="chance")
    panels[0].set_xscale("log")
    panels[0].set_xlabel("false accepts", fontsize=9)
    panels[0].set_ylabel("true accepts", fontsize=9)
    panels[0].legend(fontsize=8, frameon=False)
    save(figure, path)
