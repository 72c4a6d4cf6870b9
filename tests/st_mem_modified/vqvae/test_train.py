"""Training of the VQ-VAE: whole runs, checkpoints, frozen and free encoders, the alarm of a collapse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from shared.checkpoints import CheckpointError, newest_checkpoint, read_weights, save_weights
from shared.config import load_config
from shared.errors import UserError
from shared.files import DIGESTS
from st_mem_modified.loading import load_vqvae
from st_mem_modified.vqvae.config import VQTrainConfig
from st_mem_modified.vqvae.train import train
from tests.st_mem_modified.vqvae.small import EVALUATION, TINY, records


def test_demo_runs_and_leaves_everything_behind(trained: Path) -> None:
    lines = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    last = [line for line in lines if "used_fraction" in line][-1]
    for name in (
        "perplexity",
        "dead_codes",
        "epoch_commitment",
        "correlation",
        "worst_lead",
        "effective_rank_quantized",
    ):
        assert name in last
    assert sum(json.loads((trained / "codebook.json").read_text())["counts"][0]) > 0
    for name in ("code_usage", "codes", "codes_under_ecg", "reconstruction", "training"):
        assert (trained / "figures" / f"{name}.png").is_file()
    scores = json.loads((trained / "evaluation" / "metrics.json").read_text())
    for row in (
        "knn",
        "before quantisation/knn",
        "histogram of codes/knn",
        "tf-idf of codes/knn",
        "random encoder/knn",
    ):
        assert 0 <= scores[row]["auroc_macro"]["value"] <= 1


def test_checkpoint_gives_the_same_codes_and_carries_idf(trained: Path) -> None:
    model = load_vqvae(trained, "vq")
    assert model.idf.min() >= 1 and model.idf.max() > 1
    again = load_vqvae(trained)
    assert torch.equal(model.tokenize(records(2)), again.tokenize(records(2)))
    with pytest.raises(UserError, match="code 16 is not in the codebook"):
        model.decode(torch.full_like(model.tokenize(records(2)), 16))
    with pytest.raises(CheckpointError, match="quantizer vq, not fsq"):
        load_vqvae(trained, "fsq")


def test_run_folder_of_another_quantizer_is_refused(trained: Path, synthetic_store: Path) -> None:
    more = ["quantizer.cosine=false", f"run.out={trained}", f"data.store={synthetic_store}", *TINY, *EVALUATION]
    with pytest.raises(UserError, match="other settings: quantizer.cosine"):
        train(load_config(VQTrainConfig, "configs/demo/st_mem_vqvae.yaml", more))


@pytest.mark.parametrize("frozen", [True, False])
def test_encoder_is_frozen_or_not(frozen: bool, synthetic_store: Path, tmp_path: Path, stmem_run: Path) -> None:
    overrides = [f"run.out={tmp_path / 'run'}", f"data.store={synthetic_store}", *TINY[-6:], "evaluate=null"]
    more = [f"encoder.weights={stmem_run}", f"encoder.frozen={str(frozen).lower()}", "quantizer.codebook_size=16"]
    train(load_config(VQTrainConfig, "configs/demo/st_mem_vqvae_frozen.yaml", [*overrides, *more]))
    newest, start = newest_checkpoint(tmp_path / "run"), newest_checkpoint(stmem_run)
    assert newest is not None and start is not None
    after, before = (read_weights(folder / "model.safetensors")[0] for folder in (newest, start))
    same = [torch.equal(after[name], value) for name, value in before.items() if name.startswith("encoder.")]
    assert all(same) == frozen


def test_seed_design_runs(synthetic_store: Path, tmp_path: Path, stmem_run: Path) -> None:
    overrides = [f"run.out={tmp_path / 'run'}", f"data.store={synthetic_store}", f"encoder.weights={stmem_run}"]
    more = ["quantizer.codebook_size=16", "optim.epochs=1", "optim.batch_size=80", "optim.warmup_epochs=0"]
    train(load_config(VQTrainConfig, "configs/demo/st_mem_vqvae_seed.yaml", [*overrides, *more, *EVALUATION]))
    assert (tmp_path / "run" / "evaluation" / "gain.json").is_file()


def test_collapse_raises_the_alarm(synthetic_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = [
        f"run.out={tmp_path / 'run'}",
        f"data.store={synthetic_store}",
        *TINY,
        "evaluate=null",
        "alarm_below=1",
    ]
    collapsing = ["quantizer.kmeans_init=false", "quantizer.revive_below=0", "quantizer.codebook_size=128"]
    train(load_config(VQTrainConfig, "configs/demo/st_mem_vqvae.yaml", [*overrides, *collapsing, "optim.epochs=1"]))
    assert "ALARM" in capsys.readouterr().out


def test_first_batch_smaller_than_the_codebook(synthetic_store: Path, tmp_path: Path) -> None:
    overrides = [f"run.out={tmp_path / 'run'}", f"data.store={synthetic_store}", *TINY, "evaluate=null"]
    with pytest.raises(UserError, match=r"codebook of 65536 codes cannot start from the \d+ tokens of the first batch"):
        train(
            load_config(VQTrainConfig, "configs/demo/st_mem_vqvae.yaml", [*overrides, "quantizer.codebook_size=65536"])
        )


def test_a_run_that_saved_the_keys_of_every_quantizer_loads_and_resumes(synthetic_store: Path, tmp_path: Path) -> None:
    more = [f"run.out={tmp_path / 'run'}", f"data.store={synthetic_store}", *TINY, "evaluate=null", "optim.epochs=1"]
    config = load_config(VQTrainConfig, "configs/demo/st_mem_vqvae.yaml", more)
    newest = newest_checkpoint(train(config))
    assert newest is not None
    state, method, saved = read_weights(newest / "model.safetensors")
    saved["quantizer"] |= {"num_quantizers": 2, "levels": [8, 8, 5, 3], "entropy_weight": 0.1}
    save_weights(newest / "model.safetensors", state, method, saved)
    (newest / DIGESTS).unlink()  # a run of then has none
    assert load_vqvae(tmp_path / "run", "vq").config.quantizer == config.quantizer
    train(config)  # finished: nothing is left to do, and nothing differs
    with pytest.raises(UserError, match=r"other settings: quantizer\.decay"):
        train(load_config(VQTrainConfig, "configs/demo/st_mem_vqvae.yaml", [*more, "quantizer.decay=0.5"]))
