"""Several stores as one: exact weights, exact order, refusals that name the store; a list of one is the store itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from ecg_jepa_modified.config import PretrainConfig as JEPAConfig
from ecg_jepa_modified.pretrain import pretrain as pretrain_jepa
from shared.config import load_config
from shared.data.loader import TrainingBatches
from shared.data.prepare import choose_config, prepare
from shared.data.sources import code15, ptbxl, wfdb_folder
from shared.data.spec import DataConfig, InputSpec
from shared.data.store import ECGStore, StoreError, open_store
from shared.data.writer import StoreWriter
from shared.errors import UserError
from shared.evaluation.contamination import check_contamination
from shared.leads import LEADS
from st_mem_modified.config import PretrainConfig as STMEMConfig
from st_mem_modified.pretrain import pretrain as pretrain_st_mem
from st_mem_modified.triplet import TripletConfig as STMEMTripletConfig
from st_mem_modified.triplet import train as tune
from st_mem_modified.vqvae.config import VQTrainConfig
from st_mem_modified.vqvae.train import train as train_vqvae
from tests.golden import real_data

SPEC = InputSpec(fs=100, num_samples=25, leads=("V2", "I"))


def write(path: Path, num: int, length: int = 60, first: int = 0, **meta: Any) -> Path:
    """Every sample of a record is `first` + the record's number."""
    leads = meta.get("leads", LEADS)
    table = {"record": [f"{path.name}{i}" for i in range(num)], "fold": np.arange(num) % 5 + 1}
    table |= {"source": path.name, "patient": table["record"], "digest": table["record"]}
    with StoreWriter(path, len(leads), length, 4) as writer:
        writer.add(np.broadcast_to(first + np.arange(num)[:, None, None], (num, len(leads), length)).astype(np.int16))
        known = {"fs": 100.0, "leads": leads, "num_samples": length, "made_by": {}, "labels": {}}
        writer.finish(pd.DataFrame(table), {**known, **meta}, {})
    return path


@pytest.fixture
def places(tmp_path: Path) -> list[Path]:
    return [write(tmp_path / "a", 20), write(tmp_path / "b", 31, 80, first=100, leads=LEADS[::-1])]


def mixed(*shares: Any, **settings: Any) -> ECGStore:
    return open_store(DataConfig.model_validate({"store": list(shares), "folds": None, **settings}))


def batches(store: ECGStore, epoch: int = 0, first: int = 0, size: int = 1, **ranks: int) -> list[Any]:
    made = TrainingBatches(store, store.select(None), SPEC, size, seed=3, **ranks)
    return [(signals.clone(), indices.clone()) for signals, indices in made(epoch, first)]


def drawn(store: ECGStore, **where: int) -> list[int]:
    return [int(i) for _, indices in batches(store, **where) for i in indices]


@pytest.mark.parametrize(("weight", "num"), [(0.5, 10), (1, 20), (1.3, 26), (3, 60)])
def test_an_epoch_draws_by_weight_exactly(places: list[Path], weight: float, num: int) -> None:
    store = mixed({"path": places[0], "weight": weight}, str(places[1]))
    for epoch in range(3):
        counts = np.bincount(drawn(store, epoch=epoch), minlength=51)
        assert counts[:20].sum() == num and set(counts[:20]) <= {int(weight), int(np.ceil(weight))}
        assert (counts[20:] == 1).all()
    assert drawn(store, epoch=0) != drawn(store, epoch=1)


def test_signals_come_from_the_record_that_is_named_by_lead(places: list[Path]) -> None:
    store = mixed(*map(str, places))
    for signals, indices in batches(store, size=4):
        values = [int(i) if i < 20 else 100 + int(i) - 20 for i in indices]
        assert signals[:, 0, 0].tolist() == values
    assert len(store.records) == len(store) == 51


@pytest.mark.parametrize("shuffle", ["full", "shards"])
def test_a_resumed_epoch_goes_on_with_the_same_bits(places: list[Path], shuffle: str) -> None:
    store = mixed({"path": places[0], "weight": 1.5}, str(places[1]), shuffle=shuffle)
    for got, want in zip(batches(store, 2, 3, 4), batches(store, 2, 0, 4)[3:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize("shuffle", ["full", "shards"])
def test_a_list_of_one_is_the_store_itself(places: list[Path], shuffle: str) -> None:
    plain = open_store(DataConfig(store=places[0], shuffle=shuffle))
    for got, want in zip(
        batches(mixed(str(places[0]), shuffle=shuffle), 1, 0, 4), batches(plain, 1, 0, 4), strict=True
    ):
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


def test_ranks_draw_disjoint_records(places: list[Path]) -> None:
    store = mixed(*map(str, places))
    ranks = [set(drawn(store, rank=rank, world_size=2)) for rank in (0, 1)]
    assert not ranks[0] & ranks[1] and len(ranks[0] | ranks[1]) == 50


def test_shards_keep_reads_near(places: list[Path]) -> None:
    store = mixed(*map(str, places), shuffle="shards")
    order = np.array(drawn(store))
    assert sorted(order) == list(range(51)) and order.tolist() != sorted(order)
    visited = store.shard_of(order)  # 5 + 8 files of 4 records, four at a time
    assert len(set(visited[:13])) <= 4 and order.tolist() != drawn(store, epoch=1)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([], "list of stores is empty"),
        (["data/a", "data/./a"], "same store stands twice"),
        ([{"path": "data/a", "weight": 0}], "entry 1 of the list: weight .*greater than 0"),
        ([{"path": "data/a", "weight": -1}], "entry 1 of the list: weight .*greater than 0"),
        (["data/a", {"weight": 1}], "entry 2 of the list: path Field required"),
    ],
)
def test_a_list_that_is_none_is_refused(entries: list[Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        DataConfig.model_validate({"store": entries})


@pytest.mark.parametrize(
    ("meta", "said"),
    [
        ({"fs": 50.0}, r"/c .* For example: bash scripts/prepare_data\.sh CONFIG fs=100 seconds=0\.25 out="),
        ({"length": 20}, r"/c .* For example: bash scripts/prepare_data\.sh CONFIG fs=100 seconds=0\.25 out="),
        ({"leads": LEADS[:6]}, r"/c cannot serve the model: lead\(s\) V2"),
    ],
)
def test_a_store_that_does_not_fit_is_named(places: list[Path], tmp_path: Path, meta: Any, said: str) -> None:
    with pytest.raises(StoreError, match=said):
        mixed(*map(str, places), str(write(tmp_path / "c", 3, **meta))).rows_for(SPEC)


def test_one_unreadable_store_is_named(places: list[Path], tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nowhere is not a store"):
        mixed(str(places[0]), str(tmp_path / "nowhere"))
    with pytest.raises(StoreError, match=r"no record of .*/a is in fold\(s\) \[9\]"):
        mixed(*map(str, places)).select([9])


def test_contamination_looks_into_every_store(places: list[Path]) -> None:
    trained_on = {"store": [{"path": str(place), "weight": 1.0} for place in places], "folds": None}
    findings = check_contamination(trained_on, ECGStore(places[1]), np.arange(5))
    assert any("no test patient" in f and "/a: " in f for f in findings)
    assert any("LEAK: 5 test patients" in f and "/b: " in f for f in findings)


SMALL = ["model.size=tiny", "model.depth=1", "model.input.seconds=3", "optim.batch_size=8", "optim.warmup_epochs=0"]
METHODS: dict[str, Any] = {
    "st_mem": (STMEMConfig, pretrain_st_mem, []),
    "ecg_jepa": (JEPAConfig, pretrain_jepa, ["model.predictor_depth=1"]),
    "vqvae": (VQTrainConfig, train_vqvae, ["quantizer.codebook_size=16"]),
}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("real")
    common: dict[str, Any] = {"fs": 250.0, "seconds": 5, "backend": "sequential"}
    prepare(ptbxl.Config(root=real_data("ptb-xl"), out=folder / "ptbxl", limit=24, **common))
    prepare(wfdb_folder.Config(root=real_data("challenge2021"), out=folder / "challenge", **common))
    prepare(code15.Config(root=real_data("code15"), out=folder / "code15", **common))
    return [folder / name for name in ("ptbxl", "challenge", "code15")]


@pytest.mark.parametrize("method", METHODS)
def test_pretraining_reads_three_databases(real: list[Path], method: str, tmp_path: Path) -> None:
    config_class, pretrain, more = METHODS[method]
    stores = ", ".join(f"{{path: {place}}}" for place in real)
    given = [f"run.out={tmp_path / 'run'}", f"data.store=[{stores}]", "data.folds=null", "data.val_folds=null"]
    out = pretrain(load_config(config_class, None, [*given, *SMALL, *more, "run.device=cpu", "optim.epochs=2"]))
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    last = next(line for line in reversed(lines) if "epoch_loss" in line)
    by_store = [last[f"loss/{place.name}"] for place in real]
    assert min(by_store) < last["epoch_loss"] < max(by_store)
    record = json.loads((out / "provenance.json").read_text())[-1]
    assert [one["path"] for one in record["store"]] == [str(place) for place in real]


def test_triplets_are_drawn_from_all_stores(tmp_path: Path) -> None:
    common = ["backend=sequential", "fs=100", "seconds=5"]
    for seed in (1, 2):
        options = [f"out={tmp_path / f'store{seed}'}", f"seed={seed}", "num_records=150", *common]
        prepare(load_config(choose_config, "configs/data/synthetic.yaml", options))
    shares = ", ".join(f"{{path: {tmp_path / f'store{seed}'}}}" for seed in (1, 2))
    given = [f"data.store=[{shares}]", "run.device=cpu", "data.folds=[1,2,3,4,5,6,7,8]", "data.val_folds=[9,10]"]
    small = ["model.size=tiny", "model.depth=1", "model.input.fs=100", "model.input.seconds=3", "optim.epochs=1"]
    start = [f"run.out={tmp_path / 'start'}", "optim.batch_size=16", "optim.warmup_epochs=0"]
    weights = pretrain_st_mem(load_config(STMEMConfig, None, [*given, *small, *start]))
    tuned = [f"encoder.weights={weights}", "task=superclass", "optim.epochs=1", "optim.warmup_epochs=0", "per_class=2"]
    more = [*given, *tuned, f"run.out={tmp_path / 'run'}", "optim.batch_size=16", "choose_k=3"]
    out = tune(load_config(STMEMTripletConfig, None, more))
    opened = ECGStore(tmp_path / "store1"), ECGStore(tmp_path / "store2")
    used = sum((store.records.superclass.str.len() == 1).sum() for store in opened)
    cached = next((out / "cache").glob("*.npy"))
    assert len(np.load(cached)) == used


@pytest.mark.parametrize("wrong", [{"store": "a", "shuffle": "shards"}, {"store": "[{path: a, weight: 2}, {path: b}]"}])
def test_triplets_have_no_weights_or_shards(wrong: dict[str, str], tmp_path: Path) -> None:
    data = [f"data.{key}={value}" for key, value in wrong.items()]
    with pytest.raises(UserError, match="drawn by class"):
        load_config(STMEMTripletConfig, None, [f"run.out={tmp_path}", *data])
