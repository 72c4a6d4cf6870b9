"""What counts as cut off, against a naive loop."""

from __future__ import annotations

import numpy as np
import pytest

from shared.signals import CLIPPED_MS, clipped_samples


def naive(signal: np.ndarray, run: int) -> np.ndarray:
    result = np.zeros(len(signal), dtype=bool)
    for start in range(len(signal) - run + 1):
        window = signal[start : start + run]
        if (window == signal.max()).all() or (window == signal.min()).all():
            result[start : start + run] = True
    return result


@pytest.mark.parametrize("fs", [50.0, 100.0, 250.0])
def test_clipped_samples_equal_a_naive_loop(fs: float) -> None:
    rng = np.random.default_rng(0)
    signal = np.clip(rng.integers(-9, 10, (40, 120)), -2, 2)
    run = max(3, round(CLIPPED_MS * fs / 1000))
    found = clipped_samples(signal, fs)
    assert 0 < found.mean() < 1
    for row, expected in zip(found, signal, strict=True):
        np.testing.assert_array_equal(row, naive(expected, run))
    np.testing.assert_array_equal(clipped_samples(signal[0], fs), found[0])
    assert not clipped_samples(np.zeros((2, 2)), fs).any()
