"""What cannot be used is named and counted, what looks wrong is flagged, and nothing of it stops a preparation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.data.sources import wfdb_folder
from shared.data.sources.base import read_wfdb
from shared.data.store import StoreError
from shared.errors import UserError
from shared.leads import LEADS
from tests.shared.data.preparing import audit_of, run
from tests.shared.data.test_sources import draw_ecg, write_record


def header(path: Path, old: str, new: str) -> None:
    file = path.with_suffix(".hea")
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def with_nan(lead: int) -> np.ndarray:
    ecg = draw_ecg(5)
    ecg[lead, 700] = np.nan
    return ecg


def with_level(level: float, *leads: int) -> np.ndarray:
    ecg = draw_ecg(6)
    ecg[list(leads)] = level
    return ecg


BAD: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "absurd_fast": (
        lambda p: header(write_record(p, "absurd_fast", draw_ecg()), " 250 ", " 250000 "),
        "absurd fs",
        "250000 Hz",
    ),
    "absurd_slow": (
        lambda p: write_record(p, "absurd_slow", draw_ecg(), fs=10),
        "absurd fs",
        "10 Hz; expected 50 to 5000",
    ),
    "absurd_zero": (lambda p: header(write_record(p, "absurd_zero", draw_ecg()), " 250 ", " 0 "), "absurd fs", "0 Hz"),
    "cut": (
        lambda p: write_record(p, "cut", draw_ecg()).with_suffix(".dat").write_bytes(b"abc"),
        "unreadable signal",
        "truncated",
    ),
    "flat": (lambda p: write_record(p, "flat", with_level(0.3, 7)), "flat_lead", "flat segment 0: flat_lead in V2"),
    "garbage": (lambda p: (p / "garbage.hea").write_text("??"), "unreadable header", "garbage.hea"),
    "headless": (
        lambda p: write_record(p, "headless", draw_ecg()).with_suffix(".dat").unlink(),
        "missing file",
        "headless.hea names headless.dat, which does not exist",
    ),
    "nameless": (
        lambda p: write_record(p, "nameless", draw_ecg(), leads=[f"ch{i}" for i in range(12)]),
        "missing or unknown leads",
        "lead I is missing: the header has ch0, ch1",
    ),
    "nan": (lambda p: write_record(p, "nan", with_nan(9)), "nan", "nan segment 0: nan in V4"),
    "one_lead": (
        lambda p: write_record(p, "one_lead", draw_ecg()[1:2], leads=["II"]),
        "missing or unknown leads",
        "lead I is missing: the header has II",
    ),
    "only_nan": (lambda p: write_record(p, "only_nan", np.full((12, 2500), np.nan)), "nan", "nan in I, II"),
    "short": (
        lambda p: write_record(p, "short", draw_ecg(num_samples=100)),
        "too short",
        "0.40 s; a segment takes 10 s",
    ),
    "twice": (
        lambda p: write_record(p, "twice", draw_ecg(), leads=[*LEADS[:11], "v5"]),
        "missing or unknown leads",
        "lead V5 stands twice",
    ),
    "unit": (lambda p: header(write_record(p, "unit", draw_ecg()), "/mV", "/l"), "unknown unit", "lead I is in 'l'"),
    "zero": (lambda p: write_record(p, "zero", with_level(0.0, *range(12))), "flat_lead", "flat_lead in I, II, III"),
}


@pytest.mark.parametrize("chunk", [1, 100])
def test_no_bad_record_stops_the_run_or_passes_unseen(
    tmp_path: Path, chunk: int, capsys: pytest.CaptureFixture[str]
) -> None:
    good = [write_record(tmp_path / "in", name, draw_ecg(seed)).name for seed, name in enumerate(("a_good", "z_good"))]
    for make, _, _ in BAD.values():
        make(tmp_path / "in")
    store = run(tmp_path, chunk=chunk)
    assert store.records.record.tolist() == good
    audit = audit_of(store)
    assert audit["records"] == len(BAD) + 2
    found = {item["record"]: item for item in audit["left_out_records"]}
    assert found.keys() == BAD.keys()
    for name, (_, reason, said) in BAD.items():
        assert found[name]["reason"] == reason, found[name]
        assert said in found[name]["detail"], found[name]
    assert sum(audit["left_out"].values()) == len(BAD)
    printed = capsys.readouterr().out
    assert "3 absurd fs" in printed
    assert f"… {len(BAD) - 5} more in audit.json" in printed


def test_where_no_record_can_be_used_no_store_appears(tmp_path: Path) -> None:
    for make, _, _ in BAD.values():
        make(tmp_path / "in")
    with pytest.raises(StoreError, match=rf"none of {len(BAD)} records could be used\. First: absurd_fast: "):
        run(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_flat_leads_may_be_kept_and_are_flagged(tmp_path: Path) -> None:
    write_record(tmp_path / "in", "a", with_level(0.0, 6, 11))
    store = run(tmp_path, exclude=())
    assert store.records.flat_leads[0].tolist() == ["V1", "V6"]
    assert store.records.clipped_leads[0].tolist() == []
    assert audit_of(store)["flat_segments"] == 1


def test_clipped_leads_are_flagged_and_may_be_left_out(tmp_path: Path) -> None:
    ecg = draw_ecg(num_samples=5000)
    ecg[8, 600:640] = 5.0
    write_record(tmp_path / "in", "a", ecg)
    store = run(tmp_path)
    assert store.records.clipped.tolist() == [True, False]
    assert store.records.clipped_leads[0].tolist() == ["V3"]
    without = run(tmp_path, exclude=["clipped", "flat_lead"], out=tmp_path / "strict")
    assert without.records.segment.tolist() == [1]
    assert audit_of(without)["left_out_records"][0]["detail"] == "a segment 0: clipped in V3"


def test_what_int16_cannot_hold_is_cut_and_flagged(tmp_path: Path) -> None:
    path = write_record(tmp_path / "in", "a", draw_ecg(), unit="mV")
    header(path, "1000.0(0)/mV", "5.0(0)/mV")
    store = run(tmp_path)
    assert store.records.clipped.tolist() == [True]
    assert (store[0].min(), store[0].max()) == (-32768, 32767)


def test_infinite_values_count_as_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_record(tmp_path / "in", "a", draw_ecg())
    write_record(tmp_path / "in", "b", draw_ecg(1))

    def read_infinite(path: Path) -> Any:
        recording, comments = read_wfdb(path)
        if path.name == "a":
            recording.signal[3, 9] = np.inf
        return recording, comments

    monkeypatch.setattr(wfdb_folder, "read_wfdb", read_infinite)
    with np.errstate(invalid="ignore"):
        store = run(tmp_path)
    assert store.records.record.tolist() == ["b"]


def test_duplicates_are_found(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 1), ("c", 0), ("d", 0)):
        write_record(tmp_path / "in", name, draw_ecg(seed))
    store = run(tmp_path)
    assert audit_of(store)["duplicates"] == [["a", "c", "d"]]
    assert store.records.duplicate_of.tolist() == ["", "", "a", "a"]


def test_labels_reach_the_store_and_the_audit(tmp_path: Path) -> None:
    for name in "abc":
        write_record(tmp_path / "in", name, draw_ecg(ord(name)), comments=["Dx: 1,2", "Age: 50", "Sex: Male"])
    (tmp_path / "labels.csv").write_text("record,rhythm\na,AF;SB\nb,AF\nc,\n")
    store = run(tmp_path, labels_csv=tmp_path / "labels.csv", label_column="rhythm")
    assert [list(x) for x in store.records.labels] == [["AF", "SB"], ["AF"], []]
    assert store.records.age.tolist() == [50.0] * 3
    audit = audit_of(store)
    assert audit["labels"] == {"labels": {"AF": 2, "SB": 1}, "dx": {"1": 3, "2": 3}}
    assert audit["without_label"] == {"labels": 1, "dx": 0}
    assert store.meta["labels"] == {"labels": ["AF", "SB"], "dx": ["1", "2"]}


def test_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(UserError, match="no WFDB header matches"):
        run(tmp_path)
    assert not (tmp_path / "out").exists()
