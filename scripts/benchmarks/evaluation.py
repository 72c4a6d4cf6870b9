"""Time and memory of an evaluation of PTB-XL's size: simulated embeddings and labels, each protocol in a process of its own.

    python scripts/benchmarks/evaluation.py [--records 21799] [--dim 768] [--classes 71] [--resamples 1000] [--only knn,clusters]

Protocols that embed anew are left out: their time is the encoder's. Two rows, as in every evaluation: an encoder whose
embeddings hold the labels in part, and one whose embeddings hold nothing. `report` is tables, figures and the page.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from shared.data.writer import StoreWriter
from shared.evaluation.config import EvaluateConfig
from shared.evaluation.context import RANDOM, Context
from shared.evaluation.evaluate import open_context
from shared.evaluation.protocols import PROTOCOLS
from shared.evaluation.report.results import write_results
from shared.leads import LEADS

EMBED_ANEW = ("attentive_probe", "reduced_leads", "robustness")
REPORT = "report"
MOST_FREQUENT, RAREST = 0.77, 0.0005
"""Shares of the records that have the most frequent (SR) and the rarest statement."""
SEPARATION = 2.0
"""Of the two sides of a class, in standard deviations; far larger ones would be separable, which no real task is."""
NUM_PATIENTS = 18_869
"""Of PTB-XL, as a share of its 21 799 records."""


def draw_labels(num: int, num_classes: int, rng: np.random.Generator) -> np.ndarray:
    """Labels `[n, C]` bool whose frequencies fall evenly on a log scale; every record has one at least, every class two."""
    shares = np.geomspace(MOST_FREQUENT, max(RAREST, 4 / num), num_classes)
    labels = rng.random((num, num_classes)) < shares
    labels[~labels.any(axis=1), 0] = True
    for c in range(num_classes):
        labels[rng.integers(num, size=2), c] = True
    return labels


def make_store(path: Path, num: int, num_classes: int, rng: np.random.Generator) -> np.ndarray:
    """A store of records whose signals nobody reads, with labels, an age, a sex and a time to an event; returns its labels."""
    labels = draw_labels(num, num_classes, rng)
    patients = rng.integers(max(20, num * NUM_PATIENTS // 21_799), size=num)
    names, five = [f"S{c:02d}" for c in range(num_classes)], labels[:, : min(5, num_classes)]
    risk = labels[:, min(3, num_classes - 1)] + rng.exponential(size=num)
    records = pd.DataFrame(
        {
            "source": "simulated",
            "record": [f"r{i}" for i in range(num)],
            "segment": 0,
            "patient": [f"p{p}" for p in patients],
            "fold": patients % 10 + 1,
            "statements": [[names[c] for c in np.flatnonzero(row)] for row in labels],
            "superclass": [[names[c] for c in np.flatnonzero(row)] for row in five],
            "digest": [f"d{i}" for i in range(num)],
            "age": rng.normal(60, 15, num),
            "sex": rng.integers(2, size=num).astype(float),
            "time": 10 / risk,
            "event": (rng.random(num) < 0.3).astype(float),
        }
    )
    meta = {
        "fs": 10.0,
        "leads": list(LEADS),
        "num_samples": 20,
        "labels": {"statements": names, "superclass": names[:5]},
    }
    with StoreWriter(path, len(LEADS), 20, 4096) as writer:
        writer.add(np.zeros((num, len(LEADS), 20), dtype=np.int16))
        writer.finish(records, {**meta, "made_by": {}}, {})
    return labels


def make_rows(path: Path, labels: np.ndarray, dim: int, rng: np.random.Generator) -> None:
    """`encoder.npy` and `random.npy`, float32 `[n, D]`: correlated noise with a spectrum that falls, and labels in the first."""
    spectrum = np.arange(1, dim + 1) ** -0.5
    turn = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    for name, strength in (("encoder", SEPARATION / dim**0.5), ("random", 0.0)):
        values = rng.normal(size=(len(labels), dim)) + strength * (labels @ rng.normal(size=(labels.shape[1], dim)))
        values *= spectrum
        np.save(path / f"{name}.npy", (values @ turn).astype(np.float32))


def open_simulated(folder: Path, name: str, resamples: int) -> Context:
    """The context of one protocol; clusters need records with one label, so they are given the five most frequent classes."""
    values: dict[str, Any] = {
        "store": folder / "store",
        "task": "superclass" if name == "clusters" else "statements",
        "protocols": (name,),
        "resamples": resamples,
        "device": "cpu",
        "regression": ("age", "sex"),
        "survival": {"time": "time", "event": "event"},
    }
    context = open_context(EvaluateConfig.model_validate(values), folder / "out", torch.device("cpu"))
    for row, file in (("encoder", "encoder"), (RANDOM, "random")):
        context.rows[row] = np.load(folder / f"{file}.npy")[context.indices]
    return context


def measure(folder: Path, name: str, resamples: int) -> None:
    """Run one protocol, or the report of kNN's predictions; leave `NAME.json`: seconds, those of all cores, and GiB."""
    context = open_simulated(folder, "knn" if name == REPORT else name, resamples)
    (context.out / "figures").mkdir(parents=True, exist_ok=True)
    result = PROTOCOLS["knn"].run(context) if name == REPORT else None
    start, worked, problem = time.perf_counter(), time.process_time(), ""
    try:
        if result is not None:
            write_results(context, {"knn": result}, (), "encoder")
        else:
            result = PROTOCOLS[name].run(context)
    except Exception as error:  # one that cannot run does not stop the others
        problem = f"{type(error).__name__}: {error}"
    spent = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - worked}
    found: dict[str, Any] = {**spent, "problem": problem}
    found["gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    (folder / f"{name}.json").write_text(json.dumps(found))


def main() -> None:
    """Print seconds and peak memory of each protocol, and their sum."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=21_799)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--classes", type=int, default=71)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else [*(p for p in PROTOCOLS if p not in EMBED_ANEW), REPORT]
    rng, total = np.random.default_rng(0), 0.0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        labels = make_store(folder / "store", options.records, options.classes, rng)
        make_rows(folder, labels, options.dim, rng)
        print(
            f"{options.records} records x {options.dim}, {options.classes} classes, {options.resamples} resamples, 2 rows"
        )
        for name in wanted:
            process = multiprocessing.get_context("spawn").Process(
                target=measure, args=(folder, name, options.resamples)
            )
            process.start()
            process.join()
            kept = folder / f"{name}.json"
            if process.exitcode or not kept.is_file():
                print(f"{name:<16} ended with exit code {process.exitcode}")
                continue
            found = json.loads(kept.read_text())
            total += found["seconds"]
            spent = f"{found['seconds']:7.1f} s, {found['cpu']:7.1f} s of the cores, {found['gib']:5.2f} GiB at most"
            print(f"{name:<16} {spent}  {found['problem']}", flush=True)
    print(f"{'together':<16} {total:7.1f} s")


if __name__ == "__main__":
    main()
