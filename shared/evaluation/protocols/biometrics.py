"""Do two records come from the same person? Verification and identification by the cosine of their embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field

from shared.config import Section
from shared.errors import UserError
from shared.evaluation.context import Context, Picture, Protocol, Result
from shared.evaluation.scoring import score_values
from shared.statistics.knn import nearest_neighbours
from shared.statistics.metrics import Array

FALSE_ACCEPTS = 0.01
SHRINKAGES = (1e-4, 1e-3, 1e-2)
MIN_PATIENTS = 10
"""Training patients with several records needed to learn what varies within a patient."""
VALUES_PER_BLOCK = 2**22


class BiometricsSettings(Section):
    """Pairs of records."""

    impostor_pairs: int = Field(20_000, ge=1, description="pairs of two patients drawn for the biometrics")


def biometrics(context: Context) -> Result:
    """Same patient or not, from the cosine of test embeddings centred by the training mean.

    Verification compares pairs of records: all genuine pairs of patients with two or more records, and a random sample
    of impostor pairs. Metrics: `auroc`, `eer` (false accepts = false rejects), `tar_at_1_far`. Identification
    (`rank_1`): is the nearest other test record the same patient's? Sample-identical copies take no part. Where training
    patients have several records, the same stands under `wccn/` after `within_patient_map`, the linear counterpart of
    the probes; test patients are new to it. A resample that draws a patient k times counts its genuine pairs k times, and
    an impostor pair as often as both draws meet.

    Raises:
        UserError: fewer than two test patients with two records.
    """
    split, most = context.split, context.config.settings(BiometricsSettings).impostor_pairs
    used = distinct(context, split.test)
    patients = pd.factorize(context.patients[used])[0]
    probes = np.flatnonzero(np.bincount(patients)[patients] > 1)
    num_repeated = len(np.unique(patients[probes]))
    if num_repeated < 2:
        raise UserError(
            f"{num_repeated} test patients have two or more different records; biometrics expects at least two such "
            "patients. Use a store with several records or segments per patient."
        )
    pairs = draw_pairs(patients, most, context.config.seed)
    genuine = pairs[2]
    values: dict[str, dict[str, Array]] = {row: {} for row in context.rows}
    similar: dict[str, Array] = {}
    for row, embeddings in context.rows.items():
        centred = embeddings - embeddings[split.train].mean(axis=0)
        learned = learn_map(context, centred)
        for prefix, vectors in (("", centred), ("wccn/", None if learned is None else centred @ learned)):
            if vectors is not None:
                similar[row], scored = score_vectors(context, vectors[used], used, patients, pairs)
                values[row] |= {f"{prefix}{name}": v for name, v in scored.items()}
    path = context.out / "figures" / "biometrics.png"
    plot_verification(path, similar, genuine)
    counts = {m: len(probes) if m.endswith("rank_1") else len(genuine) for m in next(iter(values.values()))}
    result = score_values(context, values, counts)
    result.notes = [
        f"biometrics: {int(genuine.sum())} genuine pairs of {num_repeated} test patients, {int((~genuine).sum())} "
        f"impostor pairs (a random sample of at most {most}); rank-1 among {len(used)} records"
    ]
    caption = "Same patient or not: true against false accepts, and how similar both kinds of pairs are"
    result.figures = [Picture(path, f"{caption}{' (after wccn)' if learned is not None else ''}.")]
    return result


def score_vectors(
    context: Context, vectors: Array, used: Array, patients: Array, pairs: tuple[Array, Array, Array]
) -> tuple[Array, dict[str, Array]]:
    """Verification and identification by one kind of vectors.

    Args:
        context: resamples of the test split.
        vectors: `[m, D]` of the test records `used`.
        used: their positions `[m]`.
        patients: int `[m]`.
        pairs: of `draw_pairs`.

    Returns:
        The similarity of each pair, and metric to `[1 + R]`.
    """
    first, second, genuine = pairs
    probes = np.flatnonzero(np.bincount(patients)[patients] > 1)
    among_test = np.searchsorted(context.split.test, used)
    similar = cosine(vectors, first, second)
    nearest = nearest_neighbours(vectors, vectors, 1, "cosine", exclude_self=True, device=context.device)[1]
    hits = (patients[nearest[:, 0].numpy()] == patients)[probes]

    def score(weights: Array) -> dict[str, Array]:
        of_used = weights[:, among_test]
        counts = of_used[:, probes].astype(np.float64)
        total = counts.sum(axis=1)
        rank_1 = np.divide(counts @ hits, total, out=np.full(len(total), np.nan), where=total > 0)
        return verify(similar, genuine, first, second, of_used) | {"rank_1": rank_1}

    return similar, context.resamples.evaluate(score)


def distinct(context: Context, part: Array) -> Array:
    """Positions of a split without the later ones of sample-identical records."""
    copies = context.store.records.digest.iloc[context.indices[part]].duplicated().to_numpy()
    return part[~copies]


def learn_map(context: Context, centred: Array) -> Array | None:
    """`within_patient_map` of the training split, its shrinkage chosen by AUROC on validation; None without repeats."""
    train, val = distinct(context, context.split.train), distinct(context, context.split.val)
    groups = pd.factorize(context.patients[train])[0]
    if (np.bincount(groups) > 1).sum() < MIN_PATIENTS:
        return None
    maps = [within_patient_map(centred[train], groups, shrinkage) for shrinkage in SHRINKAGES]
    val_groups = pd.factorize(context.patients[val])[0]
    if (np.bincount(val_groups) > 1).sum() < 2:
        return maps[len(maps) // 2]
    most = context.config.settings(BiometricsSettings).impostor_pairs
    first, second, genuine = draw_pairs(val_groups, most, context.config.seed)
    once = np.ones((1, len(val)), dtype=np.uint8)
    aurocs = [
        verify(cosine(centred[val] @ turn, first, second), genuine, first, second, once)["auroc"][0] for turn in maps
    ]
    return maps[int(np.argmax(aurocs))]


def within_patient_map(centred: Array, groups: Array, shrinkage: float) -> Array:
    """The linear map `[D, D]` that makes what varies within patients equal in all directions.

    Args:
        centred: `[n, D]`.
        groups: int `[n]`, the patient of each row; patients with one row take no part.
        shrinkage: share of the largest variance added to all, for directions that few records show.

    Source: within-class covariance normalisation, Hatch, Kajarekar and Stolcke, Interspeech 2006.
    """
    kept = np.bincount(groups)[groups] > 1
    groups = np.unique(groups[kept], return_inverse=True)[1]
    x = centred[kept].astype(np.float64)
    sums = np.zeros((groups.max() + 1, x.shape[1]))
    np.add.at(sums, groups, x)
    x -= (sums / np.bincount(groups)[:, None])[groups]
    variances, turn = np.linalg.eigh(x.T @ x / len(x))
    return np.asarray(turn / np.sqrt(variances.clip(0) + shrinkage * max(variances[-1], 1e-30)))


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
    from matplotlib.figure import Figure

    from shared.plots.charts import COLOURS, save

    figure = Figure(figsize=(4.3 + 3.6 * len(similar), 4.0), layout="constrained")
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


BIOMETRICS = Protocol(
    biometrics,
    BiometricsSettings,
    titles={
        "auroc": "AUROC",
        "eer": "equal error rate ↓",
        "tar_at_1_far": "true accepts at 1 % false accepts",
        "rank_1": "rank-1 identification",
    },
)
