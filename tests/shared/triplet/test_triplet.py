"""Metric learning of both methods' encoders: who gets gradients, embeddings, whole runs and their evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from shared.checkpoints import newest_checkpoint, read_weights
from shared.config import load_config
from shared.errors import UserError
from shared.run import Run, Stop
from st_mem_modified.config import ModelConfig
from st_mem_modified.loading import load_model
from st_mem_modified.triplet import TripletConfig, TripletModel, train

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


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["head.embed=before"], "would evaluate the untuned encoder"),
        (["per_class=12"], "divide optim.batch_size 128"),
        (["optim.micro_batch=4"], "triplets are formed within a whole batch"),
    ],
)
def test_settings_that_contradict_each_other(given: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config(TripletConfig, "configs/st_mem/triplet.yaml", given)


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
