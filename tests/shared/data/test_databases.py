"""The databases by name: their indices, labels and truth."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.signal import resample

from shared.config import load_config
from shared.data.prepare import choose_config, prepare
from shared.data.sources import SOURCES, ludb, ptbxl, synthetic
from shared.data.sources.base import RecordError
from shared.errors import UserError
from shared.lead_rows import limb_residual
from shared.leads import LEADS
from tests.golden import real_data
from tests.shared.data.preparing import audit_of
from tests.shared.data.wfdb_records import draw_ecg, write_record

# ---------------------------------------------------------------- PTB-XL

STATEMENTS = """,description,diagnostic,form,rhythm,diagnostic_class,diagnostic_subclass
NORM,normal,1.0,,,NORM,NORM
IMI,inferior,1.0,,,MI,IMI
NDT,non-diagnostic T,1.0,1.0,,STTC,STTC
SR,sinus rhythm,,,1.0,,
"""
DATABASE = """ecg_id,patient_id,age,sex,scp_codes,strat_fold,filename_lr,filename_hr
1,7.0,56.0,1,"{'NORM': 100.0, 'SR': 0.0}",3,lr/1,hr/1
2,7.0,300.0,0,"{'IMI': 35.0, 'NDT': 50.0, 'SR': 0.0}",3,lr/2,hr/2
3,8.0,,0,"{'IMI': 0.0, 'NDT': 0.0, 'QQQ': 100.0}",10,lr/3,hr/3
"""


def ptbxl_config(root: Path, database: str = DATABASE, **values: Any) -> ptbxl.Config:
    (root / "ptbxl_database.csv").write_text(database)
    (root / "scp_statements.csv").write_text(STATEMENTS)
    return ptbxl.Config(root=root, out=root / "out", **values)


def test_ptbxl_labels(tmp_path: Path) -> None:
    index = ptbxl.index(ptbxl_config(tmp_path))
    assert index.record.tolist() == ["00001", "00002", "00003"]
    assert index.patient.tolist() == ["7", "7", "8"]
    assert index.fold.tolist() == [3, 3, 10]
    assert index.superclass.tolist() == [["NORM"], ["MI", "STTC"], ["MI", "STTC"]]
    assert index.subclass.tolist() == [["NORM"], ["IMI", "STTC"], ["IMI", "STTC"]]
    assert index.diagnostic.tolist() == [["NORM"], ["IMI", "NDT"], ["IMI", "NDT"]]
    assert index.form.tolist() == [[], ["NDT"], ["NDT"]]
    assert index.rhythm.tolist() == [["SR"], ["SR"], []]
    assert index.statements.tolist() == [["NORM", "SR"], ["IMI", "NDT", "SR"], ["IMI", "NDT"]]
    assert index.age.tolist()[:2] == [56.0, 90.0]
    assert np.isnan(index.age[2])


def test_ptbxl_likelihood_is_above_the_threshold(tmp_path: Path) -> None:
    above = ptbxl.index(ptbxl_config(tmp_path, min_likelihood=0))
    assert above.superclass.tolist() == [["NORM"], ["MI", "STTC"], []]
    assert above.statements.tolist() == [["NORM", "SR"], ["IMI", "NDT", "SR"], ["NDT"]]  # a form is not graded
    assert ptbxl.index(ptbxl_config(tmp_path, min_likelihood=35)).superclass.tolist() == [["NORM"], ["STTC"], []]
    assert ptbxl.index(ptbxl_config(tmp_path, min_likelihood=50)).superclass.tolist() == [["NORM"], [], []]
    with pytest.raises(ValueError, match="min_likelihood"):
        ptbxl_config(tmp_path, min_likelihood=100)


def test_ptbxl_single_label(tmp_path: Path) -> None:
    assert ptbxl.index(ptbxl_config(tmp_path, single_label=True)).record.tolist() == ["00001"]
    header, _, *rest = DATABASE.splitlines()
    with pytest.raises(UserError, match="single_label=true leaves no record"):
        ptbxl.index(ptbxl_config(tmp_path, "\n".join([header, *rest]), single_label=True))


def test_ptbxl_rate_chooses_the_folder(tmp_path: Path) -> None:
    assert ptbxl.index(ptbxl_config(tmp_path)).path.tolist() == ["hr/1", "hr/2", "hr/3"]
    assert ptbxl.index(ptbxl_config(tmp_path, rate=100)).path.tolist() == ["lr/1", "lr/2", "lr/3"]


def test_ptbxl_that_is_not_ptbxl(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no ptbxl_database\.csv"):
        ptbxl.index(ptbxl.Config(root=tmp_path, out=tmp_path))
    with pytest.raises(UserError, match=r"ptbxl_database\.csv has no column strat_fold"):
        ptbxl.index(ptbxl_config(tmp_path, DATABASE.replace("strat_fold", "fold")))


def without(column: str, value: str) -> str:
    """The second row with another cell."""
    header, first, _, third = DATABASE.splitlines()
    cells = dict(
        zip(header.split(","), ["2", "7.0", "300.0", "0", "\"{'IMI': 35.0}\"", "3", "lr/2", "hr/2"], strict=True)
    )
    return "\n".join([header, first, ",".join({**cells, column: value}.values()), third, ""])


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("scp_codes", ""),
        ("scp_codes", "{'NORM': 100"),
        ("scp_codes", "7"),
        ("scp_codes", "\"{'IMI': 'much'}\""),
        ("scp_codes", "(" * 3000),
        ("strat_fold", ""),
        ("strat_fold", "11"),
        ("strat_fold", "two"),
        ("strat_fold", "2.5"),
        ("ecg_id", ""),
        ("ecg_id", "two"),
        ("patient_id", ""),
        ("patient_id", "x7"),
        ("age", "old"),
        ("sex", "M"),
        ("filename_hr", ""),
        ("filename_hr", "hr/2,one,cell,more"),
    ],
)
def test_ptbxl_bad_row_is_left_out_by_name(tmp_path: Path, column: str, value: str) -> None:
    for name, seed in (("1", 0), ("2", 1), ("3", 2)):
        write_record(tmp_path / "hr", name, draw_ecg(seed))
    store = prepare(ptbxl_config(tmp_path, without(column, value), backend="sequential"))
    assert store.records.record.tolist() == ["00001", "00003"]
    assert store.records.fold.dtype == np.int64 and "problem" not in store.records
    audit = audit_of(store)
    assert (audit["records"], audit["left_out"]) == (3, {"bad row": 1})
    name = "line 3" if column == "ecg_id" else "00002"
    assert audit["left_out_records"][0]["record"] == name
    wrong = "11 cells where 8 are expected (line 3)" if "more" in value else f"{column} is "
    assert f"{name}: {wrong}" in audit["left_out_records"][0]["detail"]


def test_ptbxl_unknown_age_or_sex_is_no_error(tmp_path: Path) -> None:
    for column in ("age", "sex"):
        assert np.isnan(ptbxl.index(ptbxl_config(tmp_path, without(column, "")))[column][1])


def test_ptbxl_id_twice(tmp_path: Path) -> None:
    index = ptbxl.index(ptbxl_config(tmp_path, DATABASE.replace("\n2,", "\n1,")))
    assert index.problem.tolist() == ["", "ecg_id stands twice in the table", ""]


def test_ptbxl_sample_index() -> None:
    index = ptbxl.index(ptbxl.Config(root=real_data("ptb-xl"), out="unused"))
    counts = Counter(name for names in index.superclass for name in names)
    assert counts == {"NORM": 297, "MI": 73, "STTC": 96, "CD": 78, "HYP": 40}
    assert int((index.superclass.str.len() == 0).sum()) == 12
    assert index.patient.nunique() == 466
    assert index.fold.between(1, 10).all()
    assert (index.groupby("patient").fold.nunique() == 1).all()


def test_ptbxl_both_rates_are_the_same_recording() -> None:
    signals = []
    for rate in (500, 100):
        config = ptbxl.Config(root=real_data("ptb-xl"), out="unused", rate=rate)
        result = ptbxl.read(config, ptbxl.index(config).iloc[[5]])[0]
        assert not isinstance(result, RecordError)
        assert result.fs == rate
        assert limb_residual(result.signal, LEADS) < 0.01
        signals.append(resample(result.signal, 1000, axis=1))
    assert np.corrcoef(signals[0].ravel(), signals[1].ravel())[0, 1] > 0.98
    assert signals[0].std() == pytest.approx(signals[1].std(), rel=0.05)


# ---------------------------------------------------------------- synthetic


def test_synthetic_chunks_are_the_whole() -> None:
    config = synthetic.Config(num_records=5, out="unused", fs=100, seconds=6)
    index = synthetic.index(config)
    whole = synthetic.read(config, index)
    part = synthetic.read(config, index.iloc[3:])
    for a, b in zip(whole[3:], part, strict=True):
        np.testing.assert_array_equal(a.signal, b.signal)  # type: ignore[union-attr]
    assert whole[0].signal.shape == (12, 600)  # type: ignore[union-attr]
    peaks = whole[0].info["true_r_peaks"]  # type: ignore[union-attr]
    assert all(0 <= peak < 6 for peak in peaks)
    assert len(peaks) > 2


@pytest.mark.parametrize("values", [{"seconds": 2}, {"seed": -1}, {"num_records": 0}])
def test_synthetic_refuses_what_it_cannot_render(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        synthetic.Config(out="unused", **values)


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_names_itself(name: str, tmp_path: Path) -> None:
    assert SOURCES[name].Config(out=tmp_path).source == name


# ---------------------------------------------------------------- LUDB


def test_ludb_intervals_of_marks() -> None:
    """Two beats by hand: P 0.10–0.18 s, QRS 0.26–0.34, T 0.50–0.66; then a beat without P and with an unbounded T."""
    beat = [
        ("(", 0.10),
        ("p", 0.14),
        (")", 0.18),
        ("(", 0.26),
        ("N", 0.30),
        (")", 0.34),
        ("(", 0.50),
        ("t", 0.6),
        (")", 0.66),
    ]
    lone = [("(", 1.25), ("N", 1.30), (")", 1.36), ("t", 1.6)]
    found = ludb.annotated_intervals([*beat, *lone])
    assert {k: np.round(v).tolist() for k, v in found.items()} == {"qrs_ms": [80, 110], "pr_ms": [160], "qt_ms": [400]}
    values = ludb.measurements(np.array([0.3, 1.3, 2.3]), {"qrs_ms": [80, 110], "pr_ms": [], "qt_ms": [400]})
    assert (
        round(values["true_heart_rate"], 6) == 60.0 and values["true_qrs_ms"] == 95.0 and np.isnan(values["true_pr_ms"])
    )
    assert np.isnan(ludb.measurements(np.array([0.3]), {})["true_heart_rate"])


def test_ludb_as_published(tmp_path: Path) -> None:
    root = real_data("ludb")
    store = prepare(
        load_config(choose_config, "configs/data/ludb.yaml", [f"root={root}", f"out={tmp_path}/s", "workers=1"])
    )
    records = store.records
    assert len(store) == 50 and records.patient.is_unique
    assert records.true_heart_rate.between(30, 180).all() and records.true_qrs_ms.between(50, 200).all()
    assert records.true_pr_ms.isna().sum() > 0  # atrial fibrillation has no P wave
    assert {"Sinus rhythm", "Atrial fibrillation"} <= {name for names in records.rhythm for name in names}


def test_ludb_refuses_another_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ludb\.csv"):
        ludb.index(ludb.Config(root=tmp_path, out="unused"))
    (tmp_path / "ludb.csv").write_text("ID,Sex\n1,M\n")
    with pytest.raises(UserError, match="has no column Age"):
        ludb.index(ludb.Config(root=tmp_path, out="unused"))
