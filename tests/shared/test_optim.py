"""The learning rate and the decay are what the config says, step by step."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from shared.errors import UserError
from shared.optim import OptimConfig, make_optimizer, make_schedule


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))


def config(**values: Any) -> OptimConfig:
    return OptimConfig(**{"epochs": 10, "warmup_epochs": 2, "batch_size": 256, **values})


def test_learning_rate_scales_with_the_effective_batch() -> None:
    assert OptimConfig(lr=1e-3, batch_size=1024).peak_lr == pytest.approx(4e-3)
    assert OptimConfig(lr=1e-3, batch_size=64).peak_lr == pytest.approx(2.5e-4)
    assert OptimConfig(lr=1e-3, batch_size=1024, lr_reference_batch=None).peak_lr == 1e-3
    assert OptimConfig(lr=1e-3, batch_size=1024, micro_batch=16).peak_lr == pytest.approx(4e-3)


@pytest.mark.parametrize(("warmup_epochs", "min_lr"), [(2, 0.0), (0, 1e-4), (0.5, 1e-5)])
def test_schedule_is_linear_then_half_a_cosine(warmup_epochs: float, min_lr: float) -> None:
    settings = config(lr=0.1, warmup_epochs=warmup_epochs, min_lr=min_lr)
    optimizer = make_optimizer(model(), settings)
    schedule = make_schedule(optimizer, settings, steps_per_epoch=8)
    warmup, total = round(warmup_epochs * 8), 80
    for step in range(total):
        schedule.step_update(step)
        if step < warmup:
            first = 0.1 / warmup
            expected = first + (0.1 - first) * step / warmup
        else:
            expected = min_lr + (0.1 - min_lr) * (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) / 2
        for group in optimizer.param_groups:
            assert group["lr"] == pytest.approx(expected, rel=1e-6), step


def test_schedule_depends_on_the_step_alone() -> None:
    """So that a resumed run needs no schedule state."""
    rates = []
    for first in (0, 37):
        optimizer = make_optimizer(model(), config())
        schedule = make_schedule(optimizer, config(), steps_per_epoch=8)
        for step in range(first, 41):
            schedule.step_update(step)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[0] == rates[1]


@pytest.mark.parametrize("warmup_epochs", [10, 11])
def test_warm_up_must_end_before_the_run(warmup_epochs: float) -> None:
    settings = config(warmup_epochs=warmup_epochs)
    with pytest.raises(UserError, match=rf"warmup_epochs {warmup_epochs} is not below optim\.epochs 10"):
        make_schedule(make_optimizer(model(), settings), settings, steps_per_epoch=8)


def test_decay_falls_on_matrices_only() -> None:
    network = model()
    optimizer = make_optimizer(network, config(weight_decay=0.05))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert len(decay) == len(list(network.parameters()))
    for parameter in network.parameters():
        assert decay[id(parameter)] == (0.05 if parameter.ndim > 1 else 0.0)


@pytest.mark.parametrize(
    "name", ["adamw", "sgd", "lion", "lamb", "adopt", "adabelief", "adan", "novograd", "laprop", "muon"]
)
def test_optimizers_by_name_take_a_step(name: str) -> None:
    network = model()
    optimizer = make_optimizer(network, config(optimizer=name, lr=1e-2))
    before = [p.detach().clone() for p in network.parameters()]
    for _ in range(3):
        optimizer.zero_grad()
        network(torch.randn(5, 4)).square().mean().backward()
        optimizer.step()
    assert any(not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    assert all(torch.isfinite(p).all() for p in network.parameters())


@pytest.mark.parametrize("name", ["adamw", "adopt", "lion", "adabelief"])
def test_betas_reach_every_optimizer_that_has_two(name: str) -> None:
    optimizer = make_optimizer(model(), config(optimizer=name, betas=(0.5, 0.6)))
    assert all(tuple(group["betas"]) == (0.5, 0.6) for group in optimizer.param_groups)


def test_unknown_optimizer_is_named() -> None:
    with pytest.raises(UserError, match=r"optim\.optimizer 'adamx' is not one of timm's: .*adamw"):
        make_optimizer(model(), config(optimizer="adamx"))
