"""Copies are found however they were disturbed; other people's, flat, short and odd records match nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.signal import butter, resample_poly, sosfiltfilt

from shared.config import load_config
from shared.data.copies import find_copies, match_prints
from shared.data.fingerprint import LEAD_PREFERENCE, common_leads, make_prints
from shared.data.prepare import choose_config, prepare
from shared.data.resampled import at_rate
from shared.data.sources import ptbxl
from shared.data.synthetic import draw_patients, render
from shared.leads import LEADS
from tests.golden import real_data

FS, NUM = 500.0, 60
ROWS = [LEADS.index(lead) for lead in LEAD_PREFERENCE[:4]]


@pytest.fixture(scope="module")
def ecg() -> np.ndarray:
    """One record each of 60 people, `[60, 4, 5000]` mV at 500 Hz."""
    return render(draw_patients(NUM, seed=11), FS).ecg[:, ROWS]


def matched(copies: np.ndarray, fs: float, originals: np.ndarray) -> tuple[list[int], list[int]]:
    one, two, correlation = match_prints(make_prints(copies, fs), make_prints(originals, FS))
    assert (correlation <= 1).all()
    return one.tolist(), two.tolist()


@pytest.mark.parametrize(
    ("change", "fs"),
    [
        ("none", 500.0),
        ("shift 0.313", 500.0),
        ("shift 4", 500.0),
        ("middle 5", 500.0),
        ("rate", 100.0),
        ("rate", 250.0),
        ("rate", 60.0),
        ("gain", 500.0),
        ("band", 500.0),
        ("noise", 500.0),
    ],
)
def test_every_copy_is_found_and_nobody_elses_record(ecg: np.ndarray, change: str, fs: float) -> None:
    kind, _, seconds = change.partition(" ")
    if kind == "shift":
        copies = ecg[..., round(float(seconds) * FS) :]
    elif kind == "middle":
        copies = ecg[..., 1250:3750]
    elif kind == "rate":
        copies = resample_poly(ecg, round(fs), round(FS), axis=-1, padtype="edge")
    elif kind == "gain":
        copies = ecg * np.random.default_rng(0).uniform(0.5, 2, (NUM, 1, 1))
    elif kind == "band":
        copies = sosfiltfilt(butter(2, (0.5, 40.0), "bandpass", fs=FS, output="sos"), ecg)
    else:
        spread = 0.015 if kind == "noise" else 0.0
        copies = ecg + spread * np.random.default_rng(0).standard_normal(ecg.shape)
    one, two = matched(copies, fs, ecg)
    assert one == two == list(range(NUM))


def test_a_stretch_of_two_beats_is_too_short_to_say(ecg: np.ndarray) -> None:
    assert matched(ecg[..., :1600], FS, ecg) == ([], [])


def test_flat_short_and_odd_records_match_nothing_not_even_each_other(ecg: np.ndarray) -> None:
    place = np.arange(5000)
    rng = np.random.default_rng(0)
    odd = np.stack(
        [
            np.zeros((4, 5000)),
            np.full((4, 5000), 3.0),
            np.tile(place * 1e-4, (4, 1)),
            np.tile((place > 2500) * 1.0, (4, 1)),
            *0.1 * rng.standard_normal((4, 4, 5000)),
            np.where(place == 2500, 30.0, 0.0) * np.ones((4, 1)),
        ]
    )
    found = matched(np.concatenate([odd, odd]), FS, np.concatenate([odd, ecg]))
    assert all(i % len(odd) == j for i, j in zip(*found, strict=True)), "an odd record matches at most itself"
    assert not any(i % len(odd) < 2 for i in found[0]), "a flat record matches nothing, itself neither"
    prints = make_prints(np.concatenate([odd[:2], ecg[:3]]), FS)
    assert prints.mute == 2 and np.isfinite(prints.vectors).all()
    short = make_prints(ecg[..., :600], FS)
    assert short.mute == NUM
    assert [len(x) for x in match_prints(short, make_prints(ecg, FS))] == [0, 0, 0]


def test_a_lead_that_is_flat_in_both_is_passed_over(ecg: np.ndarray) -> None:
    flat = ecg.copy()
    flat[:, 1] = 0
    assert matched(flat[..., 700:], FS, flat) == (list(range(NUM)), list(range(NUM)))


def test_leads_are_those_both_sides_have() -> None:
    assert common_leads(LEADS, LEADS) == LEAD_PREFERENCE[:4]
    assert common_leads(("V1", "I", "II"), LEADS) == ("II", "I", "V1")
    assert common_leads(("MLII",), LEADS) == ()


def test_stores_of_other_rate_length_and_leads(tmp_path: Path) -> None:
    overrides = ["num_records=12", "backend=sequential", "seed=3", "exclude=[]", "fs=250"]
    whole, limbs = (
        prepare(
            load_config(choose_config, "configs/data/synthetic.yaml", [*overrides, f"out={tmp_path / name}", leads])
        )
        for name, leads in (("a", "leads=[I,II,V1,V2,V5]"), ("b", "leads=[I,II,III]"))
    )
    limbs = at_rate(limbs, 100.0)
    found = find_copies(whole, np.arange(4, 12), limbs, np.arange(12))
    assert found.leads == ("II", "I") and found.mute == (0, 0)
    assert found.a.tolist() == list(range(8)) and found.b.tolist() == list(range(4, 12))
    assert len(find_copies(whole, np.arange(12), whole, np.arange(12)).a) == 0, "no record is a copy of itself"


def test_the_same_ecgs_at_500_and_100_hz(tmp_path: Path) -> None:
    """The published PTB-XL has its records at both rates."""
    root = real_data("ptb-xl")
    stores = [
        prepare(
            ptbxl.Config(
                root=root, rate=rate, fs=fs, limit=60, out=tmp_path / str(rate), backend="sequential", exclude=()
            )
        )
        for rate, fs in ((500, 250.0), (100, 100.0))
    ]
    found = find_copies(stores[0], np.arange(60), stores[1], np.arange(60))
    assert found.a.tolist() == found.b.tolist() == list(range(60))
