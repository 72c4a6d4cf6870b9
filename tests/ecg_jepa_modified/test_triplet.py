"""Triplet fine-tuning of ECG-JEPA, plain and hybrid: whole runs, resuming, and their rows in an evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ecg_jepa_modified.config import PretrainConfig
from ecg_jepa_modified.hybrid import HybridEncoder
from ecg_jepa_modified.loading import load_encoder, load_model
from ecg_jepa_modified.pretrain import pretrain
from ecg_jepa_modified.triplet import TripletConfig, train
from shared.checkpoints import newest_checkpoint, read_weights
from shared.config import load_config
from shared.data.prepare import choose_config, prepare
from shared.epochs import Stop
from shared.errors import UserError
from shared.evaluation.rows import untuned_row
from shared.run import Run
from shared.triplet.model import TripletModel

SMALL = [
    "model.size=tiny",
    "model.embed_dim=16",
    "model.depth=2",
    "model.predictor_dim=16",
    "model.predictor_depth=1",
    "model.input.num_samples=1000",
    "optim.epochs=1",
    "optim.batch_size=40",
    "optim.warmup_epochs=0",
    "monitor.records=16",
]
SHORT = ["optim.epochs=2", "optim.batch_size=24", "optim.warmup_epochs=0", "per_class=8", "choose_k=5"]
EVALUATION = ["evaluate.resamples=10", "evaluate.protocols=[knn]", "evaluate.knn.k=5", "evaluate.num_crops=1"]
EVALUATION += ["evaluate.min_positives=1"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With features, as a hybrid encoder needs them."""
    out = tmp_path_factory.mktemp("data") / "store"
    more = ["num_records=120", "records_per_patient=2", "seconds=5", "features=all", "backend=sequential"]
    prepare(load_config(choose_config, "configs/data/synthetic.yaml", [f"out={out}", *more]))
    return out


@pytest.fixture(scope="module", params=["plain", "hybrid"])
def encoder(request: pytest.FixtureRequest, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / request.param
    more = ["model.input.features=heart_rate,qrs_amplitude"] if request.param == "hybrid" else []
    return pretrain(load_config(PretrainConfig, None, [f"run.out={out}", f"data.store={store}", *SMALL, *more]))


def config_for(store: Path, weights: Path, out: Path, *more: str) -> TripletConfig:
    paths = [f"run.out={out}", f"data.store={store}", f"encoder.weights={weights}"]
    return load_config(TripletConfig, "configs/demo/ecg_jepa_triplet.yaml", [*paths, *SHORT, *EVALUATION, *more])


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    newest = newest_checkpoint(run)
    assert newest is not None
    return read_weights(newest / "model.safetensors")[0]


def test_a_run_is_whole_and_stands_beside_the_untuned_encoder(encoder: Path, store: Path, tmp_path: Path) -> None:
    run = train(config_for(store, encoder, tmp_path / "run"))
    scores = json.loads((run / "evaluation" / "metrics.json").read_text())
    assert {"knn", "untuned encoder/knn", "random encoder/knn"} <= set(scores)
    model, trained = load_model(run)
    start = load_encoder(encoder)
    assert isinstance(model, TripletModel) and model.embed_dim == 64
    hybrid = isinstance(start, HybridEncoder)
    assert isinstance(model.encoder, HybridEncoder) == hybrid
    name = "hybrid ECG-JEPA + triplet" if hybrid else "ECG-JEPA + triplet"
    assert name in (run / "evaluation" / "report.html").read_text()
    tuned = load_encoder(run).state_dict()
    assert all(torch.equal(tuned[key], value) for key, value in start.state_dict().items())
    gone = {"encoder": {**trained["encoder"], "weights": "nowhere"}}
    assert untuned_row(model.encoder, gone, load_encoder) == {"untuned encoder": model.encoder}
    gone["encoder"]["train"] = "all"
    assert untuned_row(model.encoder, gone, load_encoder) == {}


def test_blocks_learn_and_a_stopped_run_goes_on_to_the_same_weights(
    encoder: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ["evaluate=null", "encoder.train=last_blocks", "encoder.last_blocks=1"]
    whole = train(config_for(store, encoder, tmp_path / "whole", *more))
    cut = config_for(store, encoder, tmp_path / "cut", *more)
    original = Run.check_signal
    with monkeypatch.context() as patch:
        patch.setattr(Run, "check_signal", lambda self: self.step == 4 or original(self))
        with pytest.raises(Stop):
            train(cut)
    train(cut)
    expected, found = weights_of(whole), weights_of(cut.run.out)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    start = load_encoder(encoder).state_dict()
    changed = {name for name, value in start.items() if not torch.equal(expected[f"encoder.{name}"], value)}
    assert changed and all(name.startswith(("blocks.1.", "norm.")) for name in changed)


def test_encoder_must_be_named(store: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"encoder\.weights is not set.* of ECG-JEPA"):
        train(config_for(store, tmp_path, tmp_path / "run", "encoder.weights=null"))
