"""Faults of amplitude, noise, stretches without signal and ages are flagged by name, and good records are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shared.config import load_config
from shared.data import synthetic
from shared.data.prepare import choose_config, prepare
from shared.data.quality import FLAGS, flag_amplitudes, flag_leads
from shared.data.store import ECGStore
from shared.leads import LEADS
from tests.golden import real_data
from tests.shared.data.preparing import audit_of, run
from tests.shared.data.wfdb_records import write_record

FS = 100
Array = np.ndarray


def times(factor: float, *leads: int) -> Callable[[Array], Array]:
    def fault(ecg: Array) -> Array:
        ecg[list(leads) or slice(None)] *= factor
        return ecg

    return fault


def put(lead: int, part: slice, value: Callable[[Array], Array]) -> Callable[[Array], Array]:
    def fault(ecg: Array) -> Array:
        ecg[lead, part] = value(ecg[lead, part])
        return ecg

    return fault


def noise(lead: Array) -> Array:
    return np.random.default_rng(0).normal(0, 0.3, lead.shape)


FAULTS: dict[str, tuple[Callable[[Array], Array], str, list[str]]] = {
    "ten": (times(10), "amplitude", list(LEADS)),
    "twenty": (times(20), "amplitude", list(LEADS)),
    "tenth": (times(0.1), "amplitude", list(LEADS)),
    "ten_v2": (times(10, 7), "amplitude", ["V2"]),
    "twenty_v5": (times(20, 10), "amplitude", ["V5"]),
    "tenth_v4": (times(0.1, 9), "amplitude", ["V4"]),
    "noise_v1": (put(6, slice(None), noise), "noise", ["V1"]),
    "zeros_v3": (put(8, slice(0, 600), lambda lead: lead * 0), "zeros", ["V3"]),
    "frozen_v6": (put(11, slice(500, None), lambda lead: lead * 0 + lead[0]), "frozen", ["V6"]),
    "offset_v2": (put(7, slice(None), lambda lead: lead + 20), "offset", ["V2"]),
}
AGES = {"young": "-5", "old": "1000000000"}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty good records, then one of each fault."""
    root = tmp_path_factory.mktemp("faulty")
    num = 60 + len(FAULTS) + len(AGES)
    batch = synthetic.render(synthetic.draw_patients(num, 3), fs=FS, duration=10)
    names = [*(f"good{i}" for i in range(60)), *FAULTS, *AGES]
    for name, ecg in zip(names, batch.ecg.astype(float), strict=True):
        made = FAULTS[name][0](ecg) if name in FAULTS else ecg
        write_record(root / "in", name, made, FS, comments=[f"Age: {AGES.get(name, 50)}"])
    return root


@pytest.fixture(scope="module")
def store(faulty: Path) -> ECGStore:
    return run(faulty, fs=FS)


def test_each_fault_is_flagged_by_name_and_nothing_else(store: ECGStore) -> None:
    records = store.records.set_index("record")
    assert len(records) == 60 + len(FAULTS) + len(AGES)
    for name, (_, flag, leads) in FAULTS.items():
        assert records.loc[name, flag] and set(records.loc[name, f"{flag}_leads"]) >= set(leads), name
        assert len(records.loc[name, f"{flag}_leads"]) == len(leads), name
    assert records.index[records.odd_age].tolist() == sorted(AGES)
    good = records[records.index.str.startswith("good")]
    assert not good[list(FLAGS)].any(axis=None)
    flags = audit_of(store)["flags"]
    assert sorted(flags["odd_age"]) == sorted(AGES)
    assert flags["noise"] == ["noise_v1"] and flags["offset"] == ["offset_v2"] and "ten" in flags["amplitude"]


def test_nothing_is_rescaled(store: ECGStore) -> None:
    """A record ten times too large is stored as it is."""
    row = store.records.record.tolist().index("ten_v2")
    amplitude = store.records.amplitudes_mv[row]
    assert np.ptp(store[row][7]) / 1000 >= amplitude[7] > 5 * amplitude[6]


def test_left_out_only_where_exclude_says_so(faulty: Path) -> None:
    store = run(faulty, fs=FS, out=faulty / "some", exclude=["flat_lead", "amplitude", "odd_age"])
    left = {item["record"]: item for item in audit_of(store)["left_out_records"]}
    amplitude = {name for name, (_, flag, _) in FAULTS.items() if flag == "amplitude"}
    assert amplitude | set(AGES) <= set(left) and not any(name.startswith("good") for name in left)
    assert left["ten_v2"]["detail"] == "ten_v2 segment 0: amplitude in V2"
    assert left["young"]["detail"] == "young segment 0: odd_age -5"
    assert {"noise_v1", "zeros_v3", "frozen_v6"} - set(left) == set(store.records.record) & {
        "noise_v1",
        "zeros_v3",
        "frozen_v6",
    }
    assert len(store) == len(store.records) and not store.records.amplitude.any()
    rest = run(faulty, fs=FS, out=faulty / "rest", exclude=["noise", "zeros", "frozen", "offset"])
    assert {i["record"] for i in audit_of(rest)["left_out_records"]} == {
        name for name, (_, flag, _) in FAULTS.items() if flag != "amplitude"
    }


def test_few_segments_have_the_limits_of_a_heart_alone() -> None:
    one = np.full((1, 12), 1.0)
    assert not flag_amplitudes(one).any()
    for value in (20.0, 0.02):
        two = one.copy()
        two[0, 3] = value
        assert flag_amplitudes(two)[0].tolist() == [i == 3 for i in range(12)]
    assert flag_amplitudes(one * 0.1).all() and not flag_amplitudes(one[:, :1] * 0.1).any()
    assert not flag_amplitudes(np.full((40, 12), np.nan)).any()


def test_slow_recordings_are_not_called_noise() -> None:
    assert not flag_leads(np.random.default_rng(0).normal(size=(1, 500)), 50)["noise"].any()


@pytest.mark.parametrize(
    ("name", "yaml", "more"),
    [
        ("ptb-xl", "ptbxl", ["limit=150"]),
        ("ptb-xl-100hz", "ptbxl", ["rate=100", "limit=600"]),
        ("challenge2021", "wfdb_folder", []),
        ("ludb", "ludb", []),
    ],
)
def test_real_records_are_rarely_flagged(name: str, yaml: str, more: list[str], tmp_path: Path) -> None:
    settings = [f"root={real_data(name)}", f"out={tmp_path / 's'}", "workers=1", *more]
    records = prepare(load_config(choose_config, f"configs/data/{yaml}.yaml", settings)).records
    # The limb leads of LUDB do disagree, all of them: by 0.35 mV in the median.
    assert records.limb.mean() == (name == "ludb")
    assert records[[flag for flag in FLAGS if flag != "limb"]].any(axis=1).mean() <= 0.01
