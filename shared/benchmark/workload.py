"""What a method gives to be measured, and how its useful FLOPs are counted.

A multiply-add is two. Only products are counted (linear layers and the two of attention, over the pairs of tokens that see
each other); norms, activations, softmax, the optimizer and the teacher's average are left out, as they are a few per
thousand. Whatever an implementation computes beyond that (masked scores, recomputed activations, padding) is not useful
and does not count. A training step is **three** forward passes of what is trained, since its backward pass is two products
of the same size for each of the forward's, and **one** of a teacher. The first layer has no gradient of its input, so
three is too much by less than a thousandth.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from shared.checkpoints import packages
from shared.config import Section
from shared.data.spec import InputSpec
from shared.errors import UserError, did_you_mean
from shared.optim import OptimConfig


@dataclass(frozen=True)
class Workload:
    """A model and what one step of its training is.

    Attributes:
        model: called with `(ecg, drawn)`, gives terms with `loss`.
        encoder: the part of it that embeds.
        spec: its input; ecg is `[B, L, T]`, features below the leads.
        optim: the method's own recipe.
        draw: from a batch size and a generator of the CPU what hides patches, as the training draws it.
        step_flops: useful FLOPs of a step on so many records with that.
        embed_flops: of embedding one record.
        after: what the training does after the optimizer's step.
    """

    model: nn.Module
    encoder: Any
    spec: InputSpec
    optim: OptimConfig
    draw: Callable[[int, torch.Generator], Tensor]
    step_flops: Callable[[int, Tensor], float]
    embed_flops: float
    after: Callable[[], object] = field(default=lambda: None)

    def ecg(self, batch: int, device: torch.device) -> Tensor:
        """Noise in the shape of a batch: speed does not depend on the values."""
        rows = len(self.spec.leads) + len(self.spec.features)
        generator = torch.Generator().manual_seed(0)
        return torch.rand(batch, rows, self.spec.num_samples, generator=generator).to(device)


@dataclass(frozen=True)
class Maker:
    """How a model is made: called with the values of its config, e.g. `{"size": "base"}`.

    Attributes:
        config: what the values must be.
        make: the workload of them.
    """

    config: type[Section]
    make: Callable[[Mapping[str, Any]], Workload]

    def __call__(self, values: Mapping[str, Any]) -> Workload:
        return self.make(values)


def linear_flops(tokens: float, inputs: int, outputs: int) -> float:
    """Of one linear layer."""
    return 2.0 * tokens * inputs * outputs


def block_flops(tokens: float, pairs: float, dim: int, inner: int, mlp_ratio: float) -> float:
    """Of a transformer block.

    Args:
        tokens: in all sequences.
        pairs: query and key, that see each other; of n tokens that see all, n².
        dim, inner, mlp_ratio: its width, that of all heads together, and of the MLP's hidden layer.
    """
    linear = 3 * inner * dim + inner * dim + 2 * dim * int(dim * mlp_ratio)
    return 2.0 * tokens * linear + 4.0 * pairs * inner


def training_flops(trained: float, teacher: float = 0.0) -> float:
    """Of a step, from those of the forward passes."""
    return 3.0 * trained + teacher


def all_models() -> dict[str, Maker]:
    """Every method's `MODELS`, found by name: `shared` does not know the methods."""
    tables = [importlib.import_module(f"{package}.benchmark").MODELS for package in packages()]
    return {name: maker for table in tables for name, maker in table.items()}


def pick_models(names: tuple[str, ...]) -> dict[str, Maker]:
    """Those of these names; of none, all.

    Raises:
        UserError: there is none of a name.
    """
    known = all_models()
    for name in names:
        if name not in known:
            raise UserError(f"models: no {name!r}{did_you_mean(name, known)} There are {', '.join(known)}.")
    return {name: known[name] for name in names or known}
