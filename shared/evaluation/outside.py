"""The rows of an encoder from elsewhere: itself, a control, and the store at the rate that it takes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from shared.data.resampled import at_rate
from shared.errors import UserError
from shared.evaluation.config import EvaluateConfig
from shared.evaluation.context import RANDOM, Context
from shared.evaluation.rows import Rows
from shared.outside import OutsideEncoder, load_outside


class RandomProjection(nn.Module):
    """The control of an encoder that is no module: a fixed random linear map of the record to as many numbers."""

    def __init__(self, like: OutsideEncoder, seed: int) -> None:
        super().__init__()
        self.input_spec, self.embed_dim = like.input_spec, like.embed_dim
        size = len(self.input_spec.leads) * self.input_spec.num_samples
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("weight", torch.randn(size, self.embed_dim, generator=generator) / size**0.5)

    def embed(self, ecg: Tensor, leads: Sequence[str] | None = None) -> Tensor:
        """`[B, L, T]` to `[B, D]`; leads that are not given count as zero."""
        own = self.input_spec.leads
        rows = list(range(len(own))) if leads is None else [own.index(name) for name in leads]
        weight = self.weight.view(len(own), -1, self.embed_dim)[rows].flatten(0, 1)  # type: ignore[operator]
        return ecg.flatten(1) @ weight.to(ecg.dtype)


def untrained(encoder: OutsideEncoder, seed: int) -> tuple[nn.Module, str]:
    """A control for an outside encoder, and what it is.

    Layers that know how (`reset_parameters`) draw their weights anew; other parameters are shuffled within themselves, which
    keeps their scale and loses what they learned.
    """
    if not isinstance(encoder.inner, nn.Module):
        return RandomProjection(encoder, seed), "a random linear map of the record, as the encoder is no torch module"
    made = copy.deepcopy(encoder)
    shuffled = 0
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        done: set[int] = set()
        for layer in made.modules():
            reset: Callable[[], object] | None = getattr(layer, "reset_parameters", None)
            if callable(reset):
                reset()
                done |= {id(p) for p in layer.parameters(recurse=False)}
        for parameter in made.parameters():
            if id(parameter) not in done:
                shuffled += 1
                order = torch.randperm(parameter.numel())
                parameter.data.copy_(parameter.data.flatten()[order].view_as(parameter))
    if hasattr(made.inner, "tokens"):
        made.tokens = made.inner.tokens
    return made, f"weights drawn anew by reset_parameters, {shuffled} tensors without it shuffled within themselves"


def outside_rows(config: EvaluateConfig) -> tuple[Rows, Path]:
    """The rows of the encoder that `encoder.module` names, and where the report goes.

    Raises:
        UserError: weights beside a module, or no `out`.
    """
    assert config.encoder.module is not None
    if config.encoder.weights is not None:
        raise UserError("encoder.weights and encoder.module are both set: an outside encoder brings its own weights.")
    if config.out is None:
        raise UserError(
            "out is not set: an outside encoder has no run folder, so say where the results go, e.g. out=runs/other."
        )
    encoder = load_outside(config.encoder.module)
    control, what = untrained(encoder, config.seed)
    return Rows(config.encoder.module, encoder, control, notes=(f"{RANDOM}: {what}",)), config.out


def at_its_rate(context: Context, encoder: nn.Module) -> tuple[Context, list[str]]:
    """The context with its records resampled on reading, where an outside encoder takes another rate; and a note of it.

    Encoders of this project were trained on stores, and take one at their rate.
    """
    store = context.store
    if not isinstance(encoder, OutsideEncoder) or encoder.input_spec.fs == store.fs:
        return context, []
    to = encoder.input_spec.fs
    note = f"records of {store.fs:g} Hz were resampled to the {to:g} Hz of {encoder.name} as they were read"
    if to > store.fs:
        note += f": nothing above {store.fs / 2:g} Hz is in them, which it may have been trained to see"
    return replace(context, store=at_rate(store, to)), [note]
