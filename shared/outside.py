"""Encoders from elsewhere: anything with `embed(ecg) -> [B, D]` and an InputSpec, as an object or named `module:object`."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from shared.config_keys import explain, refuse_unknown
from shared.data.spec import InputSpec
from shared.errors import UserError


class OutsideEncoder(nn.Module):
    """An outside encoder with this project's face.

    Args:
        inner: has `embed(ecg)`, or `embed(ecg, leads)` where it can do with fewer leads; `input_spec`, an InputSpec or a
            dict of its keys, at whatever rate it takes; `embed_dim`, else found by embedding.
        name: in messages.

    Attributes:
        answer: what it makes of one record of noise: weights and code that change what it does change this.

    Raises:
        UserError: one of these is missing or wrong, or it does not embed what its `input_spec` says.
    """

    def __init__(self, inner: Any, name: str) -> None:
        super().__init__()
        self.inner, self.name = inner, name  # a module among them is registered, so that devices and digests see it
        if not callable(getattr(inner, "embed", None)):
            raise UserError(f"{name} is a {type(inner).__name__} without embed(ecg) -> [B, D]; add that method.")
        self.input_spec = _read_spec(getattr(inner, "input_spec", None), name)
        self.takes_leads = "leads" in inspect.signature(inner.embed).parameters
        if hasattr(inner, "eval"):
            inner.eval()
        answer = self._try()
        self.register_buffer("answer", answer)
        self.embed_dim = int(getattr(inner, "embed_dim", answer.shape[-1]))
        if self.embed_dim != answer.shape[-1]:
            raise UserError(f"{name} says embed_dim {self.embed_dim} and embeds to {answer.shape[-1]} numbers.")
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

    @torch.no_grad()
    def _try(self) -> Tensor:
        """Its embedding `[D]` of one record of noise."""
        spec = self.input_spec
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(1, len(spec.leads) + len(spec.features), spec.num_samples, generator=generator)
        parameter = next(self.parameters(), noise)
        try:
            found = self.embed(noise.to(parameter.device))
        except UserError:
            raise
        except Exception as error:  # it is somebody's code
            raise UserError(
                f"{self.name} cannot embed {list(noise.shape)}, which its input_spec says it takes: "
                f"{type(error).__name__}: {error}"
            ) from error
        if found.ndim != 2 or len(found) != 1 or not found.isfinite().all():
            raise UserError(
                f"{self.name} makes {list(found.shape)} of {list(noise.shape)}; expected finite numbers [1, D]."
            )
        return found[0].detach().float().clone()


def _read_spec(spec: Any, name: str) -> InputSpec:
    """An encoder's `input_spec`.

    Raises:
        UserError: none, or one with a wrong key or value.
    """
    if isinstance(spec, Mapping):
        refuse_unknown(InputSpec, spec, f" (input_spec of {name})")
        try:
            return InputSpec.model_validate(spec)
        except ValidationError as error:
            lines = [explain(detail, InputSpec) for detail in error.errors()]
            raise UserError(f"input_spec of {name} is wrong:\n  " + "\n  ".join(lines)) from None
    if not isinstance(spec, InputSpec):
        raise UserError(
            f"{name} has no input_spec; expected an InputSpec (shared.data.spec) or a dict of its keys: "
            f"{', '.join(InputSpec.model_fields)}."
        )
    return spec


def as_encoder(encoder: Any) -> Any:
    """The encoder itself where it has this project's face, else that face around it.

    Raises:
        UserError: no encoder.
    """
    if isinstance(encoder, str | Path):
        raise UserError(f"{encoder} is a name; load the encoder first: load_encoder({str(encoder)!r}).")
    embed, spec = getattr(encoder, "embed", None), getattr(encoder, "input_spec", None)
    if callable(embed) and isinstance(spec, InputSpec) and "leads" in inspect.signature(embed).parameters:
        return encoder
    return OutsideEncoder(encoder, type(encoder).__name__)


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
        raise UserError(f"{name!r} names no encoder; expected module:object, e.g. my_encoders.resnet:make.")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"encoder {name!r}: {error}. The working folder is {here}; else set PYTHONPATH.") from None
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UserError(f"encoder {name!r}: {module} has no {attribute!r}.")
        found = getattr(found, part)
    if isinstance(found, type) or (callable(found) and not hasattr(found, "embed")):
        found = found()
    return OutsideEncoder(found, name)
