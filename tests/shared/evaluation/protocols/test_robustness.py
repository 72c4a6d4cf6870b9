"""Disturbances at their stated size, the same for the same seed, and the protocol on an encoder that feels them."""

from __future__ import annotations

import numpy as np
import pytest

from shared.data.synthetic import simulate
from shared.errors import UserError
from shared.evaluation.context import RANDOM
from shared.evaluation.protocols.robustness import (
    DISTURBANCES,
    DisturbedStore,
    Setup,
    add_baseline_wander,
    add_mains,
    add_white_noise,
    drop_leads,
    find_conditions,
    robustness,
    swap_arms,
)
from shared.lead_rows import limb_residual
from shared.leads import LEADS
from tests.shared.evaluation.contexts import NAME, Powers, make_context, make_store, truth_and_noise

TWELVE = Setup(LEADS, tuple(range(12)), 250.0)


@pytest.fixture(scope="module")
def ecg():
    return simulate(1, seed=3).ecg[0].astype(np.float64)  # [12, 2500] mV


@pytest.mark.parametrize("snr", [20, 0])
def test_white_noise_has_its_ratio(ecg, snr):
    noise = add_white_noise(ecg, TWELVE, snr, np.random.default_rng(0)) - ecg
    np.testing.assert_allclose(10 * np.log10(ecg.var(axis=1) / noise.var(axis=1)), snr, atol=0.5)


def test_wander_is_slow_and_as_large_as_asked(ecg):
    drift = add_baseline_wander(ecg, TWELVE, 0.5, np.random.default_rng(0)) - ecg
    np.testing.assert_allclose(np.abs(drift).max(axis=1), 0.5)
    power = np.abs(np.fft.rfft(drift * np.hanning(2500), axis=1)) ** 2
    assert power[:, 10:].sum() < 0.01 * power.sum()  # above 1 Hz


@pytest.mark.parametrize("hertz", [50.0, 60.0])
def test_mains_is_one_line(ecg, hertz):
    hum = add_mains(hertz)(ecg, TWELVE, 0.1, np.random.default_rng(0)) - ecg
    power = np.abs(np.fft.rfft(hum, axis=1)) ** 2
    assert (power.argmax(axis=1) == hertz * 10).all()
    np.testing.assert_allclose(hum.std(axis=1), 0.1 / np.sqrt(2), rtol=1e-3)


def test_swapped_arms(ecg):
    swapped = swap_arms(ecg, TWELVE, 1, np.random.default_rng(0))
    of, was = ({lead: x[i] for i, lead in enumerate(LEADS)} for x in (swapped, ecg))
    expected = {"I": -was["I"], "II": was["III"], "III": was["II"], "aVR": was["aVL"], "aVL": was["aVR"]}
    for lead, trace in ({lead: was[lead] for lead in LEADS} | expected).items():
        np.testing.assert_allclose(of[lead], trace, atol=1e-6, err_msg=lead)
    assert limb_residual(swapped, LEADS) < 1e-6
    with pytest.raises(ValueError, match="leads I and II are needed"):
        swap_arms(ecg[6:], Setup(LEADS[6:], (0,), 250.0), 1, np.random.default_rng(0))


def test_dropped_leads_are_among_those_seen(ecg):
    dropped = drop_leads(ecg, Setup(LEADS, (1, 6, 7), 250.0), 2, np.random.default_rng(0))
    zero = np.flatnonzero(~dropped.any(axis=1))
    assert len(zero) == 2 and set(zero) <= {1, 6, 7}


def test_disturbance_depends_on_seed_and_record_only(tmp_path):
    store, _ = make_store(tmp_path / "store", num=20)
    disturbed = DisturbedStore(store, "noise", add_white_noise, 10, seed=1)
    together = disturbed.read_windows(np.array([3, 7]), np.array([5, 5]), 100, [1, 0])
    alone = disturbed.read_windows(np.array([7]), np.array([5]), 100)
    np.testing.assert_array_equal(together[1], alone[0, [1, 0]])
    other = DisturbedStore(store, "noise", add_white_noise, 10, seed=2)
    assert not np.array_equal(other.read_windows(np.array([7]), np.array([5]), 100), alone)
    assert disturbed.fingerprint != other.fingerprint != store.fingerprint
    quiet = DisturbedStore(store, "noise", add_white_noise, 200, seed=1)
    clean = store.read_windows(np.array([7]), np.array([5]), 100) / 1000
    np.testing.assert_allclose(quiet.read_windows(np.array([7]), np.array([5]), 100), clean, atol=1e-7)


def test_protocol(tmp_path):
    store, labels = make_store(tmp_path / "store", num=300)
    encoders = {NAME: Powers(), RANDOM: Powers()}
    result = robustness(make_context(tmp_path, store, labels, encoders=encoders))
    scores = result.scores[NAME]
    levels = [scores[f"auroc_macro@{name}"]["value"] for name in ("clean", "noise_at_10dB", "noise_at_0dB")]
    assert levels[0] > 0.99 and levels[0] >= levels[1] >= levels[2] - 0.02
    assert scores["auroc_macro@dropped_at_6"]["value"] < levels[0] - 0.1
    assert "auroc_macro@arms_swapped" in scores and "knn/auroc_macro@wander_at_1mV" in scores
    assert any("50 Hz left out, the store is at 100 Hz" in note for note in result.notes)
    assert result.figures[0].path.stat().st_size > 1_500


def test_what_is_left_out(tmp_path):
    store, labels = make_store(tmp_path / "store", leads=("V1", "V2", "V3"))
    context = make_context(tmp_path, store, labels, encoders={NAME: Powers(leads=("V1", "V2"))})
    conditions, notes = find_conditions(context)
    assert {"clean", "noise_at_20dB", "dropped_at_1"} <= set(conditions)
    assert "dropped_at_3" not in conditions and "arms_swapped" not in conditions
    assert len(notes) == 4 and set(DISTURBANCES) == {"noise", "wander", "mains50", "mains60", "arms_swapped", "dropped"}
    with pytest.raises(UserError, match="encoders are not at hand"):
        robustness(make_context(tmp_path, store, labels, truth_and_noise(labels)))
