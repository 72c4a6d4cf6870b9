"""Training spread over ranks by parameters (FSDP2): each rank keeps a share of the weights, gradients and moments.

The weights of a block are gathered where it is computed. Checkpoints are gathered to what one rank would write, so a run goes on
from one to the other.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from shared.errors import UserError
from shared.nn import Block

if TYPE_CHECKING:
    from shared.run import RunConfig

M = TypeVar("M", bound=nn.Module)
METHODS = ("st_mem", "ecg_jepa")
"""Pretrainings that are trained so; the other loops use the model in parts, or codes that every step counts."""


class Sharding:
    """The ranks over which a model is spread.

    Args:
        device: of this rank.
        rank, world_size: this process and their number.
    """

    def __init__(self, device: torch.device, rank: int, world_size: int) -> None:
        self.device, self.rank = device, rank
        self.mesh = init_device_mesh(device.type, (world_size,))
        self._copy: nn.Module | None = None

    def shard(self, model: M) -> M:
        """Spread a model, the same on all ranks, in place: each transformer block is a group, and what is left is one."""
        self._copy = copy.deepcopy(model) if self.rank == 0 else None  # before it is on the device: in host memory
        model = model.to(self.device)
        # The terms of a loss are views at times; nothing here changes them in place, which is what it warns of.
        warnings.filterwarnings("ignore", "FSDP2-wrapped module", UserWarning)
        for module in model.modules():
            if isinstance(module, Block):
                fully_shard(module, mesh=self.mesh)
        fully_shard(model, mesh=self.mesh)
        return model

    def whole(self, model: M) -> M:
        """On the main rank a copy of the sharded model that is whole; all ranks call it, others get back the model."""
        weights = self.gather(model.state_dict())
        if self._copy is None:
            return model
        self._copy.load_state_dict(weights)
        return cast(M, self._copy.to(self.device))

    def exchange(self, model: nn.Module, wanted: bool) -> None:
        """Whether the next backward pass exchanges gradients, or adds them up on each rank."""
        assert isinstance(model, FSDPModule)
        model.set_requires_gradient_sync(wanted)

    def gather(self, content: Any) -> Any:
        """Whole tensors in the main rank's host memory of those that are spread, None elsewhere; all ranks call it alike.

        Args:
            content: tensors, objects with `state_dict` and other values in dicts, lists and tuples.
        """
        if isinstance(content, DTensor):
            whole = content.full_tensor()
            return whole.cpu() if self.rank == 0 else None
        if hasattr(content, "state_dict"):
            content = content.state_dict()
        if isinstance(content, Mapping):
            return {key: self.gather(value) for key, value in content.items()}
        if isinstance(content, (list, tuple)):
            return type(content)(self.gather(value) for value in content)
        return content


def make_sharding(config: RunConfig, method: str, device: torch.device, rank: int, world_size: int) -> Sharding | None:
    """For `run.parallel=fsdp`; None where there is one process, which trains as ever.

    Raises:
        UserError: another loop than these pretrainings, float16, or a compiled model.
    """
    if method not in METHODS:
        raise UserError(f"run.parallel=fsdp trains {' and '.join(METHODS)}, not {method}. Use run.parallel=ddp.")
    if config.precision == "fp16":
        raise UserError("run.parallel=fsdp has no loss scaling: run.precision=fp16 needs ddp. Use run.precision=bf16.")
    if config.compile not in (False, "auto"):  # auto compiles no sharded model
        raise UserError("run.parallel=fsdp is not for compiled models. Set run.compile=false, or run.parallel=ddp.")
    return Sharding(device, rank, world_size) if world_size > 1 else None


def spread_like(own: Mapping[str, Tensor], whole: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors spread as those of the same name and shape are; others as they are."""
    return {name: _spread(value, own.get(name)) for name, value in whole.items()}


def spread_moments(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> dict[str, Any]:
    """The state dict of an optimizer, its moments spread as the optimizer's parameters are."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    keys = [key for group in saved["param_groups"] for key in group["params"]]
    of_key = dict(zip(keys, parameters, strict=True))
    state = {
        key: {name: _spread(v, of_key[key]) if isinstance(v, Tensor) else v for name, v in values.items()}
        for key, values in saved["state"].items()
    }
    return {**saved, "state": state}


def _spread(value: Tensor, own: Tensor | None) -> Tensor:
    if not isinstance(own, DTensor) or own.shape != value.shape:
        return value
    # Every rank has read the file: each takes its own share of it.
    return distribute_tensor(value.to(own.device), own.device_mesh, own.placements, src_data_rank=None)
