"""What resampling does to the ends and to the inside of real records, for each way that `prepare` or others use.

    python scripts/benchmarks/resampling.py /data/ptb-xl/records500
    python scripts/benchmarks/resampling.py --source configs/data/code15.yaml root=/data/code15

A stretch is cut out of each record and resampled; the same stretch out of the whole record, resampled, is the truth, since
there its ends are no ends. Rates are as if: the samples are taken to have been read at the first rate of each pair.
With `--source`, records of a database at their own rate: how far the first and the last sample are from those recorded.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
from scipy.signal import resample, resample_poly

from shared.config import load_config
from shared.data import synthetic
from shared.data.prepare import choose_config, without_problems
from shared.data.recordings import Settings, find_files, read_signals
from shared.data.sources import SOURCES
from shared.data.sources.base import RecordError
from shared.signals import resample_ends

RATES = ((500, 250), (400, 250), (257, 250), (1000, 250), (250, 500))
END = 5
"""Samples at each end that count as end."""
INSIDE = 50
"""Samples from each end on that count as inside."""


def constant(ecg: np.ndarray, fs: float, to: float) -> np.ndarray:
    """Polyphase, the ends continued by their last value."""
    ratio = Fraction(to / fs).limit_denominator(5000)
    found = resample_poly(ecg, ratio.numerator, ratio.denominator, axis=-1, padtype="edge")
    return np.asarray(found[..., : round(ecg.shape[-1] * to / fs)])


def fft(ecg: np.ndarray, fs: float, to: float) -> np.ndarray:
    """`prepare … resample=fft`: the record as a period of an endless one."""
    return np.asarray(resample(ecg, round(ecg.shape[-1] * to / fs), axis=-1))


METHODS: dict[str, Callable[[np.ndarray, float, float], np.ndarray]] = {
    "fft": fft,
    "constant ends": constant,
    "reflected ends (the default)": resample_ends,
}


def deviations(ecg: np.ndarray, fs: int, to: int, method: Callable[..., np.ndarray]) -> tuple[float, float]:
    """Largest deviation of a stretch resampled from the same stretch of the whole: at its ends and inside, µV."""
    ratio = Fraction(to, fs)
    period = ratio.denominator
    start = period * (500 // period + 1)  # where samples of both rates meet
    stop = start + 3000 // period * period
    found = method(ecg[:, start:stop], fs, to)
    first = start * ratio.numerator // period
    gap = 1000 * np.abs(found - resample_ends(ecg, fs, to)[:, first : first + found.shape[-1]])
    return max(gap[:, :END].max(), gap[:, -END:].max()), gap[:, INSIDE:-INSIDE].max()


def own_rate(config_file: str, values: list[str], most: int) -> None:
    """Print how far the ends of a database's records are from those recorded, once at the store's rate."""
    config = load_config(choose_config, config_file, values)
    source = SOURCES[config.source]
    found = source.read(config, without_problems(source.index(config))[0].iloc[:most])
    records = [record for record in found if not isinstance(record, RecordError)]
    rates = ", ".join(f"{fs:g}" for fs in sorted({record.fs for record in records}))
    print(f"{len(records)} records of {config.source}, {rates} -> {config.fs:g} Hz; worst lead, mV: median / worst")
    for name, method in METHODS.items():
        gaps = []
        for record in records:
            ecg = np.nan_to_num(record.signal.astype(float))
            stored = method(ecg, record.fs, config.fs)
            last = round((stored.shape[1] - 1) * record.fs / config.fs)  # where the last sample kept was recorded
            gaps.append([np.abs(stored[:, 0] - ecg[:, 0]).max(), np.abs(stored[:, -1] - ecg[:, last]).max()])
        first, end = np.transpose(gaps)
        print(
            f"{name:28s} first sample {np.median(first):.4f} / {first.max():.4f}, "
            f"last {np.median(end):.4f} / {end.max():.4f}"
        )


def main() -> None:
    """Print one line per pair of rates and method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "root", type=Path, nargs="?", help="a folder of WFDB records of 10 s at 500 Hz; else synthetic ECG"
    )
    parser.add_argument("--records", type=int, default=200)
    parser.add_argument("--source", nargs="+", metavar=("CONFIG", "key=value"), help="a database as `prepare` reads it")
    given = parser.parse_args()
    if given.source is not None:
        own_rate(given.source[0], given.source[1:], given.records)
        return
    if given.root is None:
        patients = synthetic.draw_patients(given.records, seed=0)
        records = list(synthetic.render(patients, fs=500).ecg.astype(float))
    else:
        files = find_files(given.root)[: given.records]
        records = [np.asarray(read_signals(file, Settings()).x, float) for file in files]
    print(f"{len(records)} records; largest deviation of any lead, µV: at the ends median / 95 % / worst, inside worst")
    for fs, to in RATES:
        for name, method in METHODS.items():
            ends, inside = np.transpose([deviations(ecg, fs, to, method) for ecg in records])
            print(
                f"{fs:5d} -> {to} Hz  {name:28s} {np.median(ends):7.1f} / {np.percentile(ends, 95):7.1f} / "
                f"{ends.max():7.1f}, {inside.max():6.2f}"
            )


if __name__ == "__main__":
    main()
