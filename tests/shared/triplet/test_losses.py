"""Metric-learning losses and mining against naive loops, their configs, and batches that cannot be compared."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from typing import Any, Literal

import numpy as np
import pytest
import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.miners import TripletMarginMiner

from shared.config import REPO_ROOT, ConfigError, Section, load_config
from shared.errors import UserError
from shared.triplet.losses import (
    LOSSES,
    SAVED_TOGETHER,
    AnyLoss,
    LossConfig,
    MetricLoss,
    MultiSimilarityConfig,
    TripletLossConfig,
    make_loss,
)
from shared.triplet.miners import MINERS, Batch, graded_triplets, label_overlap


class LossOnly(Section):
    loss: AnyLoss = TripletLossConfig()


def embeddings(count: int = 12) -> torch.Tensor:
    points = torch.randn(count, 5, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.normalize(points, dim=1)


def single_labels(count: int = 12, classes: int = 3) -> torch.Tensor:
    return torch.eye(classes, dtype=torch.bool)[torch.arange(count) % classes]


def several_labels(count: int = 12) -> torch.Tensor:
    labels = torch.rand(count, 4, generator=torch.Generator().manual_seed(1)) < 0.4
    labels[~labels.any(1), 0] = True
    return labels


def loss_of(**given: Any) -> MetricLoss:
    return make_loss(LossOnly.model_validate({"loss": given}).loss)


def naive_triplets(z: torch.Tensor, labels: torch.Tensor) -> list[tuple[int, int, int, float, float]]:
    """(a, p, n, squared-distance gap d(a, n) − d(a, p), Jaccard weight) of every triplet, by three loops."""
    sets = [set(torch.where(row)[0].tolist()) for row in labels]

    def overlap(i: int, j: int) -> float:
        return len(sets[i] & sets[j]) / len(sets[i] | sets[j])

    def distance(i: int, j: int) -> float:
        return sum((float(x) - float(y)) ** 2 for x, y in zip(z[i], z[j], strict=True))

    found = []
    for a, p, n in itertools.product(range(len(z)), repeat=3):
        if len({a, p, n}) == 3 and overlap(a, p) > 0 and overlap(a, p) > overlap(a, n):
            found.append((a, p, n, distance(a, n) - distance(a, p), overlap(a, p) - overlap(a, n)))
    return found


CHOOSE = {
    "all": lambda gap, margin: True,
    "semihard": lambda gap, margin: 0 < gap <= margin,
    "hard": lambda gap, margin: gap <= 0,
}


@pytest.mark.parametrize("mean_over", ["active", "all"])
@pytest.mark.parametrize("positives", ["same", "jaccard"])
@pytest.mark.parametrize("miner", ["all", "semihard", "hard"])
def test_triplet_loss_and_mining_against_three_loops(miner: str, positives: str, mean_over: str) -> None:
    margin, z = 0.7, embeddings()
    labels = single_labels() if positives == "same" else several_labels()
    triplets = naive_triplets(z, labels)
    losses = [(max(0.0, margin - gap), w) for *_, gap, w in triplets if CHOOSE[miner](gap, margin)]
    if mean_over == "active":
        losses = [(value, w) for value, w in losses if value > 0]
    expected = sum(value * w for value, w in losses) / sum(w for _, w in losses)
    terms = loss_of(miner=miner, positives=positives, margin=margin, mean_over=mean_over)(z, labels)
    assert float(terms.loss) == pytest.approx(expected, abs=2e-3)
    active = sum(gap < margin for *_, gap, _ in triplets) / len(triplets)
    assert float(terms.active) == pytest.approx(active, abs=1e-6)


def test_random_mining_takes_one_negative_for_each_pair() -> None:
    labels = single_labels()
    triplets = graded_triplets(label_overlap(labels))
    assert set(zip(*(t.tolist() for t in triplets), strict=True)) == {
        t[:3] for t in naive_triplets(embeddings(), labels)
    }
    torch.manual_seed(0)
    values = {round(float(loss_of(miner="random", mean_over="all")(embeddings(), labels).loss), 5) for _ in range(5)}
    assert len(values) > 1
    everything = float(loss_of(miner="all", mean_over="all")(embeddings(), labels).loss)
    average = np.mean([float(loss_of(miner="random", mean_over="all")(embeddings(), labels).loss) for _ in range(300)])
    assert average == pytest.approx(everything, rel=0.03)


def test_plain_distances_and_batch_hard_against_loops() -> None:
    z, labels, margin = embeddings(), single_labels(), 0.3
    classes = labels.int().argmax(1)
    distances = [[float((a - b).norm()) for b in z] for a in z]
    values = []
    for a in range(12):
        far = max(distances[a][p] for p in range(12) if p != a and classes[p] == classes[a])
        near = min(distances[a][n] for n in range(12) if classes[n] != classes[a])
        values.append(max(0.0, far - near + margin))
    terms = loss_of(miner="batch_hard", squared=False, margin=margin, mean_over="all")(z, labels)
    assert float(terms.loss) == pytest.approx(float(np.mean(values)), abs=2e-3)


def test_supervised_contrast_against_a_loop() -> None:
    """Khosla et al. 2020, equation 2."""
    z, labels, t = embeddings(), single_labels(), 0.2
    classes = labels.int().argmax(1)
    values = []
    for a in range(12):
        others = [j for j in range(12) if j != a]
        total = torch.stack([torch.exp(z[a] @ z[j] / t) for j in others]).sum()
        positives = [j for j in others if classes[j] == classes[a]]
        values.append(-np.mean([float(z[a] @ z[p] / t - total.log()) for p in positives]))
    assert float(loss_of(name="supcon", temperature=t)(z, labels).loss) == pytest.approx(
        float(np.mean(values)), rel=1e-4
    )


@pytest.mark.parametrize("name", ["supcon", "multi_similarity"])
def test_pair_losses_of_several_labels_equal_single_ones_where_they_are_single(name: str) -> None:
    z, labels = embeddings(), single_labels()
    same, shared = (loss_of(name=name, positives=p)(z, labels).loss for p in ("same", "jaccard"))
    assert float(same) == pytest.approx(float(shared), rel=1e-5)
    assert torch.isfinite(loss_of(name=name, positives="jaccard")(z, several_labels()).loss)


def test_overlap() -> None:
    labels = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.bool)
    torch.testing.assert_close(label_overlap(labels), torch.tensor([[1, 0.5, 0], [0.5, 1, 0], [0, 0, 1]]))


def test_nothing_to_mine_still_has_a_gradient() -> None:
    z = torch.eye(3)[torch.arange(12) % 3].requires_grad_(True)
    terms = loss_of(miner="hard", margin=0.1)(z, single_labels())
    terms.loss.backward()
    assert float(terms.loss.detach()) == 0 and float(terms.active) == 0


@pytest.mark.parametrize("name", ["semihard", "hard"])
def test_mining_by_the_gap_is_the_librarys(name: str) -> None:
    z, labels, margin = embeddings(24), single_labels(24), 0.7
    distance = LpDistance(normalize_embeddings=False, p=2, power=2)
    triplets, distances = graded_triplets(label_overlap(labels)), distance(z, z)
    gap = distances[triplets[0], triplets[2]] - distances[triplets[0], triplets[1]]
    classes = labels.int().argmax(1)
    found = MINERS[name](distance).triplets(Batch(z, classes, triplets, gap, margin))  # type: ignore[index]
    expected = TripletMarginMiner(margin, name, distance=distance)(z, classes)
    assert len(found[0]) > 0 and all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


# ---------------------------------------------------------------- bad input


def test_batches_without_pairs_are_refused() -> None:
    loss = loss_of()
    with pytest.raises(UserError, match="no negative pair"):
        loss(embeddings(4), torch.ones(4, 1, dtype=torch.bool))
    with pytest.raises(UserError, match="no positive pair"):
        loss(embeddings(3), single_labels(3))
    with pytest.raises(UserError, match="not exactly one label"):
        loss(embeddings(), several_labels())


# ---------------------------------------------------------------- configs


def test_each_loss_has_its_own_keys_and_miners() -> None:
    assert {name for name, (config, _) in LOSSES.items() if config.model_fields["name"].default == name} == set(LOSSES)
    assert all(set(miner.serves) <= set(LOSSES) for miner in MINERS.values())
    for name in LOSSES:
        assert "all" in [miner for miner, found in MINERS.items() if found.fits(name)]

    class Added(LossConfig):
        name: Literal["added"] = "added"

    assert Added().miner == "all"
    with pytest.raises(ValueError, match=r"miner hard is not for the loss added; expected all \["):
        Added(miner="hard")
    assert load_config(LossOnly, None, ["loss.miner=semihard"]).loss == TripletLossConfig(miner="semihard")
    given = load_config(LossOnly, None, ["loss.name=multi_similarity", "loss.miner=multi_similarity", "loss.alpha=3"])
    assert given.loss == MultiSimilarityConfig(miner="multi_similarity", alpha=3.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["loss.temperature=0.5"], "loss.temperature is a key of supcon; loss.name is triplet, whose keys are miner, "),
        (["loss.name=tripet"], "loss.name: 'tripet' is none of triplet, .*did you mean 'triplet'"),
        (["loss.name=supcon", "loss.miner=hard"], "miner hard is not for the loss supcon; expected all"),
        (["loss.positives=jaccard", "loss.miner=batch_hard"], "knows equal labels only"),
        (["loss.miner=semihrd"], "loss.miner: .*'semihard'.*given: 'semihrd'"),
    ],
)
def test_keys_and_miners_of_another_loss_are_refused(given: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(LossOnly, None, given)


def test_a_loss_saved_with_the_keys_of_all_is_read() -> None:
    """As runs did before each loss had its own config."""
    values = {"miner": "all", "positives": "same", "margin": 0.2, "squared": True, "mean_over": "active"}
    values |= {"alpha": 2.0, "beta": 50.0, "base": 0.5, "temperature": 0.3}
    assert set(values) == set(SAVED_TOGETHER)
    loss = LossOnly.model_validate({"loss": {"name": "supcon", **values}}).loss
    assert loss.model_dump() == {"name": "supcon", "miner": "all", "positives": "same", "temperature": 0.3}


def test_configs_and_models_need_no_metric_learning_library() -> None:
    code = "import json, sys, shared.triplet.config, shared.triplet.train, st_mem_modified.triplet, ecg_jepa_modified.triplet;"
    code += "print(json.dumps([m for m in sys.modules if m.startswith(('pytorch_metric', 'vector_quantize'))]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO_ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
