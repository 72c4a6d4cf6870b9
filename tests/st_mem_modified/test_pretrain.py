"""ST-MEM's pretraining: runs, learns, stops on a signal, resumes to the same bits; its evaluation reads the result."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from shared.checkpoints import CheckpointError, newest_checkpoint, read_weights, save_weights
from shared.config import load_config
from shared.epochs import Stop
from shared.errors import UserError
from shared.evaluation.config import EvaluateConfig
from shared.run import Run
from st_mem_modified.config import PretrainConfig
from st_mem_modified.evaluate import load_model, random_encoder, run_evaluation
from st_mem_modified.pretrain import pretrain

SMALL = [
    "model.size=tiny",
    "model.embed_dim=32",
    "model.depth=1",
    "model.num_heads=1",
    "model.head_dim=32",
    "model.decoder_dim=16",
    "model.decoder_depth=1",
    "model.input.num_samples=900",
    "optim.epochs=2",
    "optim.batch_size=40",
    "optim.warmup_epochs=0.5",
    "optim.lr=1e-3",
    "optim.lr_reference_batch=null",
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


def test_run_folder_is_complete(finished: Path) -> None:
    lines = [json.loads(line) for line in (finished / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "grad_norm" in line]
    epochs = [line for line in lines if "val_loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 9))
    assert len(epochs) == 2 and epochs[-1]["val_loss"] < 1.5
    for name in ("config.yaml", "figures/reconstruction.png", "figures/training.png"):
        assert (finished / name).is_file()
    assert list((finished / "tensorboard").iterdir())


def test_resume_equals_the_uninterrupted_run(
    finished: Path, synthetic_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(synthetic_store, tmp_path / "cut")
    original = Run.check_signal
    with monkeypatch.context() as patch:
        # A signal arrives in the middle of the second epoch.
        patch.setattr(Run, "check_signal", lambda self: self.step == 5 or original(self))
        with pytest.raises(Stop):
            pretrain(config)
    pretrain(config)
    whole, resumed = final_weights(finished), final_weights(config.run.out)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_accumulation_gives_the_same_steps(finished: Path, synthetic_store: Path, tmp_path: Path) -> None:
    pretrain(small_config(synthetic_store, tmp_path / "parts", "optim.micro_batch=16"))
    whole, parts = final_weights(finished), final_weights(tmp_path / "parts")
    assert max(float((whole[name] - parts[name]).abs().max()) for name in whole) < 1e-4


def test_finished_run_is_not_repeated_and_other_settings_are_refused(finished: Path, synthetic_store: Path) -> None:
    before = (finished / "log.jsonl").read_text()
    pretrain(small_config(synthetic_store, finished))
    assert (finished / "log.jsonl").read_text() == before
    with pytest.raises(UserError, match="other settings: optim.lr"):
        pretrain(small_config(synthetic_store, finished, "optim.lr=2e-3"))


def test_diverged_run_stops_with_advice(synthetic_store: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the loss is (nan|inf).*Lower optim.lr"):
        pretrain(small_config(synthetic_store, tmp_path / "nan", "optim.lr=1e30", "optim.epochs=4"))


@pytest.mark.slow
def test_interrupt_saves_exits_130_and_resumes(synthetic_store: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    more = ["optim.epochs=2000", f"data.store={synthetic_store}", f"run.out={out}"]
    command = [sys.executable, "-m", "st_mem_modified.pretrain", *SMALL, *more]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True)
    for _ in range(600):
        if (out / "log.jsonl").is_file() and (out / "log.jsonl").read_text().count("\n") > 3:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 130
    assert "The same command continues" in output
    assert newest_checkpoint(out) is not None
    again = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True)
    assert again.stdout is not None
    assert "resuming" in again.stdout.readline()
    again.send_signal(signal.SIGTERM)
    again.communicate(timeout=60)
    assert again.returncode == 143


def test_evaluation_of_the_run(finished: Path, synthetic_store: Path) -> None:
    overrides = [
        f"store={synthetic_store}",
        "task=superclass",
        f"encoder.weights={finished}",
        "knn.k=5",
        "resamples=50",
    ]
    page = run_evaluation(load_config(EvaluateConfig, None, [*overrides, "min_positives=1"]))
    metrics = json.loads((page.parent / "metrics.json").read_text())
    for protocol in ("knn", "knn_cosine", "clusters", "random encoder/knn", "knn minus random encoder"):
        for interval in metrics[protocol].values():
            assert {"value", "low", "high", "n"} <= set(interval)
    text = page.read_text()
    assert text.count("data:image/png;base64,") >= 4
    assert "no test patient and no test record was found in pretraining" in text
    assert "http" not in text.split("</style>")[1]


def test_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    save_weights(tmp_path / "model.safetensors", {"w": torch.zeros(1)}, "ecg_jepa", {"model": {}})
    with pytest.raises(
        CheckpointError, match="is a checkpoint of ecg_jepa, not of .*python -m ecg_jepa_modified.evaluate"
    ):
        load_model(tmp_path / "model.safetensors")
    save_weights(tmp_path / "own.safetensors", {"w": torch.zeros(1)}, "st_mem_forgotten", {"model": {}})
    with pytest.raises(CheckpointError, match="LOADERS of st_mem_modified.loading needs a line 'st_mem_forgotten'"):
        load_model(tmp_path / "own.safetensors")
    with pytest.raises(CheckpointError, match="holds no weights"):
        load_model(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"encoder\.weights is not set"):
        run_evaluation(load_config(EvaluateConfig, None, [f"store={tmp_path}"]))


def test_random_encoder_depends_on_its_seed_alone(synthetic_store: Path, tmp_path: Path) -> None:
    config = small_config(synthetic_store, tmp_path).model
    first, same, other = (random_encoder(config, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
