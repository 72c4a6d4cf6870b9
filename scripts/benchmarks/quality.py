"""Measure two judgements of a signal: what is cut off, at fine and coarse steps, and who is paced.

    python scripts/benchmarks/quality.py [--data ../shared/data] [--records 500]

Needs `ptb-xl` (500 Hz) and `ludb` below `--data`. What is flagged in unchanged records is mostly false: none of them is known to
be cut off. Records are then cut at a share of each lead's extreme; a lead counts where at least 20 ms of it lie beyond.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.signal import resample_poly

from shared.data.sources.base import read_wfdb
from shared.leads import LEADS
from shared.measurements.features import extract_features
from shared.signals import CLIPPED_MS, FLAT_MV, clipped_samples, run_starts

STEPS = (0.001, 0.00488, 0.005, 0.01)
SHARES = (0.95, 0.8, 0.6)


def report_clipping(records: list[np.ndarray], fs: float) -> None:
    """Flags of records as they are, and misses where they are cut, by the step (mV) that they are stored in."""
    run = max(3, round(CLIPPED_MS * fs / 1000))
    for step in STEPS:
        flagged, cut, missed = 0, dict.fromkeys(SHARES, 0), dict.fromkeys(SHARES, 0)
        for record in records:
            ecg = np.rint(record / step) * step
            flagged += (clipped_samples(ecg, fs).any(axis=1) & (np.ptp(ecg, axis=1) >= FLAT_MV)).any()
            top = np.abs(ecg).max(axis=1, keepdims=True)
            for share in SHARES:
                rail = np.rint(share * top / step) * step
                there = run_starts(np.abs(ecg) >= rail, run).any(axis=1) & (top[:, 0] > 0.1)
                seen = clipped_samples(np.clip(ecg, -rail, rail), fs).any(axis=1)
                cut[share] += int(there.sum())
                missed[share] += int((there & ~seen).sum())
        shares = ", ".join(f"{share:g}: {missed[share]} of {cut[share]}" for share in SHARES)
        print(
            f"  {fs:g} Hz, steps of {1000 * step:g} uV: {flagged} of {len(records)} flagged as they are; missed {shares}"
        )


def report_pacing(name: str, records: list[np.ndarray], tagged: list[bool]) -> None:
    """Who is noted as paced among those whom the database's table calls paced, and among the others."""
    for fs in (500.0, 250.0):
        noted = []
        for record in records:
            ecg = record if fs == 500 else resample_poly(record, 1, 2, axis=1, padtype="edge")
            noted.append(any("pacing" in note for note in extract_features(ecg, fs, LEADS, ["r_peaks"]).notes))
        paced, others = np.array(noted)[tagged], np.array(noted)[~np.array(tagged)]
        print(
            f"  {name}, {fs:g} Hz: noted {paced.sum()} of {len(paced)} paced, {others.sum()} of {len(others)} other records"
        )


def main() -> None:
    """Entry point."""
    root = Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=root.parent / "shared" / "data")
    parser.add_argument("--records", type=int, default=500)
    options = parser.parse_args()
    if not (options.data / "ptb-xl").is_dir():
        print(f"PTB-XL is not below {options.data}; give its folder with --data. Nothing was measured.")
        return

    def read(paths: list[Path]) -> list[np.ndarray]:
        return [np.nan_to_num(read_wfdb(path)[0].signal.astype(float)) for path in paths]

    table = pd.read_csv(options.data / "ptb-xl" / "ptbxl_database.csv").iloc[: options.records]
    ptbxl = read([options.data / "ptb-xl" / name for name in table.filename_hr])
    print("cut off (PTB-XL):")
    report_clipping(ptbxl, 500.0)
    report_clipping([resample_poly(ecg, 1, 5, axis=1, padtype="edge") for ecg in ptbxl], 100.0)
    print("paced:")
    report_pacing("PTB-XL", ptbxl, table.pacemaker.notna().tolist())
    if (options.data / "ludb").is_dir():
        ludb = pd.read_csv(options.data / "ludb" / "ludb.csv", skipinitialspace=True).iloc[: min(50, options.records)]
        records = read([options.data / "ludb" / "data" / str(int(number)) for number in ludb.ID])
        report_pacing("LUDB", records, ludb["Cardiac pacing"].notna().tolist())


if __name__ == "__main__":
    main()
