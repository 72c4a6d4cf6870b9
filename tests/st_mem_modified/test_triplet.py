"""Triplet fine-tuning of ST-MEM: whole runs, the epoch that is chosen, resuming, every variant, runs of before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from shared.checkpoints import newest_checkpoint, read_weights, save_weights
from shared.config import load_config
from shared.epochs import Stop
from shared.errors import UserError
from shared.files import DIGESTS
from shared.run import Run
from st_mem_modified.loading import load_model
from st_mem_modified.triplet import TripletConfig, TripletModel, train

SHORT = [
    "optim.epochs=2",
    "optim.batch_size=80",
    "optim.warmup_epochs=0",
    "per_class=16",
    "choose_k=5",
    "run.precision=fp32",
]
EVALUATION = ["evaluate.resamples=10", "evaluate.protocols=[knn,clusters]", "evaluate.knn.k=5", "evaluate.num_crops=1"]


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


def test_demo_run_is_whole(finished: Path, stmem_run: Path) -> None:
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


def test_chosen_epoch_is_the_best_on_validation(finished: Path) -> None:
    lines = [json.loads(line) for line in (finished / "log.jsonl").read_text().splitlines()]
    newest = newest_checkpoint(finished)
    assert newest is not None
    best = torch.load(newest / "state.pt", weights_only=True)["best"]
    scores = [line["val_auroc"] for line in lines]
    validation = json.loads((finished / "evaluation" / "metrics_val.json").read_text())
    assert validation["knn"]["auroc_macro"]["optimistic"] == "the epoch"
    assert "optimistic" not in validation["untuned encoder/knn"]["auroc_macro"]
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


def test_a_run_that_saved_the_keys_of_every_loss_loads_and_resumes(
    synthetic_store: Path, stmem_run: Path, tmp_path: Path
) -> None:
    config = config_for(synthetic_store, stmem_run, tmp_path / "run", "evaluate=null", "optim.epochs=1")
    newest = newest_checkpoint(train(config))
    assert newest is not None
    weights = newest / "model.safetensors"
    state, method, saved = read_weights(weights)
    assert method == "st_mem_triplet"
    saved["loss"] |= {"alpha": 2.0, "beta": 50.0, "base": 0.5, "temperature": 0.1}
    save_weights(weights, state, method, saved)
    (newest / DIGESTS).unlink()  # a run of then has none
    assert isinstance(load_model(config.run.out)[0], TripletModel)
    train(config)  # finished: nothing is left to do, and nothing differs
    with pytest.raises(UserError, match=r"other settings: loss\.margin"):
        train(config.model_copy(update={"loss": config.loss.model_copy(update={"margin": 0.3})}))
