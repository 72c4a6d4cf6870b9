"""The VQ-VAE: codes on the lead × patch grid, back to ECG, embeddings, losses."""

from __future__ import annotations

import pytest
import torch

from shared.embeddings import OneKind
from shared.errors import UserError
from st_mem_modified.vqvae import VQVAE
from st_mem_modified.vqvae.model import balanced_errors, spectral_distance
from tests.st_mem_modified.vqvae.small import MODEL, records, started, tiny


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
    assert float(balanced_errors(target, target, 1.0).max()) == 0
    mean = target.flatten(2).mean(-1)[..., None, None].expand_as(target)
    assert float(balanced_errors(mean, target, 1.0).mean()) == pytest.approx(1.0)  # 1 − R² of predicting the mean
    assert float(balanced_errors(2 * target, 2 * target + 1, 0.0).mean()) == pytest.approx(1.0)
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
