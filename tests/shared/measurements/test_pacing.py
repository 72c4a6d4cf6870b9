"""Pacing spikes are found in all leads at once, where lead II hardly shows them, and nobody else's QRS is taken for one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.signal import resample_poly

from shared.data.sources.base import read_wfdb
from shared.data.synthetic import draw_patients, render
from shared.leads import LEADS
from shared.measurements.beats import Beats, find_beats, to_lattice
from shared.measurements.features import PACED, extract_features
from shared.measurements.pacing import bridge_spikes, find_spikes
from tests.golden import real_data

LATE = 0.09
"""s from a spike to its R peak."""


def planted(fs: float, height: float) -> tuple[np.ndarray, Beats, np.ndarray]:
    """A record with a spike of two samples before each beat, in the chest leads only; its beats; the spikes."""
    batch = render(draw_patients(1, seed=4), fs)
    ecg, times = batch.ecg[0].astype(float), batch.r_peaks[0]
    spikes = np.rint((times[times > 0.2] - LATE) * fs).astype(int)
    for at in spikes:
        ecg[6:, at : at + max(1, round(0.004 * fs))] += height
    return ecg, Beats(times, np.ones(len(times), dtype=bool)), spikes


@pytest.mark.parametrize("fs", [250.0, 500.0, 1000.0])
def test_spikes_of_other_leads_are_found(fs: float) -> None:
    ecg, beats, spikes = planted(fs, 1.5)
    found = find_spikes(ecg, fs, beats)
    assert found is not None
    inside = spikes[(spikes > 0.1 * fs) & (spikes < ecg.shape[1] - 0.2 * fs)]
    assert np.abs(found[:, None] - inside).min(axis=1).max() <= 0.006 * fs
    assert np.abs(found[:, None] - inside).min(axis=0).max() <= 0.006 * fs
    assert find_spikes(planted(fs, 0.0)[0], fs, beats) is None
    holes = ecg.copy()
    holes[6, :] = np.nan
    assert find_spikes(holes, fs, beats) is not None


def test_what_cannot_be_told_is_not_told() -> None:
    ecg, beats, _ = planted(500.0, 1.5)
    assert find_spikes(ecg, 500.0, Beats(beats.times[:1], beats.normal[:1])) is None
    assert find_spikes(np.full_like(ecg, np.nan), 500.0, beats) is None
    assert find_spikes(planted(100.0, 1.5)[0], 100.0, beats) is None


def test_a_bridge_replaces_the_spike_alone() -> None:
    line = np.arange(100.0)
    spiked = line.copy()
    spiked[[40, 41]] += 5
    np.testing.assert_allclose(bridge_spikes(spiked, 500.0, np.array([40])), line)
    changed = bridge_spikes(np.sin(line), 500.0, np.array([40])) != np.sin(line)
    assert changed[36:45].all() and not changed[:36].any() and not changed[45:].any()


@pytest.mark.parametrize("fs", [500.0, 250.0])
def test_paced_records_of_ludb_are_told_from_the_others(fs: float) -> None:
    root = real_data("ludb")
    table = pd.read_csv(root / "ludb.csv", skipinitialspace=True)
    paced = set(table.ID[table["Cardiac pacing"].notna()].astype(int)) & set(range(1, 51))
    assert paced == {8, 34, 45}
    said = set()
    for number in range(1, 51):
        recording, _ = read_wfdb(root / "data" / str(number))
        ecg = resample_poly(recording.signal.astype(float), round(fs), 500, axis=1, padtype="edge")
        beats = find_beats(to_lattice(ecg[1], fs))
        if find_spikes(ecg, fs, beats) is not None:
            said.add(number)
            assert PACED in extract_features(ecg, fs, LEADS, ["r_peaks"]).notes
    assert said == paced
