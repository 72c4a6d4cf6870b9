"""ECG-JEPA: agreement with the reference tensors, the properties of its training, and its refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch._dynamo.testing import CompileCounter

from ecg_jepa_modified.config import ModelConfig
from ecg_jepa_modified.model import ECGJEPA, ECGJEPAEncoder
from shared.leads import INDEPENDENT_LEADS
from shared.nn import Block
from tests.ecg_jepa_modified.small import noise, small, times_mask


@pytest.fixture(autouse=True)
def _same_weights_each_time() -> None:
    torch.manual_seed(0)


# ---------------------------------------------------------------- properties


def test_masked_values_cannot_change_the_context() -> None:
    encoder = ECGJEPAEncoder(small()).eval()
    ecg, visible = noise(2, 3, 60), torch.tensor([0, 3, 4])
    changed = ecg.clone()
    changed[..., 10:30] = 99.0  # times 1 and 2
    assert torch.equal(encoder(ecg, visible=visible), encoder(changed, visible=visible))
    changed[..., 30] = 99.0
    assert not torch.equal(encoder(ecg, visible=visible), encoder(changed, visible=visible))


@pytest.mark.parametrize("loss", ["smooth_l1", "l1"])
@pytest.mark.parametrize("target_norm", ["layer", "none"])
def test_loss_is_the_distance_at_masked_times(loss: str, target_norm: str) -> None:
    model = ECGJEPA(small(loss=loss, target_norm=target_norm))
    ecg, mask = noise(2, 3, 60), times_mask(1, 4, 5)
    target = model.target_encoder(ecg).unflatten(1, (3, 6))[:, :, mask]
    if target_norm == "layer":
        target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
    context = model.encoder(ecg, visible=torch.tensor([0, 2, 3]))
    predicted = model.predictor(context, 3, torch.tensor([[0, 2, 3]]), torch.tensor([[1, 4, 5]])).unflatten(1, (3, 3))
    away = (predicted - target).abs()
    expected = away if loss == "l1" else torch.where(away < 1, 0.5 * away**2, away - 0.5)
    terms = model(ecg, mask)
    torch.testing.assert_close(terms.loss, expected.mean())
    assert not terms.pred_std.requires_grad
    torch.testing.assert_close(terms.target_std, target.flatten(0, 2).std(0).mean())


def test_teacher_has_no_gradient_and_equals_the_analytic_average() -> None:
    model = ECGJEPA(small(drop_path=0.5)).train()
    assert not any(module.training for module in model.target_encoder.modules())
    student, teacher = dict(model.encoder.named_parameters()), dict(model.target_encoder.named_parameters())
    expected = {key: value.detach().clone() for key, value in teacher.items()}
    optimizer = torch.optim.SGD(model.encoder.parameters(), lr=0.1)
    for step in range(5):
        optimizer.zero_grad()
        model(noise(2, 3, 60, seed=step), times_mask(1, 2)).loss.backward()
        optimizer.step()
        momentum = model.ema_momentum(step, 5)
        model.update_target(momentum)
        for key, value in student.items():
            expected[key] = momentum * expected[key] + (1 - momentum) * value.detach()
    assert all(parameter.grad is None for parameter in teacher.values())
    assert all(parameter.grad is not None for parameter in student.values())
    for key, value in teacher.items():
        torch.testing.assert_close(value, expected[key], rtol=1e-5, atol=1e-6)


def test_momentum_rises_linearly_over_all_steps() -> None:
    model = ECGJEPA(small())
    assert [model.ema_momentum(step, 100) for step in (0, 50, 100)] == pytest.approx([0.996, 0.998, 1.0])


def test_groups_equal_separate_batches() -> None:
    model = ECGJEPA(small()).eval()
    ecg, masks = noise(4, 3, 60), torch.stack([times_mask(1, 2), times_mask(0, 5)])
    apart = [model(part, mask).loss for part, mask in zip(ecg.split(2), masks, strict=True)]
    torch.testing.assert_close(model(ecg, masks).loss, torch.stack(apart).mean())
    torch.testing.assert_close(model(ecg, masks[:1]).loss, model(ecg, masks[0]).loss)


def test_leads_are_found_by_name() -> None:
    encoder = ECGJEPAEncoder(small()).eval()
    ecg = noise(2, 3, 60)
    tokens = encoder(ecg).unflatten(1, (3, 6))
    shuffled = encoder(ecg[:, [2, 0, 1]], ["v1", "I", "ii"]).unflatten(1, (3, 6))
    torch.testing.assert_close(shuffled[:, [1, 2, 0]], tokens)
    torch.testing.assert_close(encoder.embed(ecg[:, 1:2], "II"), encoder.embed(ecg[:, 1:2], ["II"]))
    assert not torch.allclose(encoder.embed(ecg[:, :1], "II"), encoder.embed(ecg[:, :1], "I"))
    assert encoder.embed(ecg[:, :2], "I,II").shape == (2, encoder.embed_dim)
    eight = ECGJEPAEncoder(small(input={"num_samples": 60}))
    assert eight.embed(noise(1, 8, 60), "independent").shape == (1, 16)


def test_a_shorter_record_takes_the_first_positions() -> None:
    encoder = ECGJEPAEncoder(small()).eval()
    ecg = noise(2, 3, 60)
    torch.testing.assert_close(encoder(ecg[..., :40]), encoder(ecg, visible=torch.arange(4)))


def test_learnable_tables_learn_and_fixed_ones_are_constant() -> None:
    model = ECGJEPA(small(pos_embed="learnable"))
    model(noise(2, 3, 60), times_mask(1, 2)).loss.backward()
    for table in (model.encoder.pos_embed, model.predictor.pos_embed):
        assert table.grad is not None and bool((table.grad.abs().sum(-1) > 0).any())
    before = model.target_encoder.pos_embed.clone()
    model.encoder.pos_embed.data += 1.0
    model.update_target(0.5)
    torch.testing.assert_close(model.target_encoder.pos_embed, before + 0.5)
    fixed = ECGJEPA(small())
    assert not fixed.encoder.pos_embed.requires_grad


def test_initialisation_is_scaled_with_depth() -> None:
    encoder = ECGJEPAEncoder(small(embed_dim=128, depth=8))
    for k, block in enumerate(encoder.blocks, start=1):
        assert isinstance(block, Block)
        assert block.attn.proj.weight.std().item() == pytest.approx(0.02 / (2 * k) ** 0.5, rel=0.05)
        assert block.attn.qkv.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert block.attn.qkv.bias is None
        assert not block.mlp.fc1.bias.any()


def test_drop_path_rises_from_zero() -> None:
    rates = [
        getattr(block.drop_path, "drop_prob", 0.0) for block in ECGJEPAEncoder(small(depth=3, drop_path=0.1)).blocks
    ]
    assert rates == pytest.approx([0.0, 0.05, 0.1])


# ---------------------------------------------------------------- training


def test_one_batch_is_overfitted() -> None:
    model = ECGJEPA(small(embed_dim=32, predictor_dim=32)).train()
    ecg, mask = noise(4, 3, 60), times_mask(1, 2, 4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(150):  # the teacher stands still: a fixed target must be learnt by heart
        terms = model(ecg, mask)
        optimizer.zero_grad()
        terms.loss.backward()
        optimizer.step()
        losses.append(terms.loss.item())
    assert losses[-1] < 0.1 * losses[0]
    assert terms.pred_std > 0.5 * terms.target_std


def test_autocast_trains_close_to_float32() -> None:
    model = ECGJEPA(small())
    ecg, mask = noise(2, 3, 60), times_mask(1, 2)
    full = model(ecg, mask).loss
    with torch.autocast("cpu", torch.bfloat16):
        half = model(ecg, mask).loss
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(full.item(), rel=0.02)
    half.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.encoder.parameters())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # the compiler's own
def test_compiled_steps_equal_eager_and_a_new_number_of_visible_times_compiles_nothing_new() -> None:
    torch._dynamo.reset()
    counter = CompileCounter()
    model = ECGJEPA(small(depth=1))
    compiled = torch.compile(model, backend=counter, dynamic=True)
    frames = []
    for count in (2, 3, 4):
        ecg, mask = noise(7, 3, 60), times_mask(*range(count))  # no other size is 7: equal sizes would share a symbol
        loss = compiled(ecg, mask).loss
        loss.backward()
        torch.testing.assert_close(loss, model(ecg, mask).loss)
        frames.append(counter.frame_count)
    assert frames[0] > 0
    assert len(set(frames)) == 1, frames


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("shape", "leads", "message"),
    [
        ((2, 3, 61), None, r"61 samples.*takes 60.*multiples of 10"),
        ((2, 3, 70), None, r"70 samples"),
        ((2, 3, 0), None, r"0 samples"),
        ((2, 12, 60), None, r"12 leads but 3 are named: I, II, V1"),
        ((2, 1, 60), None, r"1 leads but 3"),
        ((2, 2, 60), "II", r"2 leads but 1"),
        ((2, 1, 60), "V6", r"V6 are not among I, II, V1"),
        ((2, 6, 60), "limb", r"6 leads but 2 are named: I, II"),
        ((2, 1, 60), ["IIa"], r"unknown lead 'IIa'; did you mean 'II'"),
        ((2, 2, 60), ["I", "i"], r"Name each lead once"),
        ((2, 0, 60), [], r"no lead was given"),
        ((3, 60), None, r"\[batch, lead, sample\].*\[3, 60\]"),
    ],
)
def test_a_wrong_ecg_is_named(shape: tuple[int, ...], leads: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ECGJEPAEncoder(small()).embed(torch.zeros(shape), leads)


def test_a_wrong_dtype_or_mask_is_named() -> None:
    model = ECGJEPA(small())
    with pytest.raises(ValueError, match="float"):
        model(torch.zeros(2, 3, 60, dtype=torch.int16), times_mask(1))
    for mask, message in (
        (times_mask(1, length=5), r"bool \[6\].*\[5\]"),
        (times_mask(1).long(), "int64"),
        (times_mask(), "hides 0 of 6"),
        (~times_mask(), "hides 6 of 6"),
        (times_mask(1).expand(3, 6), "dividing the batch of 2"),
    ):
        with pytest.raises(ValueError, match=message):
            model(noise(2, 3, 60), mask)


def test_size_fills_what_is_not_written_out() -> None:
    assert ModelConfig() == ModelConfig(size="base")
    tiny = ModelConfig.model_validate({"size": "tiny", "depth": 7, "input": {"num_samples": 1000}})
    assert (tiny.embed_dim, tiny.depth, tiny.num_patches) == (64, 7, 20)
    assert tiny.input.leads == INDEPENDENT_LEADS
    assert ModelConfig.model_validate(tiny.model_dump(mode="json")) == tiny


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"embed_dim": 100, "num_heads": 3}, "embed_dim 100 must be a multiple of num_heads"),
        ({"predictor_dim": 36, "predictor_heads": 5}, "predictor_dim 36"),
        ({"embed_dim": 18, "num_heads": 2}, "and of 4"),
        ({"patch_size": 33}, "no multiple of patch_size 33"),
        ({"ema_momentum": (1.0, 0.9)}, "first <= last"),
        ({"size": "huge"}, "base"),
    ],
)
def test_a_config_that_cannot_be_built_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelConfig.model_validate(values)
