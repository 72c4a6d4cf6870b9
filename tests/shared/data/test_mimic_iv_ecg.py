"""MIMIC-IV-ECG as published: aVF before aVL, measures that were not measured, reports with blank lines, ICD labels beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wfdb

from shared.data.prepare import prepare
from shared.data.sources import mimic_iv_ecg
from shared.data.sources.base import PROBLEM
from shared.data.store import ECGStore
from shared.errors import UserError
from shared.leads import LEADS
from tests.golden import real_data
from tests.shared.data.preparing import audit_of
from tests.shared.data.wfdb_records import draw_ecg

STORED = ["I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6"]
STUDIES = {"40689238": "10000032", "44458630": "10000032", "49036311": "10000117"}
MEASURES = "rr_interval,p_onset,p_end,qrs_onset,qrs_end,t_end,p_axis,qrs_axis,t_axis"
MACHINE = {
    "44458630": ["Sinus rhythm", "", '"Possible, old infarct"', *[""] * 15, "659,40,128,170,258,518,81,77,65"],
    "40689238": ["Atrial fibrillation", *[""] * 17, "65535,29999,29999,170,258,518,32767,-32768,65"],
    "49036311": ["", "Normal ECG", *[""] * 16, "909,40,128,170,258,518,81,77,65"],
}


def path_of(study: str) -> str:
    return f"files/p{STUDIES[study][:4]}/p{STUDIES[study]}/s{study}/{study}"


def write_tree(root: Path, signals: list[np.ndarray]) -> Path:
    """`signals [12, T]` in our order."""
    lines = ["subject_id,study_id,file_name,ecg_time,path"]
    for (study, subject), signal in zip(STUDIES.items(), signals, strict=True):
        folder = root / path_of(study)
        folder.parent.mkdir(parents=True, exist_ok=True)
        wfdb.wrsamp(
            study,
            fs=500,
            units=["mV"] * 12,
            sig_name=STORED,
            p_signal=np.ascontiguousarray(signal[[LEADS.index(name) for name in STORED]].T, dtype=np.float64),
            fmt=["16"] * 12,
            adc_gain=[200.0] * 12,
            baseline=[0] * 12,
            write_dir=str(folder.parent),
        )
        lines.append(f"{subject},{study},{study},2180-07-23 08:44:00,{path_of(study)}")
    (root / "record_list.csv").write_text("\n".join(lines) + "\n")
    header = [
        "subject_id,study_id,cart_id,ecg_time",
        *(f"report_{i}" for i in range(18)),
        f"bandwidth,filtering,{MEASURES}",
    ]
    machine = [",".join(header)]
    for study, (*reports, measures) in MACHINE.items():
        machine.append(
            ",".join([STUDIES[study], study, "1,2180-07-23", *reports, "0.005-150 Hz", "60 Hz notch", measures])
        )
    (root / "machine_measurements.csv").write_text("\n".join(machine) + "\n")
    return root


def write_icd(path: Path, strat: dict[str, int]) -> Path:
    lines = [
        "study_id,subject_id,ed_diag_ed,ed_diag_hosp,hosp_diag_hosp,all_diag_hosp,all_diag_all,gender,age,fold,strat_fold"
    ]
    for study, fold in strat.items():
        codes, gender = ("\"['I4891', 'E785']\"", "F,52.0") if study != "49036311" else ("[]", "missing,")
        lines.append(f"{study},{STUDIES[study]},[],[],{codes},{codes},{codes},{gender},0,{fold}")
    path.write_text("\n".join(lines) + "\n")
    return path


def ecgs() -> list[np.ndarray]:
    """Multiples of the 5 µV of a step."""
    return [np.round(np.tile(draw_ecg(seed), (1, 2)) / 0.01) * 0.01 for seed in range(3)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "in", ecgs())


def config_of(root: Path, **values: Any) -> mimic_iv_ecg.Config:
    return mimic_iv_ecg.Config(root=root, out=root.parent / "out", fs=500, backend="sequential", **values)


def test_real_signals_in_the_published_tree(tmp_path: Path) -> None:
    sample = real_data("ptb-xl") / "records500" / "00000"
    signals = [wfdb.rdrecord(str(sample / f"0000{i}_hr")).p_signal.T for i in (1, 2, 3)]
    store: ECGStore = prepare(config_of(write_tree(tmp_path / "in", signals)))
    assert store.records.record.tolist() == list(STUDIES) and store.records.patient.tolist() == list(STUDIES.values())
    for row, signal in enumerate(signals):  # stored in steps of 5 µV
        np.testing.assert_allclose(store[row] * 1e-3, signal, atol=2.6e-3)
    assert store.records.limb_residual_mv.max() < 0.02


def test_reports_and_measures(root: Path) -> None:
    index = mimic_iv_ecg.index(config_of(root))
    assert index.record.tolist() == list(STUDIES) and index.fold[0] == index.fold[1]
    assert index.report.tolist() == ["Atrial fibrillation", "Sinus rhythm; Possible, old infarct", "Normal ECG"]
    first = index.iloc[0][list(mimic_iv_ecg.MEASURES)].astype(float).tolist()
    np.testing.assert_array_equal(first, [np.nan, np.nan, np.nan, 170, 258, 518, np.nan, np.nan, 65])
    assert index.rr_interval.tolist()[1:] == [659, 909] and index.ecg_time[0] == "2180-07-23 08:44:00"
    assert index.age.isna().all() and PROBLEM not in index


@pytest.mark.parametrize(("published", "ours"), [(0, 1), (2, 1), (3, 2), (17, 8), (18, 9), (19, 10)])
def test_icd_codes_and_folds(root: Path, published: int, ours: int) -> None:
    strat = {"49036311": published, "40689238": 4, "44458630": 4}
    write_icd(root.parent / "records_w_diag_icd10.csv", strat)
    index = mimic_iv_ecg.index(config_of(root, icd=root.parent))
    assert index.fold.tolist() == [2, 2, ours]
    assert index.all_diag_all.tolist() == [["E785", "I4891"], ["E785", "I4891"], []]
    assert index.all_diag_hosp.tolist() == index.all_diag_all.tolist() and "ed_diag_ed" not in index
    assert index.age.tolist()[:2] == [52, 52] and np.isnan(index.age[2])
    assert index.sex.tolist()[:2] == [1, 1] and np.isnan(index.sex[2])


def test_every_published_fold_has_one_of_ours(root: Path) -> None:
    folds = []
    for published in range(20):
        icd = write_icd(root.parent / "icd.csv", dict.fromkeys(STUDIES, published))
        folds.append(int(mimic_iv_ecg.index(config_of(root, icd=icd)).fold[0]))
    assert folds == sorted(folds) and set(folds) == set(range(1, 11)) and folds.count(9) == folds.count(10) == 1


def test_a_patient_in_two_folds_is_refused(root: Path) -> None:
    icd = write_icd(root.parent / "icd.csv", {"40689238": 0, "44458630": 19})
    with pytest.raises(UserError, match="patient 10000032 is in several folds"):
        mimic_iv_ecg.index(config_of(root, icd=icd))


def test_bad_lines_are_counted(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = root / "record_list.csv"
    lines = path.read_text().splitlines()
    path.write_text(
        "\n".join([*lines[:2], "10000032,1", *lines[2:], lines[1], lines[3].replace("10000117", "")]) + "\n"
    )
    with (root / "machine_measurements.csv").open("a") as file:
        file.write("1,2,3\n")
    icd = write_icd(root.parent / "icd.csv", {"40689238": 0})
    store = prepare(config_of(root, icd=icd))
    assert store.records.record.tolist() == list(STUDIES) and store.records.fold[0] == 1
    left = [one["detail"] for one in audit_of(store)["left_out_records"]]
    assert left == [
        "40689238: study_id stands twice in the table",
        "49036311: subject_id is empty",
        "record_list.csv line 3: 2 cells where 5 are expected",
    ]
    said = capsys.readouterr().out
    assert "1 line(s) cannot be read" in said and "have no line in it" in said


def test_without_measurements_it_is_said(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "machine_measurements.csv").unlink()
    assert "report" not in mimic_iv_ecg.index(config_of(root))
    assert "the store has no reports" in capsys.readouterr().out


def test_what_is_no_mimic_is_said(root: Path) -> None:
    with pytest.raises(UserError, match="icd .*nowhere is not a file"):
        mimic_iv_ecg.index(config_of(root, icd=root / "nowhere"))
    (root / "record_list.csv").write_text("subject_id,study_id\n1,2\n")
    with pytest.raises(UserError, match="is not a readable CSV with the columns"):
        mimic_iv_ecg.index(config_of(root))
    (root / "record_list.csv").unlink()
    with pytest.raises(UserError, match=r"holds no record_list\.csv"):
        mimic_iv_ecg.index(config_of(root))
