"""Measure the feature extraction: beats and intervals on LUDB, values on synthetic truth, agreement over rates, cost.

    python scripts/benchmarks/features.py [--ludb ../shared/data/ludb] [--records 200]

The other detectors and delineators are compared where their package is installed (wfdb is; neurokit2 needs pandas < 3, so
it wants an environment of its own). LUDB leaves the first and last beats of a record without annotation: only what lies
between the first and the last annotated QRS counts. The settings of `beats` and `delineation` in `shared.measurements`
were made on lead II of these records and on synthetic ones of another seed; the other leads show how far they carry.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared.data.sources.ludb import read_annotations
from shared.data.synthetic import draw_patients, render
from shared.leads import LEADS
from shared.measurements.beats import find_beats, to_lattice
from shared.measurements.features import extract_features

TOLERANCE = 0.075
LUDB_FS = 500.0
INTERVALS = {"qrs_ms": 12.0, "pr_ms": 15.0, "qt_ms": 25.0}
TRUTH = {
    "heart_rate_bpm": ("heart_rate", 0.5),
    "sdnn_ms": ("sdnn_ms", 5.0),
    "rmssd_ms": ("rmssd_ms", 5.0),
    "st_deviation_mv": ("st_mv", 0.03),
    "pr_ms": ("pr_ms", 15.0),
    "qrs_ms": ("qrs_ms", 12.0),
    "qt_ms": ("qt_ms", 25.0),
}
Detector = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Annotated:
    """One lead of a LUDB record: `signal [T]` mV, QRS peaks (s), and the intervals of each annotated beat (ms)."""

    signal: np.ndarray
    peaks: np.ndarray
    intervals: dict[str, list[float]]


def read_ludb(folder: Path, lead: str = "II", records: range = range(1, 51)) -> list[Annotated]:
    """The annotated lead of each record."""
    import wfdb

    result = []
    for number in records:
        path = str(folder / "data" / str(number))
        record = wfdb.rdrecord(path)
        row = [name.lower() for name in record.sig_name].index(lead.lower())
        result.append(Annotated(record.p_signal[:, row], *read_annotations(Path(path), lead)))
    return result


def score_peaks(found: np.ndarray, truth: np.ndarray) -> tuple[int, int, int]:
    """`(hits, missed, false)` within the annotated span; a true peak is hit once at most."""
    if not len(truth):
        return 0, 0, 0
    inside = found[(found >= truth[0] - TOLERANCE) & (found <= truth[-1] + TOLERANCE)]
    free = list(inside)
    for peak in truth:
        near = [at for at in free if abs(at - peak) <= TOLERANCE]
        if near:
            free.remove(min(near, key=lambda at: abs(at - peak)))
    hits = len(inside) - len(free)
    return hits, len(truth) - hits, len(free)


def score_detector(records: list[Annotated], detect: Detector) -> tuple[float, float, float]:
    """`(sensitivity, precision, ms per record)`."""
    counts, started = np.zeros(3), time.perf_counter()
    for record in records:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the libraries warn of short or odd records
            counts += score_peaks(np.asarray(detect(record.signal), dtype=float), record.peaks)
    hits, missed, false = counts
    return hits / (hits + missed), hits / max(hits + false, 1), 1000 * (time.perf_counter() - started) / len(records)


def own_detector(signal: np.ndarray) -> np.ndarray:
    """R peaks (s) of `shared.measurements.beats`."""
    return find_beats(to_lattice(signal, LUDB_FS)).times


def detectors() -> dict[str, Detector]:
    """What can be compared here, by name; each gives R peaks in seconds."""
    from wfdb import processing

    def of_neurokit(method: str) -> Detector:
        import neurokit2

        def detect(signal: np.ndarray) -> np.ndarray:
            clean = neurokit2.ecg_clean(signal, LUDB_FS, method="neurokit")
            return neurokit2.ecg_findpeaks(clean, int(LUDB_FS), method=method)["ECG_R_Peaks"] / LUDB_FS

        return detect

    found: dict[str, Detector] = {
        "shared.measurements.beats": own_detector,
        "wfdb xqrs": lambda signal: processing.xqrs_detect(signal, LUDB_FS, verbose=False) / LUDB_FS,
        "wfdb gqrs": lambda signal: processing.gqrs_detect(signal, LUDB_FS) / LUDB_FS,
    }
    if importlib.util.find_spec("neurokit2"):
        for method in ("neurokit", "pantompkins1985", "kalidas2017", "rodrigues2021", "martinez2004", "nabian2018"):
            found[f"neurokit2 {method}"] = of_neurokit(method)
    return found


def own_intervals(signal: np.ndarray) -> dict[str, float]:
    """Intervals (ms) of `shared.measurements.features`."""
    return extract_features(signal[None], LUDB_FS, ["II"], names=["st_deviation"]).values


def neurokit_intervals(method: str) -> Callable[[np.ndarray], dict[str, float]]:
    """Intervals (ms) of neurokit2: the medians over its beats."""
    import neurokit2

    def measure(signal: np.ndarray) -> dict[str, float]:
        clean = neurokit2.ecg_clean(signal, LUDB_FS)
        peaks = np.rint(own_detector(signal) * LUDB_FS).astype(int)
        try:
            _, waves = neurokit2.ecg_delineate(clean, peaks, sampling_rate=int(LUDB_FS), method=method)
        except (ValueError, IndexError):  # some records end some methods; that is a missing measurement
            return dict.fromkeys(INTERVALS, float("nan"))
        marks = {key: np.asarray(at, dtype=float) / LUDB_FS for key, at in waves.items()}
        p_on, on, off, t_off = (marks[f"ECG_{wave}"] for wave in ("P_Onsets", "R_Onsets", "R_Offsets", "T_Offsets"))
        return {"qrs_ms": gap(on, off, 0.3), "pr_ms": gap(p_on, on, 0.5), "qt_ms": gap(on, t_off, 0.8)}

    def gap(begin: np.ndarray, end: np.ndarray, longest: float) -> float:
        """Median time (ms) from each begin to the first end within `longest` s: the lists need not match in length."""
        after = [end[(end > at) & (end < at + longest)] - at for at in begin[np.isfinite(begin)]]
        return 1000 * float(np.median([part.min() for part in after if len(part)] or [np.nan]))

    return measure


def score_intervals(
    records: list[Annotated], measure: Callable[[np.ndarray], dict[str, float]]
) -> dict[str, list[float]]:
    """Per interval the errors of the records (ms) against the median annotation; NaN where it was not measured."""
    errors: dict[str, list[float]] = {name: [] for name in INTERVALS}
    for record in records:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as above
            values = measure(record.signal)
        for name in INTERVALS:
            if record.intervals[name]:
                errors[name].append(values[name] - float(np.median(record.intervals[name])))
    return errors


def report_ludb(folder: Path) -> None:
    """Detectors and delineators against the annotations."""
    records = read_ludb(folder)
    print(f"R peaks on LUDB, lead II, {sum(len(r.peaks) for r in records)} beats (target: both >= 99 %)")
    for name, detect in detectors().items():
        sensitivity, precision, cost = score_detector(records, detect)
        print(f"  {name:28s} sensitivity {sensitivity:7.2%}  precision {precision:7.2%}  {cost:6.1f} ms/record")
    print("  shared.measurements.beats in the other leads (sensitivity / precision):")
    for lead in LEADS:
        if lead != "II":
            sensitivity, precision, _ = score_detector(read_ludb(folder, lead), own_detector)
            print(f"    {lead:4s} {sensitivity:7.2%} / {precision:7.2%}")
    measures = {"shared.measurements.delineation": own_intervals}
    if importlib.util.find_spec("neurokit2"):
        measures |= {f"neurokit2 {method}": neurokit_intervals(method) for method in ("dwt", "prominence", "cwt")}
    print("intervals on LUDB, lead II, record median against the median annotation")
    for label, measure in measures.items():
        started = time.perf_counter()
        errors = score_intervals(records, measure)
        cost = 1000 * (time.perf_counter() - started) / len(records)
        for name, target in INTERVALS.items():
            print(f"  {label:22s} {name:7s} {describe(np.array(errors[name]), target)}   {cost:.0f} ms/record")
    print("the same in leads on which nothing was set")
    for lead in ("I", "aVF", "V5", "V6"):
        errors = score_intervals(read_ludb(folder, lead), own_intervals)
        for name, target in INTERVALS.items():
            print(f"  {lead:22s} {name:7s} {describe(np.array(errors[name]), target)}")


def describe(error: np.ndarray, target: float) -> str:
    """One line about errors: the share counts missing measurements as failures."""
    size = np.abs(error)
    within = np.mean(size <= target) if len(size) else np.nan
    return (
        f"median |error| {np.nanmedian(size):7.3f}  (target {target:g})  bias {np.nanmedian(error):+7.3f}  "
        f"90th percentile {np.nanpercentile(size, 90):7.3f}  within {within:6.1%}  missing {int(np.isnan(error).sum())}"
    )


def report_synthetic(num_records: int) -> None:
    """Values against the truth at three rates, agreement of the rates, and cost."""
    patients = draw_patients(num_records, seed=2024)
    measured: dict[float, dict[str, np.ndarray]] = {}
    for fs in (500.0, 250.0, 100.0):
        batch = render(patients, fs)
        extract_features(batch.ecg[0], fs, LEADS)
        costs, rows = [], []
        for ecg in batch.ecg:
            started = time.process_time()  # of this core, whoever else is on the machine
            rows.append(extract_features(ecg, fs, LEADS).values)
            costs.append(1000 * (time.process_time() - started))
        print(
            f"synthetic, {fs:g} Hz, {num_records} records; {np.median(costs):.1f} ms of CPU per record (target 15 at 250 Hz)"
        )
        measured[fs] = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        for name, (column, target) in TRUTH.items():
            print(f"  {name:16s} {describe(measured[fs][name] - batch.truth[column].to_numpy(), target)}")
    print("the same records at another rate, difference from 500 Hz (target: within the sampling step for times)")
    for fs in (250.0, 100.0):
        for name in TRUTH:
            target = 1000 / fs if name.endswith("_ms") else TRUTH[name][1]
            print(f"  {fs:3g} Hz {name:16s} {describe(measured[fs][name] - measured[500.0][name], target)}")


def main() -> None:
    """Entry point."""
    root = Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--ludb", type=Path, default=root.parent / "shared" / "data" / "ludb")
    parser.add_argument("--records", type=int, default=200)
    options = parser.parse_args()
    if options.ludb.is_dir():
        report_ludb(options.ludb)
    else:
        print(f"LUDB is not at {options.ludb}; give its folder with --ludb. Skipped.")
    report_synthetic(options.records)


if __name__ == "__main__":
    main()
