"""An evaluation of several processes: the main rank evaluates and writes, the others embed their share when it embeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import torch.distributed as dist

from shared.embeddings import Options, embed_rows
from shared.errors import UserError
from shared.ranks import join_ranks, place

if TYPE_CHECKING:
    from shared.evaluation.context import Context


@contextmanager
def together() -> Iterator[None]:
    """Within it the processes that torchrun started are one group; the others are free when the main one ends, however it does."""
    rank, world, _ = join_ranks(timedelta(days=2))  # so long may protocols take that embed nothing
    try:
        yield
    except BaseException:
        with suppress(RuntimeError):  # perhaps the others have ended by the same error
            if world > 1 and rank == 0:
                tell(None)
        raise
    else:
        if world > 1:
            if rank == 0:
                tell(None)
            with suppress(RuntimeError):  # the main one has ended by an error
                dist.barrier()
    finally:
        if world > 1:
            dist.destroy_process_group()


def tell(request: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
    """What the main rank wants of the others, on all ranks."""
    box = [request]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def call_others(names: Sequence[str], indices: np.ndarray, options: Options) -> bool:
    """Have the other ranks embed their share of these rows with the main one, which goes on to embed its own."""
    if place()[1] == 1:
        return False
    tell((list(names), indices.tolist(), options))
    return True


def follow(context: Context) -> None:
    """For the other ranks: embed what the main one asks for, until it has done."""
    while (request := tell(None)) is not None:
        names, indices, options = request
        rows = {name: context.encoders[name] for name in names}
        with suppress(UserError):  # the main rank says it, and may go on
            embed_rows(
                rows, context.store, np.asarray(indices, dtype=np.int64), replace(options, device=context.device)
            )
