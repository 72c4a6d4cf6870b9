"""Augmentations: each does what it says, per record and alike on all leads, and RandAugment mixes them."""

from __future__ import annotations

import pytest
import torch

from shared.data.augment import OPERATIONS, cutout, drop, erase, flip, rand_augment, shift, white_noise

BATCH, LEADS, LENGTH = 64, 3, 200


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def ecg():
    return torch.randn(BATCH, LEADS, LENGTH, generator=generator(9)) + 5  # no sample is 0


@pytest.mark.parametrize("name", OPERATIONS)
def test_shape_seed_and_input_untouched(ecg, name):
    before = ecg.clone()
    first = OPERATIONS[name](ecg, 1.0, generator())
    assert first.shape == ecg.shape and first.dtype == ecg.dtype and torch.equal(ecg, before)
    assert torch.equal(first, OPERATIONS[name](ecg, 1.0, generator()))
    if name != "flip":
        assert not torch.equal(first, OPERATIONS[name](ecg, 1.0, generator(1)))


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in ("erase", "flip")])
def test_level_0_changes_nothing(ecg, name):
    assert torch.equal(OPERATIONS[name](ecg, 0.0, generator()), ecg)


@pytest.mark.parametrize("name", ["sine", "square", "white_noise", "partial_sine", "partial_white_noise"])
def test_additions_are_the_same_on_all_leads_and_differ_between_records(ecg, name):
    added = OPERATIONS[name](ecg, 1.0, generator()) - ecg
    torch.testing.assert_close(added, added[:, :1].expand_as(added), atol=2e-6, rtol=0)
    assert len({tuple(x.round(decimals=3).tolist()) for x in added[:, 0]}) > BATCH / 2


def test_shift_equals_loop(ecg):
    moved = shift(ecg, 1.0, generator())
    sizes = []
    for record, result in zip(ecg, moved, strict=True):
        zero = (result == 0).all(0)
        size = int(zero.sum())
        left = torch.equal(result[:, : LENGTH - size], record[:, size:]) and not zero[: LENGTH - size].any()
        right = torch.equal(result[:, size:], record[:, : LENGTH - size]) and not zero[size:].any()
        assert left or right
        sizes.append(size if left else -size)
    assert min(sizes) < -30 and max(sizes) > 30 and max(map(abs, sizes)) < 60


def test_cutout_is_one_stretch(ecg):
    zero = cutout(ecg, 1.0, generator()) == 0
    assert torch.equal(zero, zero[:, :1].expand_as(zero))
    sizes = zero[:, 0].sum(1)
    assert sizes.max() < 60 and sizes.float().mean() == pytest.approx(30, abs=6)
    assert (zero[:, 0].int().diff(dim=1).abs().sum(1) <= 2).all()


def test_drop_erase_flip(ecg):
    zero = drop(ecg, 1.0, generator()) == 0
    assert torch.equal(zero, zero[:, :1].expand_as(zero))
    assert zero.float().mean((1, 2)).max() < 0.45 and zero.float().mean() == pytest.approx(0.15, abs=0.04)
    gone = (erase(ecg, 0.1, generator()) == 0).all(2)
    assert (gone.sum(1) == 1).all() and (gone.sum(0) > 5).all()
    assert torch.equal(flip(ecg, 0.1, generator()), -ecg)


@pytest.mark.parametrize("level", [0.5, 1.0])
def test_sizes_of_additions(ecg, level):
    added = {name: (OPERATIONS[name](ecg, level, generator()) - ecg)[:, 0] for name in OPERATIONS}
    assert white_noise(torch.zeros(8, 1, 5000), level, generator()).std() == pytest.approx(0.3 * level, rel=0.05)
    torch.testing.assert_close(added["square"].abs(), torch.full_like(added["square"], 0.3 * level))
    assert added["sine"].abs().max() == pytest.approx(0.3 * level, rel=0.01)
    crossings = (added["square"].sign().diff(dim=1) != 0).sum(1)
    assert ((crossings - 4 * level).abs() <= 1).all()  # 2 · level cycles
    for name in ("partial_sine", "partial_square", "partial_white_noise"):
        touched = (added[name].abs() > 1e-4).float().mean(1)
        assert touched.max() <= 0.3 * level and touched.max() > 0.2 * level


def test_rand_augment_draws_two_and_applies_half(ecg):
    big = torch.ones(4000, 1, 1)
    marks = {f"m{i}": (lambda x, level, g, i=i: x * (2.0 + i)) for i in range(4)}  # 2, 3, 4, 5
    out = rand_augment(big, 5, generator(), operations=marks)[:, 0, 0]
    shares = {value: (out == value).float().mean().item() for value in out.unique().tolist()}
    assert set(shares) == {1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20}  # never one twice: no 9, 16 (2·8), 25
    assert shares[1] == pytest.approx(0.25, abs=0.03)
    assert sum(shares[v] for v in (2, 3, 4, 5)) == pytest.approx(0.5, abs=0.03)
    assert torch.equal(rand_augment(ecg, 5, generator(3)), rand_augment(ecg, 5, generator(3)))
    unchanged = (rand_augment(ecg, 10, generator()) == ecg).flatten(1).all(1).float().mean()
    assert unchanged == pytest.approx(0.25, abs=0.15)


def test_level_is_divided_by_ten(ecg):
    levels = []
    spy = {"spy": lambda x, level, g: levels.append(level) or x}
    rand_augment(ecg, 7, generator(), 1, spy)
    assert levels == [0.7]


def test_bad_input(ecg):
    with pytest.raises(ValueError, match="level 11 given; expected a number from 0 to 10"):
        rand_augment(ecg, 11, generator())
    with pytest.raises(ValueError, match="12 operations asked for; expected 1 to 11"):
        rand_augment(ecg, 5, generator(), 12)
    with pytest.raises(ValueError, match=r"ecg \(3, 200\) torch.float32 given; expected a float batch"):
        rand_augment(ecg[0], 5, generator())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_runs_on_the_gpu(ecg):
    cuda = torch.Generator("cuda").manual_seed(0)
    assert rand_augment(ecg.cuda(), 10, cuda).device.type == "cuda"
