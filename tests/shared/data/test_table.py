"""A table that lists files of any format becomes a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import wfdb

from shared.data.prepare import prepare
from shared.data.sources import table
from shared.data.sources.base import PROBLEM
from shared.data.store import ECGStore
from shared.errors import UserError
from shared.leads import INDEPENDENT_LEADS, LEADS
from tests.golden import real_data
from tests.shared.data.format_files import UV_PER_BIT, write_dicom, write_edf, write_muse
from tests.shared.data.preparing import audit_of
from tests.shared.data.wfdb_records import draw_ecg, write_record

TABLE = """path,person,years,gender,split,codes,AF,ward
a.npy,7.0,300,M,3,AFIB;SR,1,A
b.npy,8.0,,female,10,,0,
c.npy,7.0,40,0,,SR,,B
"""
COLUMNS = {
    "patient_column": "person",
    "age_column": "years",
    "sex_column": "gender",
    "fold_column": "split",
    "label_column": "codes",
    "flag_columns": ["AF"],
    "keep_columns": ["ward"],
}
ARRAYS = {"file_fs": 250, "file_leads": "I,II,III,aVR,aVL,aVF,V1,V2,V3,V4,V5,V6", "unit": "mV"}


def config_of(root: Path, lines: str = TABLE, **values: Any) -> table.Config:
    (root / "table.csv").write_text(lines)
    values = {"table": root / "table.csv", "backend": "sequential", **values}
    return table.Config(root=root, out=root / "out", **values)


def write_arrays(root: Path) -> Path:
    for seed, name in enumerate("abc"):
        np.save(root / f"{name}.npy", draw_ecg(seed))
    return root


def test_labels_people_and_folds(tmp_path: Path) -> None:
    store = prepare(config_of(write_arrays(tmp_path), **ARRAYS, **COLUMNS))
    records = store.records
    assert records.record.tolist() == ["a.npy", "b.npy", "c.npy"] and records.patient.tolist() == ["7", "8", "7"]
    assert records.labels.map(list).tolist() == [["AF", "AFIB", "SR"], [], ["SR"]]
    assert records.age.tolist()[::2] == [90, 40] and np.isnan(records.age[1])
    assert records.sex.tolist() == [0, 1, 0] and records.ward.tolist() == ["A", "", "B"]
    assert records.fold.tolist()[:2] == [3, 10] and 1 <= records.fold[2] <= 10
    for row in range(3):
        np.testing.assert_allclose(store[row] * 1e-3, draw_ecg(row), atol=1e-6)


def test_parquet_is_a_table_too(tmp_path: Path) -> None:
    config = config_of(write_arrays(tmp_path), **ARRAYS, **COLUMNS)
    pd.read_csv(tmp_path / "table.csv").to_parquet(tmp_path / "table.parquet")
    other = table.index(config.model_copy(update={"table": tmp_path / "table.parquet"}))
    pd.testing.assert_frame_equal(other, table.index(config))


def test_real_signals_in_every_format(tmp_path: Path) -> None:
    """Also the limb leads that MUSE leaves out, and two data sets of one HDF5."""
    record = wfdb.rdrecord(str(real_data("ptb-xl") / "records500" / "00000" / "00001_hr"))
    ecg = record.p_signal.T.astype(np.float32)
    np.save(tmp_path / "a.npy", ecg)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["one"], file["two"] = ecg * 1000, -ecg * 1000
    write_edf(tmp_path / "d.edf", [(f"ECG {n}", "uV", 500.0, row * 1000.0) for n, row in zip(LEADS, ecg, strict=True)])
    eight = ecg[[LEADS.index(name) for name in INDEPENDENT_LEADS]] * 1000 / UV_PER_BIT
    write_muse(tmp_path / "e.xml", np.rint(eight).astype(np.int16))
    write_dicom(tmp_path / "f.dcm", ecg * 1000, list(LEADS), 500)
    write_record(tmp_path / "g", "g", ecg, fs=500)
    lines = "path,name,unit,hz,array\na.npy,A,mV,500,\nb.h5,B,uV,500,one\nb.h5,C,uV,500,two\nd.edf,D,,,\nf.dcm,F,,,\ng/g,G,,,\n"
    columns = {"record_column": "name", "unit_column": "unit", "fs_column": "hz", "dataset_column": "array"}
    store = prepare(config_of(tmp_path, lines, fs=500, file_leads=LEADS, **columns))
    assert store.records.record.tolist() == list("ABCDFG")
    for row, sign in enumerate((1, 1, -1, 1, 1, 1)):
        np.testing.assert_allclose(store[row] * 1e-3, sign * ecg, atol=1.8e-3)
    muse = prepare(config_of(tmp_path, "path\ne.xml\n", fs=500, overwrite=True))
    np.testing.assert_allclose(muse[0] * 1e-3, ecg, atol=8e-3)  # 4.88 µV a step, and leads made of two of them
    assert list(muse.records.derived_leads[0]) == ["III", "aVR", "aVL", "aVF"]


def test_signals_that_are_no_voltage(tmp_path: Path) -> None:
    pulse = 500 + 40 * np.sin(2 * np.pi * 1.2 * np.arange(1250) / 125)
    np.save(tmp_path / "a.npy", pulse)
    given = {"unit": "a.u.", "file_fs": 125, "file_leads": ["PPG"], "leads": ["PPG"], "fs": 125}
    with pytest.raises(ValueError, match="need `scale`"):
        config_of(tmp_path, "path\na.npy\n", **given)
    store = prepare(config_of(tmp_path, "path\na.npy\n", scale=0.05, exclude=[], **given))
    np.testing.assert_allclose(store[0][0] * 0.05, pulse, atol=0.026)
    refused = config_of(tmp_path, "path\na.npy\n", **{**given, "unit": "NU"})
    (result,) = table.read(refused, table.index(refused))
    assert "unknown unit" in str(result.reason) and "unit=a.u." in str(result)  # type: ignore[union-attr]


def test_bad_lines_and_files_are_counted(tmp_path: Path) -> None:
    lines = TABLE.splitlines()
    lines += [
        "gone.npy,9,,,,,,",
        "a.pdf,9,,,,,,",
        ",9,,,,,,",
        "a.npy,7,,,,,,",
        "d.npy,9,old,,,,,",
        "e.npy,9,,X,,,,",
        "f.npy,9,,,11,,,",
        "g.npy,9,,,,,2,",
        "h.npy,9",
    ]
    store: ECGStore = prepare(config_of(write_arrays(tmp_path), "\n".join(lines) + "\n", **ARRAYS, **COLUMNS))
    assert store.records.record.tolist() == ["a.npy", "b.npy", "c.npy"]
    left = "\n".join(one["detail"] for one in audit_of(store)["left_out_records"])
    for said in (
        "gone.npy does not exist",
        "a.pdf ends with '.pdf'",
        "line 6: no file is named",
        "a.npy: the record stands twice",
        "d.npy: age is no number",
        "e.npy: sex is neither",
        "f.npy: fold is not 1 to 10",
        "g.npy: AF is neither 0 nor 1",
        "2 cells where 8 are expected",
    ):
        assert said in left
    assert sum(audit_of(store)["left_out"].values()) == 9


def test_a_rate_that_is_none_is_said(tmp_path: Path) -> None:
    config = config_of(write_arrays(tmp_path), "path,hz\na.npy,fast\n", **ARRAYS, fs_column="hz")
    (result,) = table.read(config, table.index(config))
    assert "the table says fs is 'fast'" in str(result)


def test_what_is_no_table_is_said(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    assert PROBLEM not in table.index(config)
    with pytest.raises(UserError, match="`table` is not set"):
        table.index(config.model_copy(update={"table": None}))
    with pytest.raises(UserError, match="has no column 'persn'; did you mean 'person'"):
        table.index(config.model_copy(update={"patient_column": "persn"}))
    with pytest.raises(UserError, match="has no line"):
        table.index(config_of(tmp_path, "path\n"))
    (tmp_path / "table.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="not a readable parquet"):
        table.index(config.model_copy(update={"table": tmp_path / "table.parquet"}))
