"""Speed of the data path: synthetic generator, loader, batch filter against scipy. Medians of several rounds."""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from shared.config import load_config
from shared.data import synthetic
from shared.data.loader import EpochBatches, train_batches
from shared.data.mixed import MixedStore, read_shares
from shared.data.prepare import choose_config, prepare
from shared.data.resampled import at_rate
from shared.data.spec import InputSpec
from shared.data.store import ECGStore
from shared.data.transforms import Preprocess, butterworth

SPEC = InputSpec(seconds=9, highpass=0.67, lowpass=40.0, standardize="record")


def seconds(work: Callable[[], object], rounds: int = 5) -> float:
    """Median wall time."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def read_batches(store: ECGStore, indices: np.ndarray) -> None:
    """What embedding an outside encoder of another rate reads."""
    for first in range(0, len(indices), 64):
        store.read(indices[first : first + 64])


def repeat(store: ECGStore, out: Path, number: int) -> None:
    """A store of about `number` records: the first shard of `store` again and again, as links, so that no disk is filled."""
    out.mkdir()
    records, shard = store.records, store.meta["shards"][0]
    times = max(1, round(number / len(records)))
    shards = [f"signals-{i:05d}.npy" for i in range(times)]
    for name in shards:
        (out / name).hardlink_to(store.path / shard)
    pd.concat([records] * times).to_parquet(out / "records.parquet", index=False)
    (out / "store.json").write_text(json.dumps({**store.meta, "shards": shards, "num_records": times * len(records)}))


def anonymous_mib() -> float:
    """Memory of this process, its libraries' too, that no file backs."""
    with Path("/proc/self/status").open() as status:
        return next(float(line.split()[1]) / 1024 for line in status if line.startswith("RssAnon"))


def large(small: ECGStore, out: Path, number: int) -> None:
    """A store of many records against one of few: opening, memory, loader speed, in turn."""
    repeat(small, out, number)
    before = anonymous_mib()
    opening = seconds(lambda: ECGStore(out).select([1, 2, 3]))
    store = ECGStore(out)
    print(f"store of {len(store)} records: opened, folds chosen in {opening:.3f} s")
    batches = 16
    epochs = iter(range(1000))

    def load(some: ECGStore) -> None:
        size = min(256, len(some) // 2)
        epoch = EpochBatches(some, np.arange(len(some)), SPEC, size, seed=0, epoch=next(epochs))
        for _, (signals, _) in zip(range(batches), train_batches(epoch), strict=False):
            signals.float().mul_(1e-3)

    for shuffle in ("full", "shards"):
        small.shuffle = store.shuffle = shuffle
        rates = []
        for some in (small, store):
            load(some)
            of_batches = min(batches, max(1, len(some) // 256)) * min(256, len(some) // 2)
            # Shuffling a whole epoch is done once for thousands of batches; here it would be half of the time.
            whole = seconds(partial(load, some))
            order = seconds(lambda some=some: some.order(np.arange(len(some)), np.random.default_rng(0)))
            rates.append(of_batches / (whole - order))
        print(
            f"shuffle={shuffle:<7} {rates[1]:8.0f} records/s of it, {rates[0]:.0f} of the small one; "
            f"an epoch's order {order:.2f} s, {anonymous_mib() - before:+.0f} MiB held by the process"
        )
    small.shuffle = "full"


def waiting(store: ECGStore, batch: int, step: float, threads: int) -> float:
    """Share of the time that a device of which a batch takes `step` seconds waits for the next one; it leaves the CPU alone."""
    batches = EpochBatches(store, np.tile(np.arange(len(store)), 4), SPEC, batch, seed=0, epoch=0)
    waited, begun, source = 0.0, time.perf_counter(), iter(train_batches(batches, num_workers=threads))
    while True:
        asked = time.perf_counter()
        if next(source, None) is None:
            return waited / (time.perf_counter() - begun)
        waited += time.perf_counter() - asked
        time.sleep(step)


def main() -> None:
    """Print one line per measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=4096, help="in the store that the loader reads")
    parser.add_argument("--large", type=int, default=1_000_000, help="in the store that repeats it")
    options = parser.parse_args()
    num_records = options.records
    torch.set_num_threads(1)
    patients = synthetic.draw_patients(256, seed=0)
    took = seconds(lambda: synthetic.render(patients))
    print(f"synthetic generator      {256 / took:8.0f} records/s on one core (target >= 500)")

    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "store"
        config = load_config(choose_config, "configs/data/synthetic.yaml", [f"out={out}", f"num_records={num_records}"])
        store = prepare(config)
        epoch = iter(range(1000))

        def load() -> None:
            batches = EpochBatches(store, np.arange(len(store)), SPEC, min(256, num_records), seed=0, epoch=next(epoch))
            for signals, _ in train_batches(batches):
                signals.float().mul_(1e-3)

        for fs in (100, 360, 500):
            some = np.arange(min(256, num_records))
            took = seconds(partial(read_batches, at_rate(store, fs), some))
            print(f"read, resampled to {fs} Hz {len(some) / took:7.0f} records/s on one core")
        load()
        print(f"loader, 9 s crops, float {num_records / seconds(load):8.0f} records/s (target >= 20000)")
        large(store, Path(folder) / "large", options.large)
        for step in (0.005, 0.02):
            shares = [100 * waiting(store, min(256, num_records), step, threads) for threads in (0, 1, 2)]
            told = ", ".join(f"{share:.1f} % with {n}" for n, share in enumerate(shares))
            print(f"waiting for 256 records, {1000 * step:.0f} ms a step elsewhere: {told} thread(s) reading ahead")
        links = [Path(folder) / f"store{i}" for i in range(5)]
        for link in links:
            shutil.copytree(out, link)
        weighted = [{"path": str(link), "weight": 1 + i % 2} for i, link in enumerate(links)]
        several = MixedStore(read_shares(weighted))

        def load_several() -> None:
            batches = EpochBatches(
                several, np.arange(len(several)), SPEC, min(256, num_records), seed=0, epoch=next(epoch)
            )
            for signals, _ in train_batches(batches):
                signals.float().mul_(1e-3)

        load_several()
        drawn = sum(round(share["weight"] * num_records) for share in weighted)
        print(f"the same of five stores  {drawn / seconds(load_several, 3):8.0f} records/s (target >= 20000)")
        ecg = torch.from_numpy(store.read(np.arange(256) % num_records))[:, :, :2250]
        preprocess = Preprocess(SPEC)
        fast = seconds(lambda: preprocess(ecg))
        reference = ecg[:32].double().numpy() * 1e-3
        slow = seconds(lambda: butterworth(reference, SPEC), 3) * 8
        print(
            f"filter and standardise   {256 / fast:8.0f} records/s as a matrix, {256 / slow:.0f} records/s with sosfiltfilt"
        )
        error = np.abs(preprocess.millivolts(ecg[:32]).numpy() - butterworth(reference, SPEC)).max()
        print(f"largest deviation from sosfiltfilt {error:.1e} mV (allowed 1e-4)")


if __name__ == "__main__":
    main()
