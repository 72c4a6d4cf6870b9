"""Encoders from elsewhere: anything with `embed(ecg) -> [B, D]` and an InputSpec, named `module:object` in the config."""

from __future__ import annotations

import copy
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shared.data.spec import InputSpec
from shared.errors import UserError
from shared.evaluation.config import EvaluateConfig
from shared.evaluation.context import RANDOM
from shared.evaluation.rows import Rows


class OutsideEncoder(nn.Module):
    """An outside encoder with this project's face.

    Args:
        inner: has `embed(ecg)`, or `embed(ecg, leads)` where it can do with fewer leads; `input_spec`, an InputSpec or a
            dict of its keys; `embed_dim`, else found by embedding one record of zeros.
        name: in messages.

    Raises:
        UserError: one of these is missing or wrong.
    """

    def __init__(self, inner: Any, name: str) -> None:
        super().__init__()
        self.inner, self.name = inner, name  # a module among them is registered, so that devices and digests see it
        if not callable(getattr(inner, "embed", None)):
            raise UserError(f"{name} is a {type(inner).__name__} without embed(ecg) -> [B, D]; add that method.")
        spec = getattr(inner, "input_spec", None)
        if isinstance(spec, Mapping):
            spec = InputSpec.model_validate(spec)
        if not isinstance(spec, InputSpec):
            raise UserError(
                f"{name} has no input_spec; expected an InputSpec (shared.data.spec) or a dict of its keys: "
                f"{', '.join(InputSpec.model_fields)}."
            )
        self.input_spec = spec
        self.takes_leads = "leads" in inspect.signature(inner.embed).parameters
        if hasattr(inner, "eval"):
            inner.eval()
        dim = getattr(inner, "embed_dim", None)
        if dim is None:
            with torch.no_grad():
                dim = self.embed(torch.zeros(1, len(spec.leads), spec.num_samples)).shape[-1]
        self.embed_dim = int(dim)
        if hasattr(inner, "tokens"):
            self.tokens = inner.tokens

    def embed(self, ecg: Tensor, leads: Sequence[str] | None = None) -> Tensor:
        """`[B, L, T]`, preprocessed as `input_spec` says, to `[B, D]`.

        Raises:
            UserError: fewer leads for an encoder that takes all of its own only.
        """
        if self.takes_leads:
            return torch.as_tensor(self.inner.embed(ecg, leads=leads))
        if leads is not None and tuple(leads) != self.input_spec.leads:
            raise UserError(f"{self.name}: embed(ecg) takes all of its leads; give it a `leads` argument to use fewer.")
        return torch.as_tensor(self.inner.embed(ecg))


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


def load_outside(name: str) -> OutsideEncoder:
    """The encoder that `module:object` names.

    Args:
        name: of an encoder, or of a class or function that makes one when called without arguments. The module is
            looked for where Python looks, and in the working folder.

    Raises:
        UserError: no such module or object, or no encoder.
    """
    module, colon, attribute = name.partition(":")
    if not colon or not module or not attribute:
        raise UserError(f"encoder.module is {name!r}; expected module:object, e.g. my_encoders.resnet:make.")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"encoder.module {name!r}: {error}. The working folder is {here}; else set PYTHONPATH."
        ) from None
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UserError(f"encoder.module {name!r}: {module} has no {attribute!r}.")
        found = getattr(found, part)
    if isinstance(found, type) or (callable(found) and not hasattr(found, "embed")):
        found = found()
    return OutsideEncoder(found, name)


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
