"""ECG-JEPA's pretraining: runs, watches itself, resumes to the same bits with its teacher; its evaluation reads the result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ecg_jepa_modified.config import PretrainConfig
from ecg_jepa_modified.evaluate import load_encoder, run_evaluation
from ecg_jepa_modified.model import ECGJEPA
from ecg_jepa_modified.pretrain import pretrain
from shared.checkpoints import CheckpointError, newest_checkpoint, read_weights, save_weights
from shared.config import load_config
from shared.data.store import ECGStore
from shared.data.transforms import Preprocess
from shared.epochs import Stop
from shared.evaluation.config import EvaluateConfig
from shared.monitors import Monitor
from shared.run import Run

SMALL = [
    "model.size=tiny",
    "model.embed_dim=32",
    "model.depth=1",
    "model.predictor_dim=16",
    "model.predictor_depth=1",
    "model.input.num_samples=1000",
    "optim.epochs=2",
    "optim.batch_size=40",
    "optim.warmup_epochs=0.5",
    "optim.lr=1e-3",
    "monitor.every=1",
    "monitor.records=20",
    "log_every=1",
]


def small_config(store: Path, out: Path, *more: str) -> PretrainConfig:
    return load_config(PretrainConfig, None, [f"data.store={store}", f"run.out={out}", *SMALL, *more])


def final_weights(run: Path) -> dict[str, torch.Tensor]:
    newest = newest_checkpoint(run)
    assert newest is not None
    return read_weights(newest / "model.safetensors")[0]


@pytest.fixture(scope="module")
def finished(synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrain(small_config(synthetic_store, tmp_path_factory.mktemp("runs") / "whole"))


def test_run_folder_and_monitors(finished: Path) -> None:
    lines = [json.loads(line) for line in (finished / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "grad_norm" in line]
    looks = [line for line in lines if "rank" in line]
    assert [line["step"] for line in steps] == list(range(1, 9))
    assert len(looks) == 2
    for look in looks:
        assert {"val_loss", "pred_std", "target_std", "rank", "cosine", "knn_auroc"} <= set(look)
        assert 1 <= look["rank"] <= 32 and -1 <= look["cosine"] <= 1 and 0 <= look["knn_auroc"] <= 1
    assert (finished / "figures" / "training.png").is_file()


def test_resume_equals_the_uninterrupted_run(
    finished: Path, synthetic_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(synthetic_store, tmp_path / "cut")
    with monkeypatch.context() as patch:
        patch.setattr(Run, "check_signal", lambda self: self.step == 5)
        with pytest.raises(Stop):
            pretrain(config)
    pretrain(config)
    whole, resumed = final_weights(finished), final_weights(config.run.out)
    assert any(name.startswith("target_encoder.") for name in whole)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_teacher_follows_the_student(finished: Path) -> None:
    weights = final_weights(finished)
    name = "blocks.0.mlp.fc1.weight"
    assert not torch.equal(weights[f"encoder.{name}"], weights[f"target_encoder.{name}"])


def test_alarm_names_the_figure(synthetic_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = small_config(synthetic_store, tmp_path / "run", "monitor.min_rank=0.2")
    with Run(config.run, config, "ecg_jepa") as run:
        preprocess = Preprocess(config.model.input)
        monitor = Monitor(config.monitor, ECGStore(synthetic_store), config.data, preprocess, run)
        model = ECGJEPA(config.model)
        torch.nn.init.zeros_(model.encoder.norm.weight)  # every record becomes the same point
        torch.nn.init.ones_(model.encoder.norm.bias)
        monitor.alarm(monitor.look(model.encoder))
    warned = capsys.readouterr().out
    assert "WARNING: the representation may be collapsing" in warned
    assert "effective rank" in warned and "mean cosine between records 1.0000" in warned


def test_groups_of_masks_train(synthetic_store: Path, tmp_path: Path) -> None:
    pretrain(small_config(synthetic_store, tmp_path / "groups", "mask.groups=4", "optim.epochs=1"))


def test_evaluation_of_the_run(finished: Path, synthetic_store: Path) -> None:
    overrides = [
        f"store={synthetic_store}",
        "task=superclass",
        f"encoder.weights={finished}",
        "knn.k=5",
        "resamples=50",
    ]
    for leads in ("encoder.leads=null", "encoder.leads=limb", "encoder.leads=II"):
        page = run_evaluation(load_config(EvaluateConfig, None, [*overrides, "min_positives=1", leads]))
        metrics = json.loads((page.parent / "metrics.json").read_text())
        assert {"knn", "random encoder/knn", "knn minus random encoder"} <= set(metrics)


def test_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    save_weights(tmp_path / "model.safetensors", {"w": torch.zeros(1)}, "st_mem", {"model": {}})
    with pytest.raises(CheckpointError, match="is a checkpoint of st_mem, not of .*python -m st_mem_modified.evaluate"):
        load_encoder(tmp_path / "model.safetensors")
