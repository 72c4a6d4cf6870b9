"""The second stage: codes of masked patches, whose tokenizer stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from shared.checkpoints import CheckpointError
from shared.config import REPO_ROOT, load_config
from shared.errors import UserError
from st_mem_modified.config import ModelConfig, PretrainConfig
from st_mem_modified.loading import load_model, load_vqvae
from st_mem_modified.model import STMEM
from st_mem_modified.pretrain import pretrain
from st_mem_modified.vqvae.masked_tokens import MaskedTokens
from tests.st_mem_modified.vqvae.small import MODEL, TINY, records, started, tiny


def test_masked_codes_train_and_evaluate(trained: Path, synthetic_store: Path, tmp_path: Path) -> None:
    own = load_vqvae(trained).config.model
    overrides = [f"run.out={tmp_path / 'run'}", f"data.store={synthetic_store}", f"tokenizer={trained}", *TINY]
    overrides = [o for o in overrides if not o.startswith("quantizer.")] + [
        f"model.input.num_samples={own.input.num_samples}",
        f"model.patch_size={own.patch_size}",
    ]
    pretrain(load_config(PretrainConfig, "configs/demo/st_mem_masked_tokens.yaml", overrides))
    model, config = load_model(tmp_path / "run")
    assert config["objective"] == "masked_tokens"
    assert model.embed(records(2)).shape == (2, 16)  # type: ignore[operator]


def test_masked_codes_leave_the_tokenizer_alone_and_see_no_masked_patch() -> None:
    tokenizer = started(tiny())
    model = MaskedTokens(ModelConfig.model_validate(MODEL), tokenizer).train()
    assert not model.tokenizer.training and not any(p.requires_grad for p in model.tokenizer.parameters())
    ecg, mask = records(2), torch.zeros(2, 12, 6, dtype=torch.bool)
    mask[..., 2:] = True
    out = model(ecg, mask)
    assert out.pred.shape == (2, 12, 6, 1, 16) and 0 <= out.accuracy <= 1
    changed = ecg.clone()
    changed[..., 150:] = 0
    torch.testing.assert_close(model(changed, mask).pred, out.pred)
    out.loss.backward()
    assert model.encoder.blocks[0].mlp.fc1.weight.grad is not None  # type: ignore[union-attr]


def test_tokenizer_of_another_grid_is_refused() -> None:
    tokenizer = started(tiny())
    for change, message in (
        ({"patch_size": 50}, "patches have 75 samples, the model's 50"),
        ({"input": {"num_samples": 900}}, "different inputs: seconds 1.8 and 3.6"),
    ):
        with pytest.raises(UserError, match=message):
            MaskedTokens(ModelConfig.model_validate({**MODEL, **change}), tokenizer)
    pooled = started(tiny(design="pooled", quantizer={"codebook_size": 4, "code_dim": 8}))
    with pytest.raises(UserError, match="one code per record"):
        MaskedTokens(ModelConfig.model_validate(MODEL), pooled)
    with pytest.raises(ValueError, match="belong together"):
        PretrainConfig.model_validate({"run": {"out": "x"}, "data": {"store": "x"}, "objective": "masked_tokens"})


def test_vqvae_is_not_an_stmem(trained: Path, stmem_run: Path) -> None:
    model, _ = load_model(stmem_run)
    assert isinstance(model, STMEM)
    with pytest.raises(CheckpointError, match="holds a STMEM, not a VQ-VAE"):
        load_vqvae(stmem_run)
    assert (REPO_ROOT / "configs/st_mem/masked_tokens.yaml").is_file()
