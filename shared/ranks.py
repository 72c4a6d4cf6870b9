"""The processes of one run: which this is, on what device, and what all must have in common."""

from __future__ import annotations

import hashlib
import os
from datetime import timedelta

import torch
import torch.distributed as dist

from shared.errors import UserError


def join_ranks() -> tuple[int, int, int]:
    """`(rank, world size, local rank)` as torchrun says; joins the process group where there is more than one."""
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local = int(os.environ.get("LOCAL_RANK", 0))
    if world > 1 and not dist.is_initialized():
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=timedelta(minutes=30))
    return rank, world, local


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
        raise UserError(f"{name!r} is not a device; expected auto, cpu, cuda or cuda:N.") from None
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError(f"device is {name!r} but no CUDA GPU is visible. Use cpu, or check the driver.")
        own = local_rank % torch.cuda.device_count()  # a task of Slurm may see its own GPU only
        device = torch.device("cuda", device.index if device.index is not None else own)
        torch.cuda.set_device(device)
    return device


def require_alike(what: str, value: str) -> None:
    """Refuse to train where `value` is not the same on all ranks; nothing where there is one.

    Args:
        what: what the user is told, with its article.
        value: a fingerprint, or a text of which one is taken.

    Raises:
        UserError: on every rank, where one has another.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    found: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(found, hashlib.blake2b(value.encode(), digest_size=16).hexdigest())
    other = [str(rank) for rank, text in enumerate(found) if text != found[0]]
    if other:
        dist.barrier()  # all have what they need, and can end
        raise UserError(
            f"{what} differs between the {len(found)} processes of this run: rank {', '.join(other)} has another than rank "
            "0. Start all with the same command, on the same files and the same version of this project."
        )
