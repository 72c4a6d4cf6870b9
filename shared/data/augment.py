"""Batch augmentations on the device, and RandAugment over them: for fine-tuning on standardised signals.

Every operation takes a batch `[B, L, T]`, a level in 0 … 1 and a generator on the batch's device. Its parameters are drawn
per record and are the same for all leads of a record, since a real shift or disturbance of the recorder is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Operation = Callable[[Tensor, float, torch.Generator], Tensor]
"""`(ecg [B, L, T], level in 0 … 1, generator)` to a new `[B, L, T]`."""

MAX_SHARE = 0.3
"""At level 1: the longest shift or stretch as a share of the window, and the amplitude of noises in standard deviations."""
APPLIED = 0.5
"""Probability with which RandAugment applies a chosen operation to a record."""


def shift(ecg: Tensor, level: float, generator: torch.Generator) -> Tensor:
    """Move left or right by U(0, 0.3 level) of the length; zeros come in."""
    batch, _, length = ecg.shape
    size = (_uniform(batch, generator) * MAX_SHARE * level * length).long()  # [B]
    left = _uniform(batch, generator) < 0.5
    source = torch.arange(length, device=ecg.device) + torch.where(left, size, -size)[:, None]  # [B, T]
    inside = (source >= 0) & (source < length)
    moved = ecg.gather(2, source.clamp(0, length - 1)[:, None].expand_as(ecg))
    return moved * inside[:, None]


def cutout(ecg: Tensor, level: float, generator: torch.Generator) -> Tensor:
    """Zero one stretch of U(0, 0.3 level) of the length."""
    return ecg.masked_fill(_stretch(ecg, level, generator)[:, None], 0)


def drop(ecg: Tensor, level: float, generator: torch.Generator) -> Tensor:
    """Zero single samples, a share of U(0, 0.3 level) of them."""
    share = _uniform(len(ecg), generator) * MAX_SHARE * level
    hit = torch.rand(len(ecg), ecg.shape[2], generator=generator, device=ecg.device) < share[:, None]
    return ecg.masked_fill(hit[:, None], 0)


def erase(ecg: Tensor, level: float, generator: torch.Generator) -> Tensor:
    """Zero one whole lead, whatever the level."""
    lead = torch.randint(ecg.shape[1], (len(ecg), 1), generator=generator, device=ecg.device)
    return ecg.masked_fill((torch.arange(ecg.shape[1], device=ecg.device) == lead)[:, :, None], 0)


def flip(ecg: Tensor, level: float, generator: torch.Generator) -> Tensor:
    """Change the sign, whatever the level."""
    return -ecg


def sine(ecg: Tensor, level: float, generator: torch.Generator) -> Tensor:
    """Add a sine of amplitude 0.3 level with 2 level cycles over the window, its phase drawn."""
    return ecg + _sine(ecg, level, generator)[:, None]


def square(ecg: Tensor, level: float, generator: torch.Generator) -> Tensor:
    """Add a square wave of amplitude 0.3 level with 2 level cycles over the window, its phase drawn."""
    return ecg + _square(ecg, level, generator)[:, None]


def white_noise(ecg: Tensor, level: float, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise of standard deviation 0.3 level."""
    return ecg + _white(ecg, level, generator)[:, None]


def partial_sine(ecg: Tensor, level: float, generator: torch.Generator) -> Tensor:
    """`sine` over one stretch of U(0, 0.3 level) of the length."""
    return ecg + (_sine(ecg, level, generator) * _stretch(ecg, level, generator))[:, None]


def partial_square(ecg: Tensor, level: float, generator: torch.Generator) -> Tensor:
    """`square` over one stretch of U(0, 0.3 level) of the length."""
    return ecg + (_square(ecg, level, generator) * _stretch(ecg, level, generator))[:, None]


def partial_white_noise(ecg: Tensor, level: float, generator: torch.Generator) -> Tensor:
    """`white_noise` over one stretch of U(0, 0.3 level) of the length."""
    return ecg + (_white(ecg, level, generator) * _stretch(ecg, level, generator))[:, None]


OPERATIONS: dict[str, Operation] = {
    "shift": shift,
    "cutout": cutout,
    "drop": drop,
    "erase": erase,
    "flip": flip,
    "sine": sine,
    "square": square,
    "white_noise": white_noise,
    "partial_sine": partial_sine,
    "partial_square": partial_square,
    "partial_white_noise": partial_white_noise,
}


def rand_augment(
    ecg: Tensor,
    level: float,
    generator: torch.Generator,
    num_operations: int = 2,
    operations: Mapping[str, Operation] = OPERATIONS,
) -> Tensor:
    """Give every record its own random operations.

    Args:
        ecg: `[B, L, T]` float, standardised.
        level: 0 … 10; the operations get level / 10.
        generator: on the device of `ecg`.
        num_operations: drawn per record without replacement; each is applied with probability 0.5, in drawn order.
        operations: to draw from.

    Returns:
        `[B, L, T]`; the input is left as it is.

    Raises:
        ValueError: a level outside 0 … 10, more operations asked for than there are, a shape other than `[B, L, T]`.

    Source: Cubuk et al., RandAugment, 2020; operations and strengths as ST-MEM's fine-tuning (arXiv 2402.09450).
    """
    if not 0 <= level <= 10:
        raise ValueError(f"level {level} given; expected a number from 0 to 10. 0 leaves out all but erase and flip.")
    if not 1 <= num_operations <= len(operations):
        raise ValueError(f"{num_operations} operations asked for; expected 1 to {len(operations)} (there are no more).")
    if ecg.ndim != 3 or not ecg.is_floating_point():
        raise ValueError(f"ecg {tuple(ecg.shape)} {ecg.dtype} given; expected a float batch [B, L, T], standardised.")
    batch = len(ecg)
    drawn = torch.rand(batch, len(operations), generator=generator, device=ecg.device).argsort(1)[:, :num_operations]
    applied = torch.rand(batch, num_operations, generator=generator, device=ecg.device) < APPLIED
    out = ecg.clone()
    for turn in range(num_operations):
        for number, operation in enumerate(operations.values()):
            chosen = ((drawn[:, turn] == number) & applied[:, turn]).nonzero()[:, 0]
            if len(chosen):
                out[chosen] = operation(out[chosen], level / 10, generator)
    return out


def _uniform(count: int, generator: torch.Generator) -> Tensor:
    """U(0, 1) `[count]` on the generator's device."""
    return torch.rand(count, generator=generator, device=generator.device)


def _stretch(ecg: Tensor, level: float, generator: torch.Generator) -> Tensor:
    """One stretch per record, of U(0, 0.3 level) of the length and anywhere it fits whole, bool `[B, T]`."""
    batch, _, length = ecg.shape
    size = _uniform(batch, generator) * MAX_SHARE * level * length
    start = _uniform(batch, generator) * (length - size)
    time = torch.arange(length, device=ecg.device)
    return (time >= start.floor()[:, None]) & (time < (start.floor() + size.floor())[:, None])


def _cycles(ecg: Tensor, level: float, generator: torch.Generator) -> Tensor:
    """Angle of 2 level cycles over the window from a drawn phase, `[B, T]`."""
    share = torch.arange(ecg.shape[2], device=ecg.device) / ecg.shape[2]
    return 2 * torch.pi * (2 * level * share + _uniform(len(ecg), generator)[:, None])


def _sine(ecg: Tensor, level: float, generator: torch.Generator) -> Tensor:
    return (MAX_SHARE * level * torch.sin(_cycles(ecg, level, generator))).to(ecg.dtype)


def _square(ecg: Tensor, level: float, generator: torch.Generator) -> Tensor:
    return (MAX_SHARE * level * torch.sin(_cycles(ecg, level, generator)).sign()).to(ecg.dtype)


def _white(ecg: Tensor, level: float, generator: torch.Generator) -> Tensor:
    noise = torch.randn(len(ecg), ecg.shape[2], generator=generator, device=ecg.device)
    return (MAX_SHARE * level * noise).to(ecg.dtype)
