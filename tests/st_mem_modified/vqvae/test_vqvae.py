"""The VQ-VAE: codes on the lead × patch grid, back to ECG, embeddings, training, checkpoints, masked codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from shared.checkpoints import CheckpointError, newest_checkpoint, read_weights
from shared.config import REPO_ROOT, load_config
from shared.embeddings import OneKind
from shared.errors import UserError
from st_mem_modified.config import ModelConfig, PretrainConfig
from st_mem_modified.loading import load_model, load_vqvae
from st_mem_modified.model import STMEM
from st_mem_modified.pretrain import pretrain
from st_mem_modified.vqvae.config import VQTrainConfig, VQVAEConfig
from st_mem_modified.vqvae.masked_tokens import MaskedTokens
from st_mem_modified.vqvae.model import VQVAE, balanced_mse, spectral_distance
from st_mem_modified.vqvae.train import train

MODEL = {
    "embed_dim": 16,
    "depth": 1,
    "num_heads": 1,
    "head_dim": 16,
    "decoder_dim": 16,
    "decoder_depth": 1,
    "decoder_heads": 1,
    "input": {"num_samples": 450},
}
TINY = [
    *(f"model.{key}={value}" for key, value in MODEL.items() if key != "input"),
    "model.input.num_samples=450",
    "quantizer.codebook_size=16",
    "quantizer.code_dim=8",
    "optim.epochs=2",
    "optim.batch_size=80",
    "optim.warmup_epochs=0",
    "run.precision=fp32",
]
EVALUATION = ["evaluate.resamples=10", "evaluate.protocols=knn", "evaluate.knn.k=5"]


def tiny(**more: object) -> VQVAEConfig:
    quantizer = {"codebook_size": 16, "code_dim": 8}
    return VQVAEConfig.model_validate({"model": MODEL, "quantizer": quantizer, **more})


def started(config: VQVAEConfig) -> VQVAE:
    """A model whose codebook has seen one batch."""
    torch.manual_seed(0)
    model = VQVAE(config)
    model(records(12))
    return model.eval()


def records(count: int) -> torch.Tensor:
    return torch.randn(count, 12, 450, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def trained(synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps, evaluated."""
    out = tmp_path_factory.mktemp("runs") / "vqvae"
    overrides = [f"run.out={out}", f"data.store={synthetic_store}", *TINY, *EVALUATION]
    return train(load_config(VQTrainConfig, "configs/demo/st_mem_vqvae.yaml", overrides))


# ---------------------------------------------------------------- the model


def test_codes_lie_on_the_grid_and_decode() -> None:
    model, ecg = started(tiny()), records(3)
    indices = model.tokenize(ecg)
    assert indices.shape == (3, 12, 6) and indices.dtype == torch.int64
    decoded = model.decode(indices)
    assert decoded.shape == ecg.shape
    torch.testing.assert_close(decoded, model(ecg).pred.flatten(2), atol=1e-5, rtol=1e-4)
    quantized = model.quantize(model.encode(ecg))
    assert quantized.codes.shape == (3, 12, 6, 8) and torch.equal(quantized.indices, indices)


def test_decoding_sees_nothing_but_the_codes() -> None:
    """Two records with the same codes decode alike, and a lead's ECG depends on its own codes only."""
    model = started(tiny())
    indices = model.tokenize(records(2))
    changed = indices.clone()
    changed[:, 3] = (changed[:, 3] + 1) % 16
    before, after = model.decode(indices), model.decode(changed)
    differs = (before - after).abs().amax(-1)[0] > 1e-6
    assert differs.tolist() == [lead == 3 for lead in range(12)]


def test_fewer_leads_by_name() -> None:
    model, ecg = started(tiny()), records(2)
    indices = model.tokenize(ecg[:, 1:2], leads=("II",))
    assert indices.shape == (2, 1, 6)
    assert model.decode(indices, leads=("II",)).shape == (2, 1, 450)
    embedded = model.embed(ecg[:, 1:2], leads=("II",))
    places = embedded.unflatten(1, (12, 8)).abs().sum((0, 2)) > 0
    assert places.tolist() == [lead == 1 for lead in range(12)]


@pytest.mark.parametrize("shape", [(1, 12, 7), (1, 3, 6), (12, 6), (1, 12, 6, 2)])
def test_indices_of_another_grid_are_refused(shape: tuple[int, ...]) -> None:
    model = started(tiny())
    with pytest.raises(UserError, match=r"decodes integers \[B, 12, 6\]"):
        model.decode(torch.zeros(shape, dtype=torch.int64))
    with pytest.raises(UserError, match=r"decodes integers \[B, 1, 6\]"):
        model.decode(torch.zeros(1, 12, 6, dtype=torch.int64), leads=("II",))


def test_several_levels_and_one_code_per_record() -> None:
    residual = tiny(quantizer={"name": "residual_vq", "codebook_size": 16, "code_dim": 8, "num_quantizers": 2})
    model, ecg = started(residual), records(3)
    indices = model.tokenize(ecg)
    assert indices.shape == (3, 12, 6, 2) and model.decode(indices).shape == ecg.shape
    pooled = started(tiny(design="pooled", quantizer={"codebook_size": 4, "code_dim": 8}))
    indices = pooled.tokenize(ecg)
    assert indices.shape == (3, 1, 1) and pooled.decode(indices).shape == ecg.shape
    assert pooled.embed(ecg).shape == (3, 8) == (3, pooled.embed_dim)


@pytest.mark.parametrize("kind", ["quantized", "tokens", "encoder", "histogram", "tfidf"])
def test_embeddings(kind: str) -> None:
    model, ecg = started(tiny(embed=kind)), records(3)
    embedded = model.embed(ecg)
    assert embedded.shape == (3, model.embed_dim) and torch.isfinite(embedded).all()
    if kind != "encoder":
        torch.testing.assert_close(OneKind(model, kind).embed(ecg), embedded)
    if kind == "histogram":
        expected = torch.stack([torch.bincount(i.flatten(), minlength=16) / 72 for i in model.tokenize(ecg)])
        torch.testing.assert_close(embedded, expected)
    if kind == "tfidf":
        torch.testing.assert_close(embedded.norm(dim=1), torch.ones(3))


def test_looking_leaves_the_codebook_alone() -> None:
    model = started(tiny()).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.tokenize(records(2))
    model.embed(records(2))
    assert model.training and model.quantizer.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_flat_and_a_tall_patch_of_one_shape_get_different_tokens() -> None:
    """ST-MEM's patch embedding normalises each patch; `patch_level` puts level and size back."""
    shape = torch.randn(1, 12, 450, generator=torch.Generator().manual_seed(2))
    for level, differs in ((True, True), (False, False)):
        model = VQVAE(tiny(patch_level=level)).eval()
        gap = (model.encode(shape) - model.encode(3 * shape)).abs().max()
        assert bool(gap > 1e-2) == differs


def test_losses() -> None:
    target = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(3))
    assert float(balanced_mse(target, target, 1.0)) == 0
    mean = target.flatten(2).mean(-1)[..., None, None].expand_as(target)
    assert float(balanced_mse(mean, target, 1.0)) == pytest.approx(1.0)  # 1 − R² of predicting the mean
    assert float(balanced_mse(2 * target, 2 * target + 1, 0.0)) == pytest.approx(1.0)
    wave = torch.sin(torch.arange(600) / 4.0).expand(1, 2, -1)
    assert float(spectral_distance(wave, wave)) == 0
    assert float(spectral_distance(torch.zeros_like(wave), wave)) == pytest.approx(1.0)
    out = VQVAE(tiny(spectral_weight=0.5))(records(12))
    torch.testing.assert_close(out.loss, out.reconstruction + 0.5 * out.spectral + out.commitment)
    with pytest.raises(ValueError, match="no common spectrum"):
        tiny(spectral_weight=1.0, model={**MODEL, "norm_pix_loss": True})


def test_every_parameter_that_learns_gets_a_gradient() -> None:
    """What DDP asks of a model."""
    for config in (
        tiny(),
        tiny(quantizer={"name": "simvq", "codebook_size": 16, "code_dim": 8}),
        tiny(design="pooled"),
    ):
        quantizer = {"codebook_size": 4, "code_dim": 8} if config.design == "pooled" else None
        model = VQVAE(tiny(design="pooled", quantizer=quantizer) if quantizer else config)
        model(records(12)).loss.backward()
        assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_one_batch_is_learned() -> None:
    torch.manual_seed(0)
    model = VQVAE(tiny(quantizer={"name": "fsq", "levels": (8, 8, 8)}))
    time = torch.arange(450) / 250
    ecg = torch.stack([torch.sin(6 * time + phase).expand(12, -1) for phase in torch.arange(8)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(60):
        loss = model(ecg).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]


# ---------------------------------------------------------------- runs


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


# ---------------------------------------------------------------- masked codes


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
