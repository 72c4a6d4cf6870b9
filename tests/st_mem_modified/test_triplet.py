"""Metric learning: losses and mining against naive loops, who gets gradients, batches, bad labels, whole runs."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shared.checkpoints import newest_checkpoint, read_weights
from shared.config import load_config
from shared.data.store import ECGStore
from shared.errors import UserError
from shared.run import Run, Stop
from st_mem_modified.config import ModelConfig
from st_mem_modified.config_triplet import LossConfig, TripletConfig, TripletModelConfig
from st_mem_modified.loading import load_model
from st_mem_modified.triplet import TripletModel, train
from st_mem_modified.triplet_model import MetricLoss, check_classes, draw_batches, graded_triplets, label_overlap

SMALL_ENCODER = {
    "embed_dim": 16,
    "depth": 2,
    "num_heads": 1,
    "head_dim": 16,
    "decoder_dim": 16,
    "decoder_depth": 1,
    "decoder_heads": 1,
    "input": {"num_samples": 450},
}
SHORT = [
    "optim.epochs=2",
    "optim.batch_size=80",
    "optim.warmup_epochs=0",
    "per_class=16",
    "choose_k=5",
    "run.precision=fp32",
]
EVALUATION = ["evaluate.resamples=10", "evaluate.protocols=[knn,clusters]", "evaluate.knn.k=5", "evaluate.num_crops=1"]


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
    return MetricLoss(LossConfig.model_validate(given))


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


# ---------------------------------------------------------------- bad input


def test_batches_without_pairs_are_refused() -> None:
    loss = loss_of()
    with pytest.raises(UserError, match="no negative pair"):
        loss(embeddings(4), torch.ones(4, 1, dtype=torch.bool))
    with pytest.raises(UserError, match="no positive pair"):
        loss(embeddings(3), single_labels(3))
    with pytest.raises(UserError, match="not exactly one label"):
        loss(embeddings(), several_labels())


def test_splits_that_cannot_be_learned_are_refused() -> None:
    names, same = ("A", "B", "C"), LossConfig()
    with pytest.raises(UserError, match=r"hold one class \(B\)"):
        check_classes(np.tile([False, True, False], (5, 1)), names, same)
    with pytest.raises(UserError, match="class C has a single training record"):
        check_classes(np.eye(3, dtype=bool)[[0, 0, 1, 1, 2]], names, same)
    several = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]], dtype=bool)
    with pytest.raises(UserError, match=r"1 of 4 records have several labels.*single_label=true"):
        check_classes(several, names, same)
    check_classes(several, names, LossConfig(positives="jaccard"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["loss.temperature=0.5"], "temperature is a key of supcon; triplet reads none"),
        (["loss.name=supcon", "loss.miner=hard"], "miner hard is not for the loss supcon; expected all"),
        (["loss.positives=jaccard", "loss.miner=batch_hard"], "knows equal labels only"),
        (["head.embed=before"], "would evaluate the untuned encoder"),
        (["per_class=12"], "divide optim.batch_size 128"),
        (["optim.micro_batch=4"], "triplets are formed within a whole batch"),
    ],
)
def test_settings_that_contradict_each_other(given: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config(TripletConfig, "configs/st_mem/triplet.yaml", given)


# ---------------------------------------------------------------- batches


def test_balanced_batches() -> None:
    labels = np.repeat(np.eye(3, dtype=bool), (50, 20, 3), axis=0)
    batches = draw_batches(labels, 24, 8, np.random.default_rng(0))
    assert len(batches) == 73 // 24
    for batch in batches:
        assert labels[batch].sum(0).tolist() == [8, 8, 8]
    seen = np.unique(np.concatenate(list(draw_batches(labels, 24, 8, np.random.default_rng(1)))))
    assert set(range(70, 73)) <= set(seen.tolist())
    again = draw_batches(labels, 24, 8, np.random.default_rng(0))
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))


def test_shuffled_batches() -> None:
    labels = np.eye(2, dtype=bool)[np.arange(30) % 2]
    batches = draw_batches(labels, 10, 0, np.random.default_rng(0))
    assert sorted(np.concatenate(batches).tolist()) == list(range(30))
    with pytest.raises(UserError, match="fewer than one batch of 40"):
        draw_batches(labels, 40, 0, np.random.default_rng(0))


# ---------------------------------------------------------------- model


@pytest.mark.parametrize("what", ["none", "last_blocks", "all"])
def test_gradients_reach_what_was_asked(what: str) -> None:
    model = TripletModel(TripletModelConfig(model=ModelConfig.model_validate(SMALL_ENCODER)))
    model.let_learn(what, 1)
    ecg = torch.randn(6, 12, 450, generator=torch.Generator().manual_seed(0))
    loss_of(margin=2.0)(model(ecg), single_labels(6)).loss.backward()
    touched = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    head = {name for name, _ in model.named_parameters() if name.startswith("head.")}
    last = {name for name, _ in model.named_parameters() if name.startswith(("encoder.blocks.1.", "encoder.norm."))}
    everything = {name for name, _ in model.named_parameters()}
    assert touched == {"none": head, "last_blocks": head | last, "all": everything}[what]
    with pytest.raises(UserError, match="the encoder has 2 blocks"):
        model.let_learn("last_blocks", 3)


def test_embedding_before_and_after_the_head() -> None:
    config = TripletModelConfig.model_validate({"model": SMALL_ENCODER, "head": {"hidden": [64], "dim": 9}})
    model, ecg = TripletModel(config).eval(), torch.randn(2, 12, 450, generator=torch.Generator().manual_seed(0))
    after = model.embed(ecg)
    assert after.shape == (2, 9) == (2, model.embed_dim)
    torch.testing.assert_close(after.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(model(model.encoder.embed(ecg)), after)
    assert [tuple(p.shape) for p in model.head.parameters()] == [(64, 16), (64,), (9, 64), (9,)]
    before = TripletModel(config.model_copy(update={"head": config.head.model_copy(update={"embed": "before"})}))
    assert before.embed(ecg).shape == (2, 16)


# ---------------------------------------------------------------- runs


def config_for(
    store: Path, encoder: Path, out: Path, *more: str, yaml: str = "configs/demo/st_mem_triplet.yaml"
) -> TripletConfig:
    paths = [f"run.out={out}", f"data.store={store}", f"encoder.weights={encoder}", "task=superclass"]
    return load_config(TripletConfig, yaml, [*paths, *SHORT, *EVALUATION, *more])


@pytest.fixture(scope="module")
def finished(synthetic_store: Path, stmem_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(config_for(synthetic_store, stmem_run, tmp_path_factory.mktemp("runs") / "triplet"))


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    newest = newest_checkpoint(run)
    assert newest is not None
    return read_weights(newest / "model.safetensors")[0]


def test_demo_run_is_whole(finished: Path, stmem_run: Path, synthetic_store: Path) -> None:
    lines = [json.loads(line) for line in (finished / "log.jsonl").read_text().splitlines()]
    assert all(0 <= line["active"] <= 1 and 0 <= line["val_auroc"] <= 1 for line in lines) and len(lines) == 2
    start, tuned = weights_of(stmem_run), weights_of(finished)
    assert all(torch.equal(tuned[name], value) for name, value in start.items() if name.startswith("encoder."))
    scores = json.loads((finished / "evaluation" / "metrics.json").read_text())
    assert {"knn", "untuned encoder/knn", "random encoder/knn"} <= set(scores)
    gain = json.loads((finished / "evaluation" / "gain.json").read_text())
    found = gain["ST-MEM + triplet/knn minus untuned encoder"]["auroc_macro"]
    difference = scores["knn"]["auroc_macro"]["value"] - scores["untuned encoder/knn"]["auroc_macro"]["value"]
    assert found["value"] == pytest.approx(difference, abs=1e-9) and found["low"] <= found["value"] <= found["high"]
    assert (finished / "evaluation" / "figures" / "before_after_pca.png").is_file()
    model, config = load_model(finished)
    assert isinstance(model, TripletModel) and config["task"] == "superclass"
    assert len(ECGStore(synthetic_store)) == 200


def test_chosen_epoch_is_the_best_on_validation(finished: Path) -> None:
    lines = [json.loads(line) for line in (finished / "log.jsonl").read_text().splitlines()]
    newest = newest_checkpoint(finished)
    assert newest is not None
    best = torch.load(newest / "state.pt", weights_only=True)["best"]
    scores = [line["val_auroc"] for line in lines]
    assert best["score"] == max(scores) and best["epoch"] == scores.index(max(scores)) + 1
    tuned = weights_of(finished)
    assert all(torch.equal(tuned[name], value) for name, value in best["weights"].items())


def test_resume_equals_the_uninterrupted_run(
    finished: Path, synthetic_store: Path, stmem_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_for(synthetic_store, stmem_run, tmp_path / "cut", "evaluate=null")
    original = Run.check_signal
    with monkeypatch.context() as patch:
        patch.setattr(Run, "check_signal", lambda self: self.step == 1 or original(self))
        with pytest.raises(Stop):
            train(config)
    train(config)
    whole, resumed = weights_of(finished), weights_of(config.run.out)
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


@pytest.mark.parametrize("name", ["seed", "supcon", "multi_similarity", "semihard", "jaccard", "last_blocks"])
def test_every_variant_runs(name: str, synthetic_store: Path, stmem_run: Path, tmp_path: Path) -> None:
    more = ["optim.epochs=1", "evaluate=null", "run.device=cpu"]
    more += ["per_class=0"] if name == "seed" else []
    more += ["encoder.last_blocks=1"] if name == "last_blocks" else []
    yaml = f"configs/st_mem/triplet_{name}.yaml"
    config = config_for(synthetic_store, stmem_run, tmp_path / "run", *more, yaml=yaml)
    train(config)
    start, tuned = weights_of(stmem_run), weights_of(config.run.out)
    same = all(torch.equal(tuned[key], value) for key, value in start.items() if key.startswith("encoder."))
    assert same == (name != "last_blocks")


def test_several_labels_need_the_jaccard_loss(synthetic_store: Path, stmem_run: Path, tmp_path: Path) -> None:
    config = config_for(synthetic_store, stmem_run, tmp_path / "run", "single_label=false", "evaluate=null")
    with pytest.raises(UserError, match="records have several labels, and loss.positives=same"):
        train(config)


def test_encoder_must_be_named(synthetic_store: Path, stmem_run: Path, tmp_path: Path) -> None:
    config = config_for(synthetic_store, stmem_run, tmp_path / "run", "encoder.weights=null")
    with pytest.raises(UserError, match=r"encoder\.weights is not set"):
        train(config)
