"""Speed of the data path: synthetic generator, loader, batch filter against scipy. Medians of several rounds."""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
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
    num_records = parser.parse_args().records
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
