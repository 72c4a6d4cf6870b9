"""The tuned model on either method's encoder: who gets gradients, what is embedded; settings that contradict each other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from ecg_jepa_modified.config import ModelConfig as JEPAConfig
from ecg_jepa_modified.model import make_encoder
from shared.config import load_config
from shared.errors import UserError
from shared.triplet.losses import TripletLossConfig, make_loss
from shared.triplet.model import HeadConfig, TripletModel
from st_mem_modified.config import ModelConfig
from st_mem_modified.model import STMEMEncoder
from st_mem_modified.triplet import TripletConfig

SMALL_ENCODER = {
    "embed_dim": 16,
    "depth": 2,
    "num_heads": 1,
    "head_dim": 16,
    "decoder_dim": 16,
    "decoder_depth": 1,
    "decoder_heads": 1,
    "input": {"num_samples": 450},
}


def stmem() -> nn.Module:
    return STMEMEncoder(ModelConfig.model_validate(SMALL_ENCODER))


def jepa() -> nn.Module:
    sizes = {"size": "tiny", "embed_dim": 16, "depth": 2, "drop_path": 0.0, "input": {"num_samples": 450}}
    return make_encoder(JEPAConfig.model_validate(sizes))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["head.embed=before"], "would evaluate the untuned encoder"),
        (["per_class=12"], "divide optim.batch_size 128"),
        (["optim.micro_batch=4"], "triplets are formed within a whole batch"),
    ],
)
def test_settings_that_contradict_each_other(given: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config(TripletConfig, "configs/st_mem/triplet.yaml", given)


@pytest.mark.parametrize("what", ["none", "last_blocks", "all"])
@pytest.mark.parametrize("make", [stmem, jepa])
def test_gradients_reach_what_was_asked(make: Callable[[], nn.Module], what: str) -> None:
    model = TripletModel(make(), HeadConfig())
    model.let_learn(what, 1)
    ecg = torch.randn(6, len(model.input_spec.leads), 450, generator=torch.Generator().manual_seed(0))
    labels = torch.eye(3, dtype=torch.bool)[torch.arange(6) % 3]
    make_loss(TripletLossConfig(margin=2.0))(model(ecg), labels).loss.backward()
    touched = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    head = {name for name, _ in model.named_parameters() if name.startswith("head.")}
    last = {name for name, _ in model.named_parameters() if name.startswith(("encoder.blocks.1.", "encoder.norm."))}
    everything = {name for name, _ in model.named_parameters()}
    assert touched == {"none": head, "last_blocks": head | last, "all": everything}[what]
    with pytest.raises(UserError, match="the encoder has 2 blocks"):
        model.let_learn("last_blocks", 3)


@pytest.mark.parametrize("make", [stmem, jepa])
def test_embedding_before_and_after_the_head(make: Callable[[], nn.Module]) -> None:
    config = HeadConfig(hidden=(64,), dim=9)
    model = TripletModel(make(), config).eval()
    ecg = torch.randn(2, len(model.input_spec.leads), 450, generator=torch.Generator().manual_seed(0))
    after = model.embed(ecg)
    assert after.shape == (2, 9) == (2, model.embed_dim)
    torch.testing.assert_close(after.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(model(model.encoder.embed(ecg)), after)
    assert [tuple(p.shape) for p in model.head.parameters()] == [(64, 16), (64,), (9, 64), (9,)]
    before = TripletModel(make(), config.model_copy(update={"embed": "before"}))
    assert before.embed(ecg).shape == (2, 16)
