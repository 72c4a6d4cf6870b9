"""What counts as cut off: against a naive loop, and against round tops in coarse steps."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from shared.data.sources.base import read_wfdb
from shared.signals import CLIPPED_MS, CLIPPED_STEPS, clipped_samples
from tests.golden import real_data


def naive(signal: np.ndarray, run: int) -> np.ndarray:
    result = np.zeros(len(signal), dtype=bool)
    steps = sorted(abs(a - b) for a, b in pairwise(signal) if a != b)
    if not steps:
        return result
    least = CLIPPED_STEPS * np.percentile(steps, 5)
    for extreme in (signal.max(), signal.min()):
        first = 0
        while first < len(signal):
            end = first
            while end < len(signal) and signal[end] == extreme:
                end += 1
            if end - first >= run:
                half = (end - first + 1) // 2
                half = min(half, run) if first == 0 or end == len(signal) else half
                before = [abs(signal[k] - extreme) for k in range(max(first - half, 0), first)]
                after = [abs(signal[k] - extreme) for k in range(end, min(end + half, len(signal)))]
                if (not before or max(before) >= least) and (not after or max(after) >= least):
                    result[first:end] = True
            first = max(end, first + 1)
    return result


@pytest.mark.parametrize("fs", [50.0, 100.0, 250.0])
def test_clipped_samples_equal_a_naive_loop(fs: float) -> None:
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.integers(-9, 10, (40, 240)), axis=1)
    signal = np.clip(walk, -25, 25).astype(float)
    run = max(3, round(CLIPPED_MS * fs / 1000))
    found = clipped_samples(signal, fs)
    assert 0 < found.mean() < 1
    for row, expected in zip(found, signal, strict=True):
        np.testing.assert_array_equal(row, naive(expected, run))
    np.testing.assert_array_equal(clipped_samples(signal[0], fs), found[0])
    assert not clipped_samples(np.zeros((2, 2)), fs).any()
    assert not clipped_samples(np.zeros((2, 200)), fs).any()


@pytest.mark.parametrize("fs", [100.0, 250.0, 500.0])
@pytest.mark.parametrize("step", [0.001, 0.00488, 0.005, 0.01])
def test_a_round_top_in_coarse_steps_is_not_cut_off(fs: float, step: float) -> None:
    """A wave of 0.3 mV, as slow as a T wave, rests on its top for tens of milliseconds; cut at half its height it is told."""
    time = np.arange(round(3.7 * fs)) / fs  # it ends on the other side
    wave = 0.3 * np.sin(2 * np.pi * 1.3 * time)
    stored = np.rint(wave / step) * step
    assert not clipped_samples(stored, fs).any() and not clipped_samples(-stored, fs).any()
    cut = np.minimum(stored, np.rint(0.15 / step) * step)
    np.testing.assert_array_equal(clipped_samples(cut, fs), cut == cut.max())
    np.testing.assert_array_equal(clipped_samples(-cut, fs), cut == cut.max())


def test_few_records_of_ptb_xl_are_cut_off_however_coarse_their_steps() -> None:
    """Before the edges of a stretch were looked at, 4 % were flagged at 1 µV and 15 % at 5 µV."""
    root = real_data("ptb-xl")
    flagged = np.zeros(2, dtype=int)
    paths = sorted((root / "records100").rglob("*.hea"))
    for path in paths:
        signal = read_wfdb(path.with_suffix(""))[0].signal.astype(float)
        for k, step in enumerate((0.001, 0.005)):
            flagged[k] += clipped_samples(np.rint(signal / step) * step, 100.0).any()
    assert (flagged <= 0.05 * len(paths)).all(), f"{flagged} of {len(paths)}"
