"""Masks over time: drawn here with a generator, received by the model. True = masked."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ecg_jepa_modified.config import MaskConfig
from shared.errors import UserError

MAX_DRAWS = 10_000
"""Draws before a mask that cannot be had is given up: far more than any setting that works needs."""


def draw_mask(config: MaskConfig, num_patches: int, generator: torch.Generator, groups: int | None = None) -> Tensor:
    """Draw the masked times of one batch.

    A draw that leaves no context or no target is thrown away and drawn again. With several groups the masks of one
    batch must hide equally many times (they travel as one tensor): the first draw sets the number, and the others are
    drawn again until they agree, so each keeps the distribution of its kind given that number.

    Args:
        config: kind and ranges.
        num_patches: N, patches per lead.
        generator: of the CPU; the same state gives the same mask.
        groups: G, how many masks; None takes `config.groups`.

    Returns:
        bool `[N]`, or `[G, N]` where G > 1, on the CPU.

    Raises:
        UserError: the setting cannot give a mask with at least one masked and one visible time.

    Source: ECG-JEPA (arXiv 2410.08559), section 3; ranges as released. Groups are an addition of this project.
    """
    groups = config.groups if groups is None else groups
    draw = KINDS[config.kind]
    masks: list[Tensor] = []
    for _ in range(MAX_DRAWS):
        mask = draw(config, num_patches, generator)
        wanted = int(masks[0].sum()) if masks else None
        count = int(mask.sum())
        if 0 < count < num_patches and wanted in (None, count):
            masks.append(mask)
        if len(masks) == groups:
            return masks[0] if groups == 1 else torch.stack(masks)
    ratio = config.block_ratio if config.kind == "multi_block" else config.random_ratio
    raise UserError(
        f"no usable mask in {MAX_DRAWS} draws: {config.kind} masks with range {ratio[0]:g} to {ratio[1]:g} over "
        f"{num_patches} patches, {groups} group(s), must leave at least one masked and one visible time. "
        "Widen the range, use fewer groups, or use more patches per lead."
    )


def draw_random(config: MaskConfig, num_patches: int, generator: torch.Generator) -> Tensor:
    """int(N·u) times anywhere, u ~ U(random_ratio); bool `[N]`, possibly empty where N is small."""
    count = int(num_patches * _uniform(config.random_ratio, generator))
    mask = torch.zeros(num_patches, dtype=torch.bool)
    mask[torch.randperm(num_patches, generator=generator)[:count]] = True
    return mask


def draw_multi_block(config: MaskConfig, num_patches: int, generator: torch.Generator) -> Tensor:
    """Union of blocks of int(N·u) times, each with its own u ~ U(block_ratio) and start; bool `[N]`, maybe empty.

    The start is uniform in {0, …, N − length − 1}, as released: the very last time is never masked.
    """
    mask = torch.zeros(num_patches, dtype=torch.bool)
    for _ in range(config.num_blocks):
        length = int(num_patches * _uniform(config.block_ratio, generator))
        start = int(torch.randint(num_patches - length, (), generator=generator))
        mask[start : start + length] = True
    return mask


KINDS: dict[str, Callable[[MaskConfig, int, torch.Generator], Tensor]] = {
    "multi_block": draw_multi_block,
    "random": draw_random,
}


def as_groups(times: Tensor, batch: int) -> Tensor:
    """Bring indices or masks `[n]` or `[G, n]` to `[G, n]`, G a divisor of the batch."""
    groups = times[None] if times.ndim == 1 else times
    if groups.ndim != 2 or not 0 < groups.shape[0] <= batch or batch % groups.shape[0]:
        raise UserError(
            f"one mask [n], or [G, n] with G dividing the batch of {batch}, is expected; got {list(times.shape)}."
        )
    return groups


def masks_of(mask: Tensor, batch: int, first: int, number: int) -> Tensor:
    """The masks of some records of a batch: of `number` from `first` on.

    Args:
        mask: `[N]` or `[G, N]` of the whole batch; each of the G serves an equal, contiguous part of it.
        batch: records in it.
        first, number: which records.

    Raises:
        UserError: G does not divide the batch, or the records begin or end within the part of one mask and hold more.
    """
    groups = as_groups(mask, batch)
    each, last = batch // len(groups), first + number
    if first // each == (last - 1) // each:
        return groups[first // each]
    if first % each or last % each:
        raise UserError(
            f"{len(groups)} masks (mask.groups) over a batch of {batch} serve {each} records each, which does not fit the "
            f"{number} that are trained on at a time. Choose groups, optim.micro_batch and processes that divide the batch."
        )
    return groups[first // each : last // each]


@torch.compiler.disable  # its sizes depend on the values; outside the graph, a new count is only a new shape
def split_times(mask: Tensor, num_patches: int, batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Check a mask `[N]` or `[G, N]` and list its visible `[G, Nvis]` and masked `[G, Nmask]` times, each in order.

    They arrive on the device without the host waiting for it. Their lengths are said to change from step to step, so that
    a compiled model is compiled once for all of them, and for one size of everything else.

    Raises:
        UserError: a wrong dtype or length, nothing or all masked, groups that differ in count or do not fit the batch.
    """
    if mask.dtype != torch.bool or mask.shape[-1:] != (num_patches,):
        raise UserError(
            f"mask must be bool [{num_patches}], one value per patch of a lead; got {mask.dtype} {list(mask.shape)}."
        )
    groups = as_groups(mask, batch)
    counts = groups.sum(dim=1).tolist()
    if not 0 < min(counts) == max(counts) < num_patches:
        raise UserError(
            f"mask hides {', '.join(map(str, counts))} of {num_patches} times; every group must hide the same number, "
            f"at least 1 and at most {num_patches - 1}. Draw it with ecg_jepa_modified.masking.draw_mask."
        )
    order = groups.to(torch.uint8).argsort(dim=1, stable=True)
    if device.type == "cuda" and not order.is_cuda:
        order = order.pin_memory().to(device, non_blocking=True)
    times = order[:, : num_patches - counts[0]], order[:, num_patches - counts[0] :]
    for ids in times:
        torch._dynamo.maybe_mark_dynamic(ids, 1)
    return times


def _uniform(limits: tuple[float, float], generator: torch.Generator) -> float:
    low, high = limits
    return low + (high - low) * torch.rand((), dtype=torch.float64, generator=generator).item()
