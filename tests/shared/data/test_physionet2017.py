"""The Challenge 2017 as published: one unnamed lead, a table of labels without a header, copies in `validation`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import wfdb

from shared.data.sources import physionet2017
from shared.data.sources.base import PROBLEM, RecordError
from shared.errors import UserError
from tests.golden import real_data
from tests.shared.data.wfdb_records import draw_ecg, write_record

LABELS = {"A00001": "N", "A00002": "A", "A01003": "O", "A01004": "~"}


def config_of(root: Path) -> physionet2017.Config:
    return physionet2017.Config(root=root, out=root.parent / "store")


def write_tree(root: Path, signals: dict[str, np.ndarray], reference: str = "REFERENCE-v3.csv") -> Path:
    """`training/A00/A00001` and so on; `LABELS` in the table."""
    for name, signal in signals.items():
        write_record(root / "training" / name[:3], name, signal[None], fs=300, leads=["ECG"])
    lines = "".join(f"{name[:3]}/{name},{code}\n" for name, code in LABELS.items())
    (root / "training" / reference).write_text(lines)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "in", {name: draw_ecg(seed)[0] for seed, name in enumerate(LABELS)})


def test_real_signals_in_the_published_tree(tmp_path: Path) -> None:
    sample = sorted((real_data("challenge2021") / "georgia" / "g1").glob("*.hea"))
    signals = {
        name: wfdb.rdrecord(str(path.with_suffix(""))).p_signal[:, 0]
        for name, path in zip(LABELS, sample, strict=False)
    }
    config = config_of(write_tree(tmp_path / "in", signals))
    index = physionet2017.index(config)
    assert index.record.tolist() == index.patient.tolist() == list(LABELS)
    assert index.rhythm.tolist() == [["normal"], ["atrial fibrillation"], ["other"], ["noise"]]
    assert index.path[2] == "training/A01/A01003" and index.fold.between(1, 10).all() and PROBLEM not in index
    for line, result in zip(index.itertuples(), physionet2017.read(config, index), strict=True):
        assert not isinstance(result, RecordError), result
        assert (list(result.leads), result.fs, result.info) == (["ECG"], 300.0, {})
        np.testing.assert_allclose(result.signal[0], signals[line.record], atol=1e-5)


def test_the_last_version_of_the_table_is_read(root: Path) -> None:
    (root / "training" / "REFERENCE.csv").write_text("A00001,A\n")
    (root / "training" / "REFERENCE-v0.csv").write_text("A00001,O\n")
    assert physionet2017.index(config_of(root)).rhythm[0] == ["normal"]
    (root / "training" / "REFERENCE-v3.csv").unlink()
    index = physionet2017.index(config_of(root))
    assert (index.record.tolist(), index.rhythm[0]) == (
        ["A00001", "A00002", "A01003", "A01004"],
        ["atrial fibrillation"],
    )
    assert index[PROBLEM].tolist() == ["", *["the table of labels has no line of it"] * 3]


def test_records_may_lie_flat_with_the_table_above(tmp_path: Path) -> None:
    for name in LABELS:
        write_record(tmp_path / "training2017", name, draw_ecg()[:1], fs=300, leads=["ECG"])
    (tmp_path / "REFERENCE.csv").write_text("".join(f"{name},{code}\n" for name, code in LABELS.items()))
    assert physionet2017.index(config_of(tmp_path)).path[0] == "training2017/A00001"


def test_copies_are_passed_over(root: Path) -> None:
    write_record(root / "validation", "A00001", draw_ecg()[:1], fs=300, leads=["ECG"])
    assert physionet2017.index(config_of(root)).path[0] == "training/A00/A00001"


def test_faults_are_named(root: Path) -> None:
    with (root / "training" / "REFERENCE-v3.csv").open("a") as file:
        file.write("A00001,A\nA09999,N\nA00005,X\n")
    write_record(root / "training" / "A01", "A01005", draw_ecg()[:2], fs=300, leads=["ECG", "x"])
    (root / "training" / "A00" / "A00002.hea").write_text("A00002")
    config = config_of(root)
    index = physionet2017.index(config)
    problems = dict(zip(index.record + index.groupby("record").cumcount().astype(str), index[PROBLEM], strict=True))
    assert {name: text for name, text in problems.items() if text} == {
        "A000011": "a second line names it",
        "A000050": "label 'X'; expected one of N A O ~",
        "A010050": "the table of labels has no line of it",
    }
    reasons = {
        line.record: result.reason
        for line, result in zip(index.itertuples(), physionet2017.read(config, index), strict=True)
        if isinstance(result, RecordError)
    }
    assert reasons == {
        "A00002": "unreadable header",
        "A09999": "missing file",
        "A00005": "missing file",
        "A01005": "missing or unknown leads",
    }


def test_a_folder_that_is_not_the_database_is_said(tmp_path: Path, root: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="file is not a folder"):
        physionet2017.index(config_of(tmp_path / "file"))
    with pytest.raises(UserError, match=r"empty holds no REFERENCE-v3\.csv or REFERENCE\.csv"):
        physionet2017.index(config_of(tmp_path / "empty"))
    (tmp_path / "empty" / "REFERENCE.csv").write_text("A00001,N\n")
    with pytest.raises(UserError, match="holds none of the records that its"):
        physionet2017.index(config_of(tmp_path / "empty"))
    for text, said in (("", "not a readable CSV"), ("A00001\n", "has 1 columns; expected two")):
        (root / "training" / "REFERENCE-v3.csv").write_text(text)
        with pytest.raises(UserError, match=said):
            physionet2017.index(config_of(root))
