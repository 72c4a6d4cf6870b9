"""A batch is a function of (seed, epoch, number, rank) alone; ranks share an epoch without overlap."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from shared.data.loader import EpochBatches, eval_batches, read_validation, train_batches
from shared.data.spec import InputSpec
from shared.data.store import ECGStore, StoreError
from shared.data.writer import StoreWriter
from shared.errors import UserError
from shared.leads import LEADS

NUM, LENGTH = 53, 60
SPEC = InputSpec(fs=100, num_samples=25, leads=("V2", "I"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ECGStore:
    """Each sample says where it is from: 100 × record + sample in every lead, and + 6000 a lead."""
    path = tmp_path_factory.mktemp("loader") / "store"
    place = 100 * np.arange(NUM)[:, None, None] + np.arange(LENGTH) + 2000 * np.arange(12)[None, :, None]
    with StoreWriter(path, 12, LENGTH, 20) as writer:
        writer.add(place.astype(np.int16))
        table = pd.DataFrame({"record": map(str, range(NUM)), "fold": np.arange(NUM) % 10 + 1})
        writer.finish(table, {"fs": 100.0, "leads": LEADS, "num_samples": LENGTH, "made_by": {}}, {})
    return ECGStore(path)


def epoch_of(store: ECGStore, batch_size: int = 8, **where: Any) -> EpochBatches:
    return EpochBatches(store, np.arange(NUM), SPEC, batch_size, **{"seed": 0, "epoch": 0, **where})


def content(batches: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(signals.clone(), indices.clone()) for signals, indices in batches]


def same(a: list[Any], b: list[Any]) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x, y) for p, q in zip(a, b, strict=True) for x, y in zip(p, q, strict=True)
    )


def test_batches_hold_windows_of_the_records_they_name(store: ECGStore) -> None:
    starts = set()
    for signals, indices in train_batches(epoch_of(store)):
        assert signals.shape == (8, 2, 25)
        assert signals.dtype == torch.int16
        for signal, index in zip(signals.long(), indices, strict=True):
            start = int(signal[1, 0] - 100 * index)
            assert 0 <= start <= LENGTH - 25
            expected = 100 * index + start + torch.arange(25)
            assert torch.equal(signal, torch.stack([expected + 2000 * LEADS.index("V2"), expected]))
            starts.add(start)
    assert len(starts) > 15


def test_windows_reach_both_ends(store: ECGStore) -> None:
    starts = {
        int(signal[1, 0] - 100 * index)
        for epoch in range(20)
        for signals, indices in train_batches(epoch_of(store, epoch=epoch))
        for signal, index in zip(signals.long(), indices, strict=True)
    }
    assert starts == set(range(LENGTH - 25 + 1))


def test_same_seed_same_bits_whatever_the_global_state(store: ECGStore) -> None:
    torch.manual_seed(1)
    first = content(train_batches(epoch_of(store)))
    torch.manual_seed(2)
    np.random.seed(3)  # noqa: NPY002 (what must not matter)
    assert same(first, content(train_batches(epoch_of(store))))


def test_iterating_leaves_the_global_generator_alone(store: ECGStore) -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    content(train_batches(epoch_of(store)))
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 1}])
def test_another_seed_or_epoch_gives_other_batches(store: ECGStore, other: dict[str, int]) -> None:
    assert not same(content(train_batches(epoch_of(store))), content(train_batches(epoch_of(store, **other))))


def test_two_batches_do_not_share_their_windows(store: ECGStore) -> None:
    """The window generator must depend on the batch number as well."""
    windows = [
        (signals.long()[:, 1, 0] - 100 * indices).tolist() for signals, indices in train_batches(epoch_of(store))
    ]
    assert len({tuple(window) for window in windows}) == len(windows)


@pytest.mark.parametrize("first", [0, 1, 4, 6])
def test_resuming_from_a_batch_equals_the_tail(store: ECGStore, first: int) -> None:
    whole = content(train_batches(epoch_of(store)))
    assert len(whole) == 6
    rest = train_batches(epoch_of(store), first)
    assert len(rest) == 6 - first
    assert same(content(rest), whole[first:])


def test_reading_ahead_changes_nothing(store: ECGStore) -> None:
    assert same(content(train_batches(epoch_of(store), 2, num_workers=2)), content(train_batches(epoch_of(store), 2)))


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_are_disjoint_and_together_complete(store: ECGStore, world_size: int) -> None:
    size = 12 // world_size
    per_rank = [
        content(train_batches(epoch_of(store, size, rank=rank, world_size=world_size))) for rank in range(world_size)
    ]
    assert [len(batches) for batches in per_rank] == [4] * world_size
    seen = torch.cat([indices for batches in per_rank for _, indices in batches]).tolist()
    assert len(set(seen)) == len(seen) == 48  # all but an incomplete last batch of 5


def test_the_effective_batch_is_the_same_on_any_number_of_ranks(store: ECGStore) -> None:
    one = [set(indices.tolist()) for _, indices in train_batches(epoch_of(store, 12))]
    two = [train_batches(epoch_of(store, 6, rank=rank, world_size=2)) for rank in range(2)]
    assert [set(a.tolist()) | set(b.tolist()) for (_, a), (_, b) in zip(*two, strict=True)] == one


def test_records_left_out_change_with_the_epoch(store: ECGStore) -> None:
    left_out = []
    for epoch in range(6):
        seen = torch.cat([indices for _, indices in train_batches(epoch_of(store, epoch=epoch))])
        left_out.append(frozenset(range(NUM)) - frozenset(seen.tolist()))
    assert len(set(left_out)) > 1


def test_only_the_records_given_are_read(store: ECGStore) -> None:
    chosen = store.select([2, 5])
    batches = EpochBatches(store, chosen, SPEC, 5, seed=0, epoch=0)
    assert set(torch.cat([indices for _, indices in train_batches(batches)]).tolist()) <= set(chosen.tolist())


@pytest.mark.parametrize(("batch_size", "world_size"), [(54, 1), (27, 2)])
def test_fewer_records_than_a_batch_is_said(store: ECGStore, batch_size: int, world_size: int) -> None:
    with pytest.raises(
        UserError, match=rf"53 records are fewer than one batch of {batch_size} on {world_size} process"
    ):
        epoch_of(store, batch_size, world_size=world_size)


def test_store_of_another_rate_is_refused(store: ECGStore) -> None:
    with pytest.raises(StoreError, match="prepare one with fs=250"):
        EpochBatches(store, np.arange(NUM), InputSpec(num_samples=25), 8, seed=0, epoch=0)


# ---------------------------------------------------------------- evaluation


def test_evaluation_crops_are_even_and_in_order(store: ECGStore) -> None:
    indices = np.array([9, 3, 50, 7, 0])
    batches = list(eval_batches(store, indices, SPEC, batch_size=2, num_crops=3))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    crops = torch.cat(batches).long()
    assert crops.shape == (5, 3, 2, 25)
    assert (crops[:, :, 1, 0] - 100 * torch.from_numpy(indices)[:, None]).tolist() == [[0, 17, 35]] * 5


def test_validation_is_the_middle_of_the_first_records(store: ECGStore) -> None:
    validation = read_validation(store, SPEC, (10,), most=3)
    middle = (LENGTH - 25) // 2
    np.testing.assert_array_equal(validation[:, 1], store.read([9, 19, 29])[:, 0, middle : middle + 25])
    assert read_validation(store, SPEC, None).shape == (0, 2, 25)
    with pytest.raises(StoreError, match=r"no record of .* fold\(s\) \[11\]"):
        read_validation(store, SPEC, (11,))
