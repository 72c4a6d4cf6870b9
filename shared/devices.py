"""Devices, ranks and seeds of a process."""

from __future__ import annotations

import os
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist

from shared.errors import UserError


def pick_device(name: str, local_rank: int = 0) -> torch.device:
    """`auto` takes this rank's GPU where there is one.

    Raises:
        UserError: an unknown device, or a GPU that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"run.device {name!r} is not a device; expected auto, cpu, cuda or cuda:N.") from None
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError(
                f"run.device is {name!r} but no CUDA GPU is visible. Use run.device=cpu, or check the driver."
            )
        device = torch.device("cuda", device.index if device.index is not None else local_rank)
        torch.cuda.set_device(device)
    return device


def seed_everything(seed: int) -> None:
    """Seed numpy's and torch's global generators; what a model is initialised from."""
    np.random.seed(seed)  # noqa: NPY002 (libraries that use the global one)
    torch.manual_seed(seed)


def join_ranks() -> tuple[int, int, int]:
    """`(rank, world size, local rank)` as torchrun says; joins the process group where there is more than one."""
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local = int(os.environ.get("LOCAL_RANK", 0))
    if world > 1 and not dist.is_initialized():
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=timedelta(minutes=30))
    return rank, world, local
