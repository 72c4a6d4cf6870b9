"""The processes of one run: which this is, on what device, and what all must have in common."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist

from shared.errors import UserError


def join_ranks(patience: timedelta = timedelta(minutes=30)) -> tuple[int, int, int]:
    """`(rank, world size, local rank)` as torchrun says; joins the process group where there is more than one.

    Args:
        patience: how long one waits for another.
    """
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local = int(os.environ.get("LOCAL_RANK", 0))
    if world > 1 and not dist.is_initialized():
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=patience)
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


def place() -> tuple[int, int]:
    """`(rank, world size)` of the group that this process belongs to; `(0, 1)` where there is none."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def local_rank() -> int:
    """Which GPU of its machine is this process's; 0 where there is no group."""
    return int(os.environ.get("LOCAL_RANK", 0)) if dist.is_initialized() else 0


def own_batches(num: int, batch_size: int) -> slice:
    """Rows of this rank where `num` rows are dealt out over the ranks in whole batches, in order."""
    rank, world = place()
    batches = -(-num // batch_size)
    return slice(*(min(num, batches * r // world * batch_size) for r in (rank, rank + 1)))


def put_together(parts: Sequence[np.ndarray], device: torch.device, error: Exception | None = None) -> None:
    """Give all ranks the rows of all, to the bit; all ranks call it alike.

    Args:
        parts: float32 arrays `[n, …]` in which each row was filled by one rank and is zero elsewhere; changed in place.
        device: where the ranks exchange.
        error: why this rank has none.

    Raises:
        UserError: a rank has none; there its own error.
    """
    failed = torch.tensor(int(error is not None), device=device)
    dist.all_reduce(failed, op=dist.ReduceOp.MAX)
    if error is not None:
        raise error
    if failed:
        raise UserError("another process could not embed its part of the records; its error stands above.")
    for part in parts:
        bits = torch.from_numpy(part.view(np.int32)).to(device)  # of integers, a sum with zeros keeps every bit
        dist.all_reduce(bits)
        part.view(np.int32)[...] = bits.cpu().numpy()
