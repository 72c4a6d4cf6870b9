"""Masks over time: counts, shapes, reproducibility, and no empty side."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from ecg_jepa_modified.config import MaskConfig
from ecg_jepa_modified.masking import as_groups, draw_mask, split_times
from shared.errors import UserError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def runs_of(mask: torch.Tensor) -> list[int]:
    """Lengths of the stretches of masked times."""
    return [len(part) for part in "".join("1" if masked else "0" for masked in mask).split("0") if part]


def test_random_masks_hide_the_asked_share() -> None:
    generator = seeded()
    masks = torch.stack([draw_mask(MaskConfig(kind="random"), 50, generator) for _ in range(400)])
    assert masks.dtype == torch.bool
    assert masks.shape == (400, 50)
    counts = masks.sum(1)
    assert set(counts.tolist()) <= {30, 31, 32, 33, 34}  # int(50·u), u in [0.6, 0.7)
    assert len(set(counts.tolist())) >= 5
    assert (masks.float().mean(0) - 0.64).abs().max() < 0.12  # no time is favoured


def test_multi_block_masks_are_unions_of_at_most_four_blocks() -> None:
    generator = seeded()
    masks = [draw_mask(MaskConfig(), 50, generator) for _ in range(400)]
    for mask in masks:
        runs = runs_of(mask)
        assert 1 <= len(runs) <= 4
        assert min(runs) >= 8  # int(50·0.175)
        assert 8 <= int(mask.sum()) <= 44
        assert not mask[-1]  # starts end at N − length − 1, as released
    mean = torch.stack(masks).float().mean().item()
    assert 0.45 < mean < 0.65


@pytest.mark.parametrize("kind", ["random", "multi_block"])
def test_groups_hide_equally_many_times_and_differ(kind: str) -> None:
    masks = draw_mask(MaskConfig.model_validate({"kind": kind, "groups": 4}), 50, seeded())
    assert masks.shape == (4, 50)
    assert len(set(masks.sum(1).tolist())) == 1
    assert len({tuple(mask.tolist()) for mask in masks}) == 4
    assert draw_mask(MaskConfig.model_validate({"kind": kind, "groups": 4}), 50, seeded(), groups=1).shape == (50,)


@pytest.mark.parametrize("kind", ["random", "multi_block"])
def test_same_generator_state_same_mask(kind: str) -> None:
    config = MaskConfig.model_validate({"kind": kind})
    assert torch.equal(draw_mask(config, 50, seeded(3)), draw_mask(config, 50, seeded(3)))
    assert not torch.equal(draw_mask(config, 50, seeded(3)), draw_mask(config, 50, seeded(4)))


def test_empty_and_full_draws_are_drawn_again() -> None:
    """Over two times, int(2·u) is 0 for half of the draws, and four blocks may hide everything over few."""
    generator = seeded()
    wide = MaskConfig(kind="random", random_ratio=(0.01, 0.99))
    assert all(int(draw_mask(wide, 2, generator).sum()) == 1 for _ in range(50))
    blocks = MaskConfig(block_ratio=(0.01, 0.99))
    assert all(0 < int(draw_mask(blocks, 3, generator).sum()) < 3 for _ in range(50))


def test_impossible_masks_are_refused() -> None:
    with pytest.raises(UserError, match=r"no usable mask.*over 1 patches.*at least one masked"):
        draw_mask(MaskConfig(kind="random"), 1, seeded())


@pytest.mark.parametrize(
    "values", [{"random_ratio": (0.7, 0.6)}, {"block_ratio": (0.0, 0.5)}, {"groups": 0}, {"kind": "x"}]
)
def test_bad_settings_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        MaskConfig.model_validate(values)


def test_split_lists_both_sides_in_order() -> None:
    mask = torch.tensor([[0, 1, 0, 1, 1], [1, 1, 0, 0, 1]], dtype=torch.bool)
    visible, masked = split_times(mask, 5, batch=4, device=torch.device("cpu"))
    assert visible.tolist() == [[0, 2], [2, 3]]
    assert masked.tolist() == [[1, 3, 4], [0, 1, 4]]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.zeros(5, dtype=torch.bool), r"hides 0 of 5 times"),
        (torch.ones(5, dtype=torch.bool), r"hides 5 of 5 times"),
        (torch.arange(5) > 2, None),
        (torch.arange(4) > 2, r"bool \[5\].*\[4\]"),
        (torch.arange(5), r"bool \[5\].*torch.int64"),
        (torch.tensor(True), r"bool \[5\]"),
        (torch.tensor([[1, 0, 0, 0, 0], [1, 1, 0, 0, 0]]).bool(), r"hides 1, 2 of 5"),
        ((torch.arange(5) > 2).expand(3, 5), r"G dividing the batch of 4.*\[3, 5\]"),
        ((torch.arange(5) > 2).expand(1, 1, 5), r"G dividing the batch"),
    ],
)
def test_a_wrong_mask_is_named(mask: torch.Tensor, message: str | None) -> None:
    if message is None:
        split_times(mask, 5, batch=4, device=torch.device("cpu"))
    else:
        with pytest.raises(UserError, match=message):
            split_times(mask, 5, batch=4, device=torch.device("cpu"))


def test_groups_keep_their_masks() -> None:
    assert as_groups(torch.arange(3), 4).shape == (1, 3)
    assert as_groups(torch.zeros(2, 3), 4).shape == (2, 3)
