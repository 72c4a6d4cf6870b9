"""Measure the search for copies: misses by how a copy was disturbed, false alarms between patients, cost at full size.

    python scripts/benchmarks/copies.py [--data ../shared/data] [--records 2000] [--size 22000]

Needs `ptb-xl-100hz` (1 987 records at 100 Hz) and `ptb-xl` (500 at 500 Hz, 488 of them the same ECG) below `--data`. A copy is
found where its own original is among the pairs; a false alarm is a pair of two patients.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import wfdb
from scipy.signal import butter, resample_poly, sosfiltfilt

from shared.data.copies import SAME, match_prints
from shared.data.fingerprint import LEAD_PREFERENCE, NUM_LEADS, Prints, make_prints

LEADS = LEAD_PREFERENCE[:NUM_LEADS]
Disturb = Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, float]]
"""`[L, 5000]` mV at 500 Hz to a copy and its rate."""


def read(folder: Path, column: str, limit: int) -> tuple[np.ndarray, pd.DataFrame]:
    """Signals `[n, L, T]` mV of the leads compared, and the rows of the table."""
    table = pd.read_csv(folder / "ptbxl_database.csv").iloc[:limit]
    signals = []
    for name in table[column]:
        record = wfdb.rdrecord(str(folder / name), return_res=32)
        names = [lead.lower() for lead in record.sig_name]
        signals.append(np.nan_to_num(record.p_signal.T[[names.index(lead.lower()) for lead in LEADS]]))
    return np.stack(signals), table


def shift(seconds: float) -> Disturb:
    return lambda ecg, rng: (ecg[:, round(seconds * 500) :], 500.0)


def cut(seconds: float) -> Disturb:
    def disturb(ecg: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        first = rng.integers(0, ecg.shape[1] - round(seconds * 500) + 1)
        return ecg[:, first : first + round(seconds * 500)], 500.0

    return disturb


def noise(decibel: float) -> Disturb:
    def disturb(ecg: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        spread = ecg.std(axis=1, keepdims=True) * 10 ** (-decibel / 20)
        return ecg + spread * rng.standard_normal(ecg.shape), 500.0

    return disturb


def band(low: float, high: float) -> Disturb:
    return lambda ecg, rng: (sosfiltfilt(butter(3, (low, high), "bandpass", fs=500, output="sos"), ecg), 500.0)


def all_at_once(ecg: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Cut to 6 s, filtered, at 250 Hz by way of 100 Hz, half the gain, 20 dB of noise."""
    ecg, _ = cut(6.0)(ecg, rng)
    ecg, _ = noise(20.0)(0.5 * band(0.5, 40.0)(ecg, rng)[0], rng)
    return resample_poly(resample_poly(ecg, 1, 5, axis=1, padtype="edge"), 5, 2, axis=1, padtype="edge"), 250.0


DISTURBED: dict[str, Disturb] = {
    "unchanged": shift(0),
    "shifted by 0.3 s": shift(0.3),
    "shifted by 1 s": shift(1.0),
    "shifted by 2 s": shift(2.0),
    "shifted by 4 s": shift(4.0),
    "cut to 7 s": cut(7.0),
    "cut to 5 s": cut(5.0),
    "cut to 4 s": cut(4.0),
    "500 to 100 to 250 Hz": lambda ecg, rng: (
        resample_poly(resample_poly(ecg, 1, 5, axis=1, padtype="edge"), 5, 2, axis=1, padtype="edge"),
        250.0,
    ),
    "500 to 240 Hz": lambda ecg, rng: (resample_poly(ecg, 12, 25, axis=1, padtype="edge"), 240.0),
    "gain 0.5": lambda ecg, rng: (0.5 * ecg, 500.0),
    "gain 2": lambda ecg, rng: (2 * ecg, 500.0),
    "band 0.5-40 Hz": band(0.5, 40.0),
    "band 0.67-25 Hz": band(0.67, 25.0),
    "noise 20 dB": noise(20.0),
    "noise 10 dB": noise(10.0),
    "all: 6 s, band, 100 to 250 Hz, gain, noise": all_at_once,
}


def report_misses(ecg: np.ndarray) -> None:
    """Copies of every record against all originals."""
    originals = make_prints(ecg, 500.0)
    print(f"misses: disturbed copies of {len(ecg)} records at 500 Hz against the originals")
    for name, disturb in DISTURBED.items():
        rng = np.random.default_rng(0)
        made = [disturb(record, rng) for record in ecg]
        copies = make_prints(np.stack([copy for copy, _ in made]), made[0][1])
        one, two, correlation = match_prints(copies, originals)
        own = one == two
        low = f"least correlation {correlation[own].min():.3f}" if own.any() else ""
        missed = len(ecg) - own.sum()
        print(f"  {name:44s} missed {missed:3d} = {missed / len(ecg):6.2%}   without a beat {copies.mute}   {low}")


def report_false(prints: Prints, table: pd.DataFrame, other: Prints, others: pd.DataFrame) -> None:
    """All pairs of the 100 Hz records, and the 500 Hz records against them."""
    one, two, correlation = match_prints(prints, prints)
    patient, names = table.patient_id.to_numpy(), table.ecg_id.to_numpy()
    own = one < two
    one, two, correlation = one[own], two[own], correlation[own]
    apart = patient[one] != patient[two]
    pairs = len(table) * (len(table) - 1) // 2
    print(f"pairs among {len(table)} records at 100 Hz ({pairs} pairs) with a correlation of {SAME} or more:")
    print(f"  one patient {(~apart).sum()}, two patients {apart.sum()}; among these")
    for i, j, value in sorted(zip(one[apart], two[apart], correlation[apart], strict=True), key=lambda p: -p[2]):
        print(f"    ecg_id {names[i]:5d} = {names[j]:5d}   {value:.4f}")
    one, two, correlation = match_prints(other, prints)
    ids, patients = others.ecg_id.to_numpy(), others.patient_id.to_numpy()
    same = ids[one] == names[two]
    both = len(np.intersect1d(ids, names))
    apart = patients[one] != patient[two]
    print(f"{len(others)} records at 500 Hz against {len(table)} at 100 Hz: {same.sum()} of {both} found, least")
    print(f"  correlation {correlation[same].min():.3f}; other records of one patient {(~same & ~apart).sum()}, of two")
    print(f"  patients {apart.sum()} of {len(others) * len(table)} pairs")


def report_cost(ecg: np.ndarray, size: int) -> None:
    """Records against records, real ones repeated and disturbed so that each is another."""
    rng = np.random.default_rng(0)

    def many() -> np.ndarray:
        """Two halves of two records joined: as many different beats as in reality, and no copies."""
        first, second = rng.permutation(size) % len(ecg), rng.integers(0, len(ecg), size)
        at = rng.integers(400, 600, size)
        place = np.arange(ecg.shape[2])
        joined = np.where(place < at[:, None, None], ecg[first], np.roll(ecg[second], rng.integers(100, 900), axis=2))
        return joined + np.float32(0.02) * rng.standard_normal(joined.shape, dtype=np.float32)

    def prints() -> Prints:
        parts = [make_prints(some, 100.0) for some in np.array_split(many(), -(-size // 256))]
        starts = np.cumsum([0] + [len(part.signals) for part in parts[:-1]])
        return Prints(
            np.concatenate([part.signals for part in parts]),
            np.concatenate([part.owner + start for part, start in zip(parts, starts, strict=True)]),
            np.concatenate([part.at for part in parts]),
            np.concatenate([part.vectors for part in parts]),
        )

    began = time.process_time()
    a, b = prints(), prints()
    made = time.process_time() - began
    pairs = len(match_prints(a, b)[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"cost: {size} against {size} records, {len(a.owner)} and {len(b.owner)} beats: {made:.0f} s of CPU for the "
        f"fingerprints, {time.process_time() - began - made:.0f} s for the comparison, {pairs} pairs, at most {peak:.1f} GiB"
    )


def main() -> None:
    """Entry point."""
    root = Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=root.parent / "shared" / "data")
    parser.add_argument("--records", type=int, default=2000)
    parser.add_argument("--size", type=int, default=22000)
    options = parser.parse_args()
    if not (options.data / "ptb-xl-100hz").is_dir():
        print(f"PTB-XL is not below {options.data}; give its folder with --data. Nothing was measured.")
        return
    at_100, table = read(options.data / "ptb-xl-100hz", "filename_lr", options.records)
    at_500, others = read(options.data / "ptb-xl", "filename_hr", options.records)
    report_false(make_prints(at_100, 100.0), table, make_prints(at_500, 500.0), others)
    report_misses(at_500)
    report_cost(at_100, options.size)


if __name__ == "__main__":
    main()
