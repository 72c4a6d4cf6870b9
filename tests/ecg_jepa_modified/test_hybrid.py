"""Hybrid input: what the model takes and refuses, missing measurements, who sees whom, and what masks hide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from ecg_jepa_modified.config import ModelConfig
from ecg_jepa_modified.cropa import cropa_reference
from ecg_jepa_modified.hybrid import FeatureEmbed, HybridEncoder, copy_scales, cropa_ragged, visible_first
from ecg_jepa_modified.model import ECGJEPA, load_official, make_encoder
from shared.checkpoints import CheckpointError, load_state, save_weights
from shared.leads import INDEPENDENT_LEADS
from shared.measurements.catalog import FEATURES
from tests.ecg_jepa_modified.test_model import noise, small, times_mask

JOINS: list[dict[str, Any]] = [
    {},
    {"join": "tokens"},
    {"join": "add"},
    {"predict_features": False},
    {"join": "tokens", "predict_features": False},
    {"in_columns": False},
]
NAMES = ("heart_rate", "sdnn")


def hybrid(features: Any = NAMES, leads: Any = "I,II,V1", **options: Any) -> ModelConfig:
    """Three leads and two features of six patches."""
    return small(input={"leads": leads, "num_samples": 60, "features": features}, hybrid=options)


def fitted(model: nn.Module, seed: int = 0) -> Any:
    """The model with scales as if fitted on measurements around 70."""
    for module in model.modules():
        if isinstance(module, FeatureEmbed):
            module.scaler.fit([(70 + 10 * noise(len(module.scaler.names), 500, seed=seed)).numpy()])
    return model


def record(batch: int = 2, leads: int = 3, features: int = 2) -> Tensor:
    return torch.cat([noise(batch, leads, 60), 70 + 10 * noise(batch, features, 60, seed=1)], dim=1)


@pytest.fixture(autouse=True)
def _same_weights_each_time() -> None:
    torch.manual_seed(0)


# ---------------------------------------------------------------- input


@pytest.mark.parametrize("options", JOINS)
def test_every_join_trains_and_embeds(options: dict[str, Any]) -> None:
    model = fitted(ECGJEPA(hybrid(**options))).train()
    terms = model(record(), times_mask(1, 4))
    terms.loss.backward()
    assert terms.loss.isfinite()
    lacking = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert lacking == []
    encoder = model.encoder
    assert encoder.embed(record()).shape == (2, 16)
    rows = {"rows": 5, "tokens": 4, "add": 3}[options.get("join", "rows")]
    assert encoder.tokens(record()).shape == (2, rows, 6, 16)
    torch.testing.assert_close(encoder.tokens(record()).mean((1, 2)), encoder.embed(record()))
    assert len(encoder.rows) == rows


def test_nineteen_rows_are_eight_leads_and_eleven_features() -> None:
    encoder = fitted(make_encoder(small(input={"num_samples": 60, "features": "all"}))).eval()
    assert encoder.rows == (*INDEPENDENT_LEADS, *FEATURES)
    assert encoder.embed(record(1, 8, 11)).shape == (1, 16)
    with pytest.raises(
        ValueError, match=r"ecg has 8 leads but 19 are named.*takes 19 rows: 8 leads and then 11 features"
    ):
        encoder.embed(noise(1, 8, 60))
    plain = make_encoder(small(input={"num_samples": 60}))
    with pytest.raises(ValueError, match=r"ecg has 19 leads but 8 are named.*features are for a hybrid model"):
        plain.embed(record(1, 8, 11))


def test_checkpoints_of_the_other_kind_are_refused(tmp_path: Path) -> None:
    plain, other = ECGJEPA(small()), fitted(ECGJEPA(hybrid()))
    with pytest.raises(CheckpointError, match=r"pos_embed \(file \(5, 6, 16\), model \(3, 6, 16\)\)"):
        load_state(plain, other.state_dict(), "run")
    with pytest.raises(CheckpointError, match=r"missing: encoder\.feature_embed\.weight"):
        load_state(other, plain.state_dict(), "run")
    torch.save({"encoder": {"W_P.weight": torch.zeros(48, 50), "pos_embed": torch.zeros(950, 48),
                            "encoder_blocks.blocks.0.mlp.fc1.weight": torch.zeros(192, 48)}}, tmp_path / "a.pth")  # fmt: skip
    with pytest.raises(CheckpointError, match="hybrid"):
        load_official(tmp_path / "a.pth", num_heads=3)


def test_the_scales_travel_in_the_checkpoint(tmp_path: Path) -> None:
    model = fitted(ECGJEPA(hybrid()))
    state = model.state_dict()
    assert {"encoder.feature_embed.scaler.center", "target_encoder.feature_embed.scaler.scale"} <= set(state)
    save_weights(tmp_path / "model.safetensors", state, "ecg_jepa", {})
    again = ECGJEPA(hybrid())
    with pytest.raises(ValueError, match="not fitted"):
        again.encoder.embed(record())
    load_state(again, state, "run")
    torch.testing.assert_close(again.encoder.embed(record()), model.encoder.embed(record()))


def test_a_random_encoder_takes_the_scales_of_the_trained_one() -> None:
    trained, random = fitted(make_encoder(hybrid()), seed=3), make_encoder(hybrid())
    copy_scales(trained, random)
    assert isinstance(random, HybridEncoder) and isinstance(trained, HybridEncoder)
    torch.testing.assert_close(random.feature_embed.scaler.center, trained.feature_embed.scaler.center)
    for other in (make_encoder(small()), make_encoder(hybrid(features=["rmssd"]))):
        with pytest.raises(ValueError, match="only"):
            copy_scales(trained, other)


def test_leads_are_chosen_by_name_and_features_stay() -> None:
    encoder = fitted(make_encoder(hybrid())).eval()
    x = record()
    tokens = encoder.tokens(x)
    shuffled = encoder.tokens(x[:, [2, 0, 1, 3, 4]], ["V1", "I", "II"])
    torch.testing.assert_close(shuffled[:, [1, 2, 0, 3, 4]], tokens)
    assert encoder.embed(x[:, 1:], "II,V1").shape == (2, 16)
    with pytest.raises(ValueError, match="2 leads but 3 are named: II, heart_rate, sdnn"):
        encoder.embed(x[:, :2], "II")
    with pytest.raises(ValueError, match="unknown lead 'sdnn'"):
        encoder.embed(x, "sdnn")


def test_features_alone_are_an_input() -> None:
    model = fitted(ECGJEPA(hybrid(leads=[])))
    assert model.config.rows == NAMES
    model(record()[:, 3:], times_mask(1)).loss.backward()
    assert model.encoder.embed(record()[:, 3:]).shape == (2, 16)
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


# ---------------------------------------------------------------- missing measurements


@pytest.mark.parametrize("options", JOINS)
def test_missing_measurements_never_reach_the_network(options: dict[str, Any]) -> None:
    model = fitted(ECGJEPA(hybrid(**options))).train()
    x = record()
    x[0, 3] = torch.nan  # a whole channel
    x[1, 4, 23] = torch.nan  # one sample of patch 2
    terms = model(x, times_mask(1, 4))
    terms.loss.backward()
    assert terms.loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    missing = model.encoder.get_submodule("feature_embed").missing.grad
    assert (missing.abs().sum(dim=1) > 0).all()
    assert model.encoder.embed(x).isfinite().all()


def test_a_patch_with_a_missing_sample_is_the_learned_vector() -> None:
    embed = fitted(FeatureEmbed(NAMES, 10, 16))
    patches = record()[:, 3:].unflatten(2, (-1, 10))
    whole = embed(patches)
    patches[1, 0, 2, 7] = torch.nan
    holed = embed(patches)
    torch.testing.assert_close(holed[1, 0, 2], embed.missing[0])
    holed[1, 0, 2] = whole[1, 0, 2]
    torch.testing.assert_close(holed, whole)
    expected = torch.stack(
        [embed.scaler(record()[:, 3:])[0].unflatten(2, (-1, 10))[:, f] @ embed.weight[f] for f in (0, 1)], 1
    )
    torch.testing.assert_close(whole, expected + embed.bias[:, None])


def test_missing_is_not_zero() -> None:
    encoder = fitted(make_encoder(hybrid())).eval()
    x, empty = record(), record()
    x[:, 3:], empty[:, 3:] = 0.0, torch.nan
    assert not torch.allclose(encoder.embed(x), encoder.embed(empty))


# ---------------------------------------------------------------- masks and attention


@pytest.mark.parametrize("options", [{}, {"join": "tokens"}, {"join": "add"}, {"in_columns": False}])
def test_masked_features_cannot_change_the_context(options: dict[str, Any]) -> None:
    encoder = fitted(make_encoder(hybrid(**options))).eval()
    x, visible = record(), torch.tensor([0, 3, 4])
    changed = x.clone()
    changed[..., 10:30] = 99.0  # times 1 and 2, of leads and features
    changed[0, 3, 12] = torch.nan
    assert torch.equal(encoder(x, visible=visible), encoder(changed, visible=visible))
    changed[:, 4, 30] = 99.0
    assert not torch.equal(encoder(x, visible=visible), encoder(changed, visible=visible))


@pytest.mark.parametrize("join", ["rows", "tokens"])
def test_features_that_are_not_predicted_are_always_visible(join: str) -> None:
    model = fitted(ECGJEPA(hybrid(join=join, predict_features=False))).eval()
    encoder, visible = model.encoder, torch.tensor([0, 3, 4])
    x = record()
    leads_changed, features_changed = x.clone(), x.clone()
    leads_changed[:, :3, 10:30] = 99.0
    features_changed[:, 4, 10] = 99.0
    context = encoder(x, visible=visible)
    rows = 2 if join == "rows" else 1
    assert context.shape == (2, 3 * 3 + rows * 6, 16)
    assert torch.equal(context, encoder(leads_changed, visible=visible))
    assert not torch.equal(context[:, :9], encoder(features_changed, visible=visible)[:, :9])  # the leads see it
    # Only the leads are predicted: the loss is over 3 leads × 2 masked times.
    seen: list[torch.Size] = []
    model.predictor.register_forward_hook(lambda _module, _inputs, out: seen.append(out.shape))
    model(x, times_mask(1, 2))
    assert seen == [(2, 3 * 2, 16)]


def test_groups_of_masks_equal_separate_batches_with_visible_features() -> None:
    for options in JOINS:
        model = fitted(ECGJEPA(hybrid(**options))).eval()
        x, masks = record(4), torch.stack([times_mask(1, 2), times_mask(0, 5)])
        apart = [model(part, mask).loss for part, mask in zip(x.split(2), masks, strict=True)]
        torch.testing.assert_close(model(x, masks).loss, torch.stack(apart).mean())


def test_features_outside_the_columns_do_not_meet_the_leads() -> None:
    encoder = fitted(make_encoder(hybrid(in_columns=False))).eval()
    x, changed = record(), record()
    changed[:, 3] += 5.0
    before, after = encoder.tokens(x), encoder.tokens(changed)
    assert torch.equal(before[:, [0, 1, 2, 4]], after[:, [0, 1, 2, 4]])
    assert not torch.allclose(before[:, 3], after[:, 3])


def dense(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, times: Tensor) -> Tensor:
    """Softmax over all tokens that share the row or the time."""
    allowed = (rows[:, None] == rows) | (times[:, None] == times)
    scores = (q @ k.transpose(-2, -1)) / q.shape[-1] ** 0.5
    return scores.masked_fill(~allowed, -torch.inf).softmax(-1) @ v


@pytest.mark.parametrize(("leads", "others"), [(3, 2), (1, 1), (2, 1)])
def test_ragged_cropa_equals_the_dense_mask(leads: int, others: int) -> None:
    few, many = 3, 5
    a = [noise(2, 2, leads, few, 4, seed=s).requires_grad_() for s in range(3)]
    b = [noise(2, 2, others, many, 4, seed=s + 3).requires_grad_() for s in range(3)]
    got = torch.cat([part.flatten(2, 3) for part in cropa_ragged((a[0], a[1], a[2]), (b[0], b[1], b[2]))], dim=2)
    rows = torch.cat([torch.arange(leads).repeat_interleave(few), leads + torch.arange(others).repeat_interleave(many)])
    times = torch.cat([torch.arange(few).repeat(leads), torch.arange(many).repeat(others)])
    flat = [torch.cat([x.flatten(2, 3), y.flatten(2, 3)], dim=2) for x, y in zip(a, b, strict=True)]
    want = dense(*flat, rows, times)
    torch.testing.assert_close(got, want)
    weights = noise(*want.shape, seed=9)
    ours = torch.autograd.grad((got * weights).sum(), [*a, *b])
    for one, other in zip(ours, torch.autograd.grad((want * weights).sum(), [*a, *b]), strict=True):
        torch.testing.assert_close(one, other)


def test_ragged_cropa_of_equal_lengths_is_cropa() -> None:
    q, k, v = (noise(1, 2, 5, 4, 3, seed=s) for s in range(3))
    a, b = cropa_ragged((q[:, :, :3], k[:, :, :3], v[:, :, :3]), (q[:, :, 3:], k[:, :, 3:], v[:, :, 3:]))
    torch.testing.assert_close(torch.cat([a, b], dim=2), cropa_reference(q, k, v))


def test_visible_times_come_first() -> None:
    assert visible_first(torch.tensor([[1, 4], [0, 2]]), 5).tolist() == [[1, 4, 0, 2, 3], [0, 2, 1, 3, 4]]


def test_plain_models_hold_nothing_hybrid() -> None:
    assert not any("feature" in name for name in ECGJEPA(small()).state_dict())


def test_autocast_trains() -> None:
    for options in JOINS:
        model, x = fitted(ECGJEPA(hybrid(**options))), record()
        x[0, 3, 5] = torch.nan
        full = model(x, times_mask(1, 2)).loss
        with torch.autocast("cpu", torch.bfloat16):
            half = model(x, times_mask(1, 2)).loss
        assert half.item() == pytest.approx(full.item(), rel=0.05)
        half.backward()


# ---------------------------------------------------------------- bad settings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hybrid": {"join": "add"}}, "hybrid is set but input.features is empty"),
        ({"input": {"features": "all"}, "hybrid": {"join": "add", "in_columns": False}}, "add makes no rows"),
        ({"input": {"features": "all"}, "hybrid": {"predict_features": False, "in_columns": False}}, "no part"),
        ({"input": {"features": "all", "leads": []}, "hybrid": {"join": "add"}}, "without leads"),
        ({"input": {"features": "all", "leads": []}, "hybrid": {"predict_features": False}}, "without leads"),
        ({"input": {"leads": []}}, "no lead was given"),
        ({"input": {"features": ["heart_rat"]}}, "did you mean 'heart_rate'"),
        ({"input": {"features": ["sdnn", "sdnn"]}}, "each once"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelConfig.model_validate(values)
