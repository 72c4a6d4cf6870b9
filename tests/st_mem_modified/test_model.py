"""ST-MEM against reference tensors, naive loops and its own contract."""

from __future__ import annotations

import json

import pytest
import torch

from shared.checkpoints import CheckpointError
from shared.leads import LEADS, LeadError
from st_mem_modified.config import ModelConfig
from st_mem_modified.model import (
    STMEM,
    STMEMEncoder,
    draw_noise,
    from_released,
    load_official,
    masked_mse,
    patchify,
    visible_patches,
)
from tests.golden import Golden, golden_file, relative_error

SMALL = ModelConfig.model_validate(
    {"size": "tiny", "depth": 2, "decoder_depth": 1, "input": {"num_samples": 450, "standardize": "record"}}
)


def load_golden(name: str, tmp_path, **options) -> tuple[Golden, STMEM | STMEMEncoder]:
    golden = Golden(name)
    torch.save({"model": golden.group("state")}, tmp_path / "released.pth")
    return golden, load_official(tmp_path / "released.pth", head_dim=golden.meta["dim_head"], **options)


@pytest.mark.parametrize("name", ["a", "b"])
def test_pretraining_equals_reference(name: str, tmp_path) -> None:
    golden, model = load_golden(
        f"st_mem_pretrain_{name}.npz",
        tmp_path,
        leads=LEADS if name == "a" else LEADS[:3],
        norm_pix_loss=name == "a",
    )
    model = STMEM(model.config.model_copy(update={"mask_ratio": golden.meta["mask_ratio"]}))
    model.load_state_dict(from_released(golden.group("state")))
    keep, restore, mask = visible_patches(golden["noise"], golden.meta["mask_ratio"])
    latent = model.encoder.norm(model.encoder(golden["x"], None, keep))
    out = model(golden["x"], golden["noise"])
    out.loss.backward()
    assert torch.equal(mask, golden["mask"].reshape(mask.shape).bool())
    assert torch.equal(restore, golden["ids_restore"].reshape(restore.shape))
    assert relative_error(latent.reshape(golden["latent"].shape), golden["latent"]) < 1e-5
    assert relative_error(out.pred.reshape(golden["pred"].shape), golden["pred"]) < 1e-5
    assert relative_error(out.loss, golden["loss"]) < 1e-5
    assert relative_error(model.encoder.embed(golden["x"]), golden["encoding"]) < 1e-5
    gradients = from_released(golden.group("grad"))
    own = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert len(gradients) >= 4
    for key, gradient in gradients.items():
        assert relative_error(own[key], gradient) < 1e-4, key


def test_encoder_equals_reference(tmp_path) -> None:
    golden, encoder = load_golden("st_mem_encoder_a.npz", tmp_path)
    state = golden.group("state")

    def classify(x: torch.Tensor) -> torch.Tensor:
        return encoder.embed(x) @ state["head.weight"].T + state["head.bias"]

    assert relative_error(encoder.embed(golden["x"]), golden["encoding"]) < 1e-5
    assert relative_error(classify(golden["x"]), golden["logits"]) < 1e-5
    assert relative_error(classify(golden["x_short"]), golden["logits_short"]) < 1e-5


@pytest.mark.parametrize(
    "kind", ["st_mem_vit_small_dec256d4b", "st_mem_vit_base_dec256d4b", "st_mem_vit_small", "st_mem_vit_base"]
)
def test_released_key_lists_load_completely(kind: str, tmp_path, capsys) -> None:
    shapes = json.loads(golden_file("st_mem_checkpoint_keys.json").read_text())[kind]
    state = {name: torch.zeros(shape) for name, shape in shapes.items()}
    torch.save({"model": state, "epoch": 800}, tmp_path / "released.pth")
    model = load_official(tmp_path / "released.pth")
    assert isinstance(model, STMEM if "dec" in kind else STMEMEncoder)
    assert " 0 missing, 0 unexpected, 0 wrong shape" in capsys.readouterr().out


def test_incomplete_checkpoints_are_refused(tmp_path) -> None:
    shapes = json.loads(golden_file("st_mem_checkpoint_keys.json").read_text())["st_mem_vit_small"]
    state = {name: torch.zeros(shape) for name, shape in shapes.items()}
    cases = {
        "1 missing": {k: v for k, v in state.items() if k != "norm.bias"},
        "1 unexpected": {**state, "block12.attn.fn.extra": torch.zeros(2)},
        "1 wrong shape": {**state, "norm.bias": torch.zeros(3)},
        "is not an ST-MEM checkpoint": {"conv1.weight": torch.zeros(3)},
    }
    for message, broken in cases.items():
        torch.save({"model": broken}, tmp_path / "broken.pth")
        with pytest.raises(CheckpointError, match=message):
            load_official(tmp_path / "broken.pth")


def test_masking_follows_the_noise() -> None:
    noise = draw_noise(3, 4, 10, torch.Generator().manual_seed(1))
    keep, restore, mask = visible_patches(noise, 0.75)
    for b in range(3):
        for lead in range(4):
            smallest = set(noise[b, lead].argsort()[:2].tolist())
            assert set(keep[b, lead].tolist()) == smallest == set((~mask[b, lead]).nonzero().flatten().tolist())
    assert torch.equal(draw_noise(3, 4, 10, torch.Generator().manual_seed(1)), noise)
    from_mask = visible_patches(mask, 0.5)
    assert torch.equal(from_mask[2], mask)


def test_uneven_masks_are_refused() -> None:
    mask = torch.zeros(1, 2, 4, dtype=torch.bool)
    mask[0, 0, 0] = True
    with pytest.raises(ValueError, match="same number of patches in every lead"):
        visible_patches(mask, 0.75)


def test_masked_values_cannot_reach_the_encoder() -> None:
    model = STMEM(SMALL).eval()
    ecg = torch.randn(2, 12, 450)
    noise = draw_noise(2, 12, 6, torch.Generator().manual_seed(0))
    keep, _, mask = visible_patches(noise, SMALL.mask_ratio)
    changed = torch.where(mask[..., None].expand(-1, -1, -1, 75).reshape(2, 12, 450), torch.randn(2, 12, 450), ecg)
    assert torch.equal(model.encoder(ecg, None, keep), model.encoder(changed, None, keep))
    assert torch.equal(model(ecg, noise).pred, model(changed, noise).pred)


def test_loss_counts_masked_patches_only() -> None:
    pred, target = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    mask = torch.rand(2, 3, 4) < 0.5
    total, count = 0.0, 0
    for b in range(2):
        for lead in range(3):
            for n in range(4):
                if mask[b, lead, n]:
                    patch = target[b, lead, n]
                    patch = (patch - patch.mean()) / (patch.var() + 1e-6) ** 0.5
                    total += float(((pred[b, lead, n] - patch) ** 2).mean())
                    count += 1
    assert float(masked_mse(pred, target, mask, norm_pix=True)) == pytest.approx(total / count, rel=1e-5)


def test_leads_are_taken_by_name() -> None:
    encoder = STMEMEncoder(SMALL).eval()
    ecg = torch.randn(2, 12, 450)
    assert not torch.allclose(encoder.embed(ecg[:, 1:2], ("II",)), encoder.embed(ecg[:, 1:2], ("V1",)))
    swapped = encoder.embed(ecg[:, [1, 0]], ("II", "I"))
    torch.testing.assert_close(swapped, encoder.embed(ecg[:, :2], ("I", "II")))
    with pytest.raises(ValueError, match="For fewer leads name them"):
        encoder.embed(ecg[:, :1])
    with pytest.raises(LeadError, match="unknown lead 'V7'"):
        encoder.embed(ecg[:, :1], ("V7",))
    with pytest.raises(ValueError, match="takes 450, or fewer in multiples of 75"):
        encoder.embed(ecg[:, :, :100])


def test_decoder_sees_one_lead_at_a_time() -> None:
    model = STMEM(SMALL).eval()
    _, restore, _ = visible_patches(draw_noise(1, 12, 6, torch.Generator().manual_seed(0)), 0.5)
    latent = torch.randn(1, 12, 5, SMALL.embed_dim)
    changed = latent.clone()
    changed[:, 3] += 1
    difference = (model.decoder(latent, restore) - model.decoder(changed, restore)).abs().amax(dim=(0, 2, 3))
    assert (difference > 0).tolist() == [lead == 3 for lead in range(12)]


def test_one_batch_is_overfitted() -> None:
    torch.manual_seed(0)
    config = ModelConfig.model_validate(
        {"size": "tiny", "depth": 2, "decoder_depth": 1, "input": {"num_samples": 300, "leads": "I,II,V1"}}
    )
    model = STMEM(config)
    ecg = torch.sin(torch.arange(300) / 20 + torch.arange(6).reshape(2, 3, 1))
    noise = draw_noise(2, 3, 4, torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95))
    losses = []
    for _ in range(150):
        losses.append(model(ecg, noise).loss)
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1].item() < 0.2 * losses[0].item()


def test_patchify_keeps_time_order() -> None:
    assert patchify(torch.arange(8.0).reshape(1, 2, 4), 2).tolist() == [[[[0, 1], [2, 3]], [[4, 5], [6, 7]]]]
