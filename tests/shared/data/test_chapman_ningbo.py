"""Chapman–Shaoxing–Ningbo as PhysioNet and as figshare publish it: one person, one signal, one fold."""

from __future__ import annotations

import builtins
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import wfdb

from shared.data.prepare import prepare
from shared.data.sources import chapman_ningbo
from shared.data.sources.base import RecordError
from shared.errors import UserError
from shared.leads import LEADS
from tests.golden import real_data
from tests.shared.data.preparing import audit_of
from tests.shared.data.wfdb_records import draw_ecg, write_record

LINES = [
    ("MUSE_20180113_171327_27000", "AFIB", "RBBB TWC", "85", "MALE"),
    ("MUSE_20180112_073319_29000", "SB", "TWC", "59", "FEMALE"),
    ("MUSE_20180111_165520_97000", "SA", "NONE", "20", "FEMALE"),
    ("MUSE_20180113_121940_44000", "SB", "NONE", "66", "MALE"),
    ("MUSE_20180112_122850_57000", "AF", "STDD STTC", "73", "FEMALE"),
]
"""The first lines of the published table; PhysioNet has all but the third of these records."""


def config_of(root: Path, **values: Any) -> chapman_ningbo.Config:
    return chapman_ningbo.Config(**{"root": root, "out": root.parent / "store", "backend": "sequential", **values})


def write_figshare(root: Path, signals: dict[str, np.ndarray], lines: list[tuple[str, ...]]) -> Path:
    """`Diagnostics.xlsx`, and `ECGData` with signals `[12, T]` in mV written as µV."""
    (root / "ECGData").mkdir(parents=True, exist_ok=True)
    pd.DataFrame(lines, columns=list(chapman_ningbo.COLUMNS)).to_excel(root / "Diagnostics.xlsx", index=False)
    for name, signal in signals.items():
        pd.DataFrame(signal.T * 1000, columns=list(LEADS)).to_csv(root / "ECGData" / f"{name}.csv", index=False)
    return root


def test_both_publications_are_the_same_records_of_the_same_people(tmp_path: Path) -> None:
    sample = real_data("challenge2021")
    folder = tmp_path / "physionet" / "WFDBRecords" / "01" / "010"
    folder.mkdir(parents=True)
    for number in (1, 2, 4, 5):
        for end in ("hea", "mat"):
            shutil.copy(sample / "chapman_shaoxing" / "g1" / f"JS{number:05d}.{end}", folder)
    for end in ("hea", "mat"):
        shutil.copy(sample / "ningbo" / "g1" / f"JS20000.{end}", folder)
    one = prepare(config_of(tmp_path / "physionet", out=tmp_path / "one", fs=500))
    assert one.records.record.tolist() == ["JS00001", "JS00002", "JS00004", "JS00005", "JS20000"]
    assert one.records.cohort.tolist() == ["chapman_shaoxing"] * 4 + ["ningbo"]
    assert set(one.meta["labels"]) == {"dx", "scored", "superclass"}
    assert [list(x) for x in one.records.superclass[:4]] == [["CD", "STTC"], ["STTC"], [], ["CD", "STTC"]]

    signals = {LINES[n - 1][0]: wfdb.rdrecord(str(folder / f"JS{n:05d}")).p_signal.T for n in (1, 2, 4, 5)}
    signals[LINES[2][0]] = draw_ecg(3, 5000)
    root = write_figshare(tmp_path / "figshare", signals, LINES)
    two = prepare(config_of(root, out=tmp_path / "two", fs=500))
    assert two.records.patient.tolist() == [f"JS0000{i}" for i in (1, 2, 3, 4, 5)]
    assert [list(x) for x in two.records.rhythm] == [["AFIB"], ["SB"], ["SA"], ["SB"], ["AF"]]
    assert [list(x) for x in two.records.beat] == [["RBBB", "TWC"], ["TWC"], [], [], ["STDD", "STTC"]]
    assert set(two.meta["labels"]) == {"rhythm", "beat"}
    same = one.records.reset_index().merge(two.records.reset_index(), on="patient")
    assert len(same) == 4
    for column in ("age", "sex", "fold", "cohort"):
        assert same[f"{column}_x"].tolist() == same[f"{column}_y"].tolist()
    for line in same.itertuples():
        np.testing.assert_array_equal(one[line.index_x], two[line.index_y])


# ---------------------------------------------------------------- PhysioNet


def test_faults_of_the_tree_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "in" / "WFDBRecords" / "01" / "019"
    for seed, name in enumerate(("JS01051", "JS01052", "JS01053", "JS01054", "A0001")):
        write_record(folder, name, draw_ecg(seed), comments=["Age: 61", "Sex: Female", "Dx: 426177001,,"])
    (folder / "JS01052.hea").write_text("")  # as published
    (folder / "JS01053.hea").unlink()
    (folder / "JS01053.mat").write_bytes(b"MATLAB")
    store = prepare(config_of(tmp_path / "in"))
    assert store.records.record.tolist() == ["JS01051", "JS01054"]
    assert [list(x) for x in store.records.scored] == [["SB"], ["SB"]]
    audit = audit_of(store)
    assert audit["left_out"] == {"bad row": 1, "unreadable header": 1, "missing file": 1}
    assert audit["left_out_records"][0]["detail"] == "A0001: its name is no JS number, as JS00001"


def test_a_folder_that_is_neither_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds neither WFDBRecords \(PhysioNet\) nor ECGData and Diagnostics\.xlsx"):
        chapman_ningbo.index(config_of(tmp_path))
    (tmp_path / "WFDBRecords").mkdir()
    with pytest.raises(UserError, match=r"WFDBRecords holds no record\. Expected WFDBRecords/01/010/JS00001\.hea"):
        chapman_ningbo.index(config_of(tmp_path))
    for folder in ("010", "011"):
        write_record(tmp_path / "WFDBRecords" / "01" / folder, "JS00001", draw_ecg(num_samples=10))
    with pytest.raises(UserError, match="JS00001 lies in WFDBRecords/01/010/JS00001 and WFDBRecords/01/011/JS00001"):
        chapman_ningbo.index(config_of(tmp_path))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file is not a folder"):
        chapman_ningbo.index(config_of(tmp_path / "file"))


# ---------------------------------------------------------------- figshare


def test_another_order_of_the_table_gives_other_people_aloud(tmp_path: Path) -> None:
    root = write_figshare(tmp_path / "in", {}, LINES[::-1])
    with pytest.warns(UserWarning, match="does not begin with MUSE_20180113_171327_27000, as published"):
        index = chapman_ningbo.index(config_of(root))
    assert index.patient.tolist() == index.record.tolist() == [line[0] for line in LINES[::-1]]


def test_bad_lines_and_files_are_left_out_by_name(tmp_path: Path) -> None:
    lines = [*LINES, ("", "SR", "NONE", "50", "MALE"), (LINES[1][0], "SR", "NONE", "-1", "")]
    root = write_figshare(tmp_path / "in", {LINES[0][0]: draw_ecg(0, 5000), LINES[1][0]: draw_ecg(1, 5000)}, lines)
    (root / "ECGData" / f"{LINES[2][0]}.csv").write_text("I,II\n1,x\n")
    (root / "ECGData" / f"{LINES[3][0]}.csv").write_text("I,II\n1,2\n")
    store = prepare(config_of(root))
    assert store.records.record.tolist() == [LINES[0][0], LINES[1][0]]
    details = {item["record"]: item["reason"] for item in audit_of(store)["left_out_records"]}
    assert details == {
        "line 7": "bad row",
        LINES[1][0]: "bad row",
        LINES[2][0]: "unreadable signal",
        LINES[3][0]: "missing or unknown leads",
        LINES[4][0]: "missing file",
    }


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            pd.DataFrame({"FileName": ["a"], "Rhythm": ["SB"]}),
            "has no column Beat, PatientAge, Gender; its columns: FileName",
        ),
        (pd.DataFrame(columns=list(chapman_ningbo.COLUMNS)), "has no line"),
        (None, "is not a readable Excel table"),
    ],
)
def test_a_table_that_cannot_be_used_is_said(tmp_path: Path, table: pd.DataFrame | None, said: str) -> None:
    root = write_figshare(tmp_path / "in", {}, LINES)
    if table is None:
        (root / "Diagnostics.xlsx").write_bytes(b"zip")
    else:
        table.to_excel(root / "Diagnostics.xlsx", index=False)
    with pytest.raises(UserError, match=said):
        chapman_ningbo.index(config_of(root))


def test_without_openpyxl_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_figshare(tmp_path / "in", {}, LINES)
    whole = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name.partition(".")[0] == "openpyxl":
            raise ImportError(name)
        return whole(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.delitem(sys.modules, "openpyxl", raising=False)
    with pytest.raises(UserError, match=r'pip install -e "\.\[xlsx\]"'):
        chapman_ningbo.index(config_of(root))


def test_a_csv_that_is_missing_is_its_own_error(tmp_path: Path) -> None:
    root = write_figshare(tmp_path / "in", {}, LINES)
    config = config_of(root)
    results = chapman_ningbo.read(config, chapman_ningbo.index(config))
    assert all(isinstance(result, RecordError) and result.reason == "missing file" for result in results)
