"""Hybrid pretraining from YAML: every ablation, scales from the training folds only, exact resume, evaluation, cost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ecg_jepa_modified.config import ModelConfig, PretrainConfig
from ecg_jepa_modified.evaluate import load_encoder, random_encoder, run_evaluation
from ecg_jepa_modified.finetune import FinetuneConfig
from ecg_jepa_modified.finetune import run as run_finetuning
from ecg_jepa_modified.hybrid import HybridEncoder, fit_features
from ecg_jepa_modified.loading import encoder_of, load_model
from ecg_jepa_modified.model import ECGJEPA, make_encoder
from ecg_jepa_modified.pretrain import pretrain
from shared.checkpoints import newest_checkpoint, read_weights, save_weights
from shared.config import REPO_ROOT, load_config
from shared.data.prepare import choose_config, prepare
from shared.data.store import ECGStore, StoreError, feature_shard
from shared.epochs import Stop
from shared.errors import UserError
from shared.evaluation.config import EvaluateConfig
from shared.files import DIGESTS
from shared.measurements.catalog import FEATURES
from shared.run import Run
from tests.ecg_jepa_modified.test_pretrain import SMALL, final_weights

HYBRID = "configs/ecg_jepa/pretrain_hybrid.yaml"
ABLATIONS = sorted(path.relative_to(REPO_ROOT).as_posix() for path in REPO_ROOT.glob("configs/ablations/hybrid_*.yaml"))
MORE = ["run.precision=fp32", "run.num_workers=0"]
SCALES = "encoder.feature_embed.scaler."


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 synthetic records of 50 patients with all features, 250 Hz × 5 s."""
    return prepare_with("all", tmp_path_factory.mktemp("data") / "store")


def prepare_with(features: str, out: Path) -> Path:
    overrides = ["num_records=100", "records_per_patient=2", "seconds=5", "backend=sequential", f"features={features}"]
    prepare(load_config(choose_config, "configs/data/synthetic.yaml", [f"out={out}", *overrides]))
    return out


def hybrid_config(store: Path, out: Path, *more: str, path: str = HYBRID) -> PretrainConfig:
    small = [line for line in SMALL if not line.startswith("optim.batch_size")]
    paths = [f"data.store={store}", f"run.out={out}", "optim.batch_size=20"]
    return load_config(PretrainConfig, path, [*paths, *small, *MORE, *more])


@pytest.fixture(scope="module")
def finished(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrain(hybrid_config(store, tmp_path_factory.mktemp("runs") / "whole"))


def test_contract(finished: Path, store: Path) -> None:
    loaded, trained = load_model(finished)
    encoder = encoder_of(loaded)
    assert isinstance(encoder, HybridEncoder) and trained["data"]["store"] == str(store)
    assert len(encoder.rows) == 19
    looks = [json.loads(line) for line in (finished / "log.jsonl").read_text().splitlines()]
    assert any("knn_auroc" in look for look in looks)


@pytest.mark.parametrize("path", ABLATIONS)
def test_every_ablation_runs_two_steps_from_its_yaml(path: str, store: Path, tmp_path: Path) -> None:
    config = hybrid_config(store, tmp_path / "run", "optim.epochs=1", "optim.batch_size=40", path=path)
    assert len(ECGStore(store).select(config.data.folds)) // 40 in (1, 2)
    encoder = load_encoder(pretrain(config))
    assert encoder.input_spec.features == config.model.input.features
    assert isinstance(encoder, HybridEncoder) == bool(config.model.input.features)


def test_there_are_the_ablations_that_were_asked_for() -> None:
    names = {Path(path).stem.removeprefix("hybrid_") for path in ABLATIONS}
    assert {"no_wavelets", "no_rhythm", "no_st", "features_only", "signal_only", "tokens", "add"} <= names
    rows = {Path(path).stem: load_config(PretrainConfig, path).model.rows for path in ABLATIONS}
    assert not set(rows["hybrid_no_wavelets"]) & {"swt_a4", "swt_d4", "swt_d3", "swt_d2"}
    assert not set(rows["hybrid_no_rhythm"]) & {"r_peaks", "heart_rate", "rolling_heart_rate", "sdnn", "rmssd"}
    assert set(load_config(PretrainConfig, HYBRID).model.rows) - set(rows["hybrid_no_st"]) == {"st_deviation"}
    assert rows["hybrid_features_only"] == tuple(FEATURES)
    assert len(rows["hybrid_signal_only"]) == 8


def test_resume_equals_the_uninterrupted_run(
    finished: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = hybrid_config(store, tmp_path / "cut")
    with monkeypatch.context() as patch:
        patch.setattr(Run, "check_signal", lambda self: self.step == 5)
        with pytest.raises(Stop):
            pretrain(config)
    with monkeypatch.context() as patch:  # the scales come from the checkpoint
        patch.setattr("ecg_jepa_modified.hybrid.fit_features", lambda *_: pytest.fail("fitted anew"))
        pretrain(config)
    whole, resumed = final_weights(finished), final_weights(config.run.out)
    assert f"{SCALES}center" in whole
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_run_older_than_the_features_continues(synthetic_store: Path, tmp_path: Path) -> None:
    config = load_config(PretrainConfig, None, [f"data.store={synthetic_store}", f"run.out={tmp_path / 'run'}", *SMALL])
    pretrain(config)
    newest = newest_checkpoint(config.run.out)
    assert newest is not None
    state, method, saved = read_weights(newest / "model.safetensors")
    del saved["model"]["hybrid"], saved["model"]["input"]["features"]
    save_weights(newest / "model.safetensors", state, method, saved)
    (newest / DIGESTS).unlink()  # a run of then has none
    pretrain(config)
    assert not isinstance(load_encoder(config.run.out), HybridEncoder)
    other = config.model_copy(update={"model": config.model.model_copy(update={"loss": "l1"})})
    with pytest.raises(UserError, match=r"other settings: model\.loss"):
        pretrain(other)


# ---------------------------------------------------------------- leakage


def disturb(path: Path, folds: tuple[int, ...]) -> None:
    """Every feature of the records in these folds becomes twice as large and one more."""
    opened = ECGStore(path)
    shard = path / feature_shard(opened.meta["shards"][0])
    features = np.load(shard)
    features[opened.select(folds)] *= 2
    features[opened.select(folds)] += 1
    np.save(shard, features)


@pytest.mark.parametrize(("folds", "changes"), [((9,), False), ((10,), False), ((1,), True), ((8,), True)])
def test_scales_depend_on_the_training_folds_alone(
    finished: Path, tmp_path: Path, folds: tuple[int, ...], changes: bool
) -> None:
    path = prepare_with("all", tmp_path / "store")
    disturb(path, folds)
    config = hybrid_config(path, tmp_path / "run", "optim.epochs=1", "monitor.every=5")
    weights, clean = final_weights(pretrain(config)), final_weights(finished)
    for student in (SCALES, f"target_{SCALES}"):
        same = [torch.equal(weights[student + name], clean[student + name]) for name in ("center", "scale")]
        assert same == [not changes] * 2


def test_student_and_teacher_share_the_scales(finished: Path) -> None:
    weights = final_weights(finished)
    for name in ("center", "scale"):
        assert weights[SCALES + name].isfinite().all()
        assert torch.equal(weights[SCALES + name], weights[f"target_{SCALES}{name}"])


def test_a_plain_model_is_not_fitted(store: Path) -> None:
    model = ECGJEPA(ModelConfig(size="tiny"))
    fit_features([model.encoder], ECGStore(store), np.arange(3))


# ---------------------------------------------------------------- store and evaluation


def test_a_store_without_features_is_refused(synthetic_store: Path, tmp_path: Path) -> None:
    with pytest.raises(
        StoreError, match=r"was prepared without features: prepare one with features=\[r_peaks.*features=all"
    ):
        pretrain(hybrid_config(synthetic_store, tmp_path / "run"))


def test_every_protocol_takes_a_hybrid_encoder(finished: Path, store: Path) -> None:
    protocols = "knn,clusters,linear_probe,attentive_probe,label_fractions,reduced_leads,robustness,quality,regression,biometrics"
    options = ["task=superclass", "resamples=10", "min_positives=1", "knn.k=5", "label_fractions=1.0"]
    options += [
        "probe.attentive_epochs=1",
        "probe.attentive_steps=5",
        "probe.l2=0.1",
        "lead_subsets=all,II",
        "regression=true_heart_rate",
    ]
    config = load_config(
        EvaluateConfig, None, [f"store={store}", f"encoder.weights={finished}", f"protocols={protocols}", *options]
    )
    page = run_evaluation(config)
    metrics = json.loads((page.parent / "metrics.json").read_text())
    assert {name for name in metrics if "/" not in name and "minus" not in name} == set(protocols.split(","))
    summary = json.loads((page.parent / "summary.json").read_text())
    assert summary["name"] == "hybrid ECG-JEPA"
    notes = " ".join(summary["notes"])
    assert "only the signals are disturbed" in notes
    assert "the features stay as measured" in notes


def test_the_random_row_has_the_trained_scales(finished: Path) -> None:
    encoder = load_encoder(finished)
    random = random_encoder(encoder, seed=4)
    assert isinstance(encoder, HybridEncoder) and isinstance(random, HybridEncoder)
    assert torch.equal(random.feature_embed.scaler.center, encoder.feature_embed.scaler.center)
    assert not torch.equal(random.feature_embed.weight, encoder.feature_embed.weight)
    again = random_encoder(encoder, seed=4)
    assert all(torch.equal(a, b) for a, b in zip(random.parameters(), again.parameters(), strict=True))


# ---------------------------------------------------------------- cost


def test_the_encoder_can_be_made_without_a_store() -> None:
    assert make_encoder(load_config(PretrainConfig, HYBRID, ["model.size=tiny"]).model).rows[8:] == tuple(FEATURES)


def test_fine_tuning_takes_the_features(finished: Path, store: Path, tmp_path: Path) -> None:
    """From the run and, with scales fitted on the training folds, from random weights."""
    settings = [
        f"data.store={store}",
        "task=superclass",
        "optim.epochs=1",
        "optim.batch_size=40",
        "optim.warmup_epochs=0",
    ]
    settings += ["resamples=20", "min_positives=1", "num_crops=1"]
    config = load_config(FinetuneConfig, None, [*settings, f"run.out={tmp_path / 'a'}", f"encoder.weights={finished}"])
    out = run_finetuning(config)
    loaded, trained = load_model(out)
    encoder = encoder_of(loaded)
    assert isinstance(encoder, HybridEncoder) and trained["mode"] == "finetune"
    sizes = ["model.size=tiny", "model.input.features=heart_rate,st_deviation", "model.input.num_samples=1000"]
    more = [*settings, *sizes, "mode=scratch", "control=false", f"run.out={tmp_path / 'b'}"]
    config = load_config(FinetuneConfig, None, more)
    encoder = load_encoder(run_finetuning(config))
    assert isinstance(encoder, HybridEncoder) and encoder.rows[-2:] == ("heart_rate", "st_deviation")
    assert float(encoder.feature_embed.scaler.scale[0]) not in (0.0, 1.0)
