"""Optimizer by name and schedule, from timm; both a function of the step alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from shared.config import Section
from shared.errors import UserError

if TYPE_CHECKING:
    from timm.scheduler.scheduler import Scheduler


FUSED = ("adam", "adamw")
"""Optimizers that are one kernel on a GPU; on a CPU they stay as they are, to the bit."""


class OptimConfig(Section):
    """How a model is trained. `batch_size` is the effective one, over all GPUs and accumulation steps.

    A method's own recipe is a subclass beside its model.
    """

    optimizer: str = Field("adamw", description="any timm optimizer")
    epochs: int = Field(100, ge=1)
    batch_size: int = Field(256, ge=1)
    micro_batch: int | None = Field(None, ge=1, description="records per GPU at a time; the rest is accumulated")
    lr: float = Field(1e-3, gt=0)
    lr_reference_batch: int | None = Field(
        256, ge=1, description="the learning rate is lr x batch_size / this; null takes lr as it is"
    )
    schedule: Literal["cosine", "constant"] = Field(
        "cosine",
        description="after warm-up: half a cosine to min_lr, or lr to the end, which lets a run be made longer",
    )
    min_lr: float = Field(0.0, ge=0)
    warmup_epochs: float = Field(0.0, ge=0)
    weight_decay: float = Field(0.05, ge=0, description="not on biases, norms and other 1-D parameters")
    betas: tuple[float, float] = (0.9, 0.999)
    clip_grad: float | None = Field(None, gt=0, description="largest norm of the whole gradient")

    @model_validator(mode="after")
    def _parts(self) -> OptimConfig:
        if self.micro_batch is not None and self.micro_batch > self.batch_size:
            raise ValueError(
                f"micro_batch {self.micro_batch} is above batch_size {self.batch_size}, of which it is a part"
            )
        return self

    @property
    def fixed_epochs(self) -> str | None:
        """Why `epochs` of a begun run may not change; None: it may."""
        if self.schedule == "constant":
            return None
        return "the learning rate falls along a cosine over optim.epochs, which optim.schedule=constant would not"

    @property
    def peak_lr(self) -> float:
        """The learning rate after warm-up."""
        return self.lr * self.batch_size / self.lr_reference_batch if self.lr_reference_batch else self.lr


def make_optimizer(model: nn.Module, config: OptimConfig, layer_decay: float | None = None) -> torch.optim.Optimizer:
    """The optimizer by timm's name, weight decay on matrices only.

    Args:
        model: parameters that take no gradient are left out; `group_matcher` tells its layers (timm).
        config: how to train.
        layer_decay: the learning rate of each layer is this much below the next one's; None: the same for all.

    Raises:
        UserError: timm knows no such optimizer.
    """
    import timm.optim  # here and below: seconds that `--help` need not wait

    names = [str(name) for name in timm.optim.list_optimizers()]
    if config.optimizer not in names:
        raise UserError(f"optim.optimizer {config.optimizer!r} is not one of timm's: {', '.join(names)}.")
    info = timm.optim.get_optimizer_info(config.optimizer)
    more: dict[str, Any] = {"betas": config.betas} if info.has_betas and info.num_betas == 2 else {}
    if config.optimizer in FUSED and all(parameter.is_cuda for parameter in model.parameters()):
        more["fused"] = True
    optimizer = timm.optim.create_optimizer_v2(
        model,
        opt=config.optimizer,
        lr=config.peak_lr,
        weight_decay=config.weight_decay,
        layer_decay=layer_decay,
        **more,
    )
    own = {name: optimizer.defaults[name] for name in ("fused", "foreach") if name in optimizer.defaults}
    # A checkpoint of another device holds that device's way of computing, which must not come with the state.
    optimizer.register_load_state_dict_pre_hook(
        lambda _, state: {**state, "param_groups": [{**group, **own} for group in state["param_groups"]]}
    )
    return optimizer


def make_schedule(optimizer: torch.optim.Optimizer, config: OptimConfig, steps_per_epoch: int) -> Scheduler:
    """Linear warm-up, then half a cosine to `min_lr` or the same rate to the end; call `step_update(step)` before each step."""
    from timm.scheduler import CosineLRScheduler, StepLRScheduler

    warmup = round(config.warmup_epochs * steps_per_epoch)
    total = config.epochs * steps_per_epoch
    if warmup >= total:
        raise UserError(f"optim.warmup_epochs {config.warmup_epochs:g} is not below optim.epochs {config.epochs}.")
    rise: dict[str, Any] = {
        "warmup_t": warmup,
        "warmup_lr_init": config.peak_lr / max(warmup, 1),
        "warmup_prefix": True,
    }
    if config.schedule == "constant":
        return StepLRScheduler(optimizer, decay_t=total, decay_rate=1.0, **rise, t_in_epochs=False)
    return CosineLRScheduler(optimizer, t_initial=total - warmup, lr_min=config.min_lr, **rise, t_in_epochs=False)
