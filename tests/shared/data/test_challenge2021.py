"""The Challenge 2021 in its published layouts: labels as in the headers, folds by what is known of the people, faults counted."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat

from shared.data.prepare import prepare
from shared.data.sources import challenge2021, chapman_ningbo, snomed
from shared.data.tasks import make_task
from shared.errors import UserError
from tests.golden import real_data
from tests.shared.data.preparing import audit_of
from tests.shared.data.wfdb_records import draw_ecg, write_record


def config_of(root: Path, **values: Any) -> challenge2021.Config:
    return challenge2021.Config(**{"root": root, "out": root.parent / "store", "backend": "sequential", **values})


def write_tree(root: Path, *places: str, comments: tuple[str, ...] = ("Dx: 426783006",)) -> Path:
    """Records such as `training/georgia/g1/E00001` below root."""
    for seed, place in enumerate(places):
        write_record((root / place).parent, Path(place).name, draw_ecg(seed), comments=list(comments))
    return root


# ---------------------------------------------------------------- labels


def test_codes_are_the_scored_ones_of_the_evaluation() -> None:
    """The pairs scored as one are those that its notes say."""
    with (real_data("challenge2021") / "dx_mapping_scored.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert snomed.SCORED.keys() == {line["SNOMEDCTCode"] for line in lines}
    alone = {line["SNOMEDCTCode"]: line["Abbreviation"] for line in lines if not line["Notes"]}
    assert {code: snomed.SCORED[code] for code in alone} == alone
    pairs = {tuple(re.findall(r"\d{6,}", line["Notes"])) for line in lines if line["Notes"]}
    assert len(pairs) == 4 and all(snomed.SCORED[a] == snomed.SCORED[b] for a, b in pairs)
    assert len(set(snomed.SCORED.values())) == 26


OF_NAME = {
    "infarction": "MI",
    "block": "CD",
    "intraventricular": "CD",
    "wolff": "CD",
    "hypertrophy": "HYP",
    "enlargement": "HYP",
    "t wave": "STTC",
    "st": "STTC",
    "s t": "STTC",
    "qt": "STTC",
}


def test_superclasses_are_what_the_names_of_the_codes_say() -> None:
    """NORM is none of them: sinus rhythm and high voltage have no superclass."""
    names = {}
    for kind in ("scored", "unscored"):
        with (real_data("challenge2021") / f"dx_mapping_{kind}.csv").open() as file:
            names |= {line["SNOMEDCTCode"]: line["Dx"] for line in csv.DictReader(file)}
    for code, superclass in snomed.SUPERCLASS.items():
        said = {of for word, of in OF_NAME.items() if re.search(rf"\b{word}\b", names[code])}
        assert said == {superclass}, names[code]
    sets = snomed.label_sets(["426783006", "164865005", "713427006", "59118001", "55827005", "59118001"])
    assert sets == {
        "dx": ["164865005", "426783006", "55827005", "59118001", "713427006"],
        "scored": ["NSR", "RBBB"],
        "superclass": ["CD", "MI"],
    }


def test_what_headers_say_of_person_and_diagnosis(tmp_path: Path) -> None:
    said = {
        "E00001": (["Age: NaN", "Sex: Unknown", "Dx: 164889003,,17338001,427172004,"], (np.nan, np.nan)),
        "E00002": (["Age: -1", "Sex: F", "Dx: 284470004,284470004"], (np.nan, 1.0)),
        "E00003": (["Age: 300", "Sex: Male", "Dx: 6180003"], (90.0, 0.0)),
        "E00004": (["Age: 61", "Sex: Female"], (61.0, 1.0)),
        "E00005": (["Age:", "Sex: M", "Dx:"], (np.nan, 0.0)),
    }
    for seed, (name, (comments, _)) in enumerate(said.items()):
        write_record(tmp_path / "in" / "georgia" / "g1", name, draw_ecg(seed), comments=comments)
    records = prepare(config_of(tmp_path / "in")).records
    np.testing.assert_array_equal(records[["age", "sex"]].to_numpy(float), [person for _, person in said.values()])
    assert [list(x) for x in records.dx] == [["164889003", "17338001", "427172004"], ["284470004"], ["6180003"], [], []]
    assert [list(x) for x in records.scored] == [["AF", "PVC"], ["PAC"], [], [], []]


# ---------------------------------------------------------------- where records lie


@pytest.mark.parametrize("above", ["training/georgia/g1", "georgia/g2", "1.0.3/training/georgia/g1"])
def test_cohorts_are_found_wherever_they_lie(tmp_path: Path, above: str) -> None:
    root = write_tree(tmp_path / "ptb" / "in", f"{above}/E00001", "training/ningbo/g9/JS10647", "other/X1")
    index = challenge2021.index(config_of(root))
    assert sorted(zip(index.record, index.cohort, strict=True)) == [("E00001", "georgia"), ("JS10647", "ningbo")]
    only = challenge2021.index(config_of(root, cohorts=["ningbo"]))
    assert only.record.tolist() == ["JS10647"]


@pytest.mark.parametrize("root", ["georgia", "georgia/g1"])
def test_one_cohort_may_be_the_root(tmp_path: Path, root: str) -> None:
    write_tree(tmp_path, "georgia/g1/E00001")
    index = challenge2021.index(config_of(tmp_path / root))
    assert (index.record.tolist(), index.cohort.tolist()) == (["E00001"], ["georgia"])


def test_what_is_not_taken_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    challenge2021.index(
        config_of(write_tree(tmp_path / "in", "georgia/g1/E00001", "else/X1"), cohorts=["georgia", "ptb"])
    )
    said = capsys.readouterr().out
    assert "no record of ptb below" in said and "1 record(s) below" in said


@pytest.mark.parametrize(
    ("places", "said"),
    [
        ((), "no record of cpsc_2018, .* it holds no folder of the challenge"),
        (("ptb-xl/g1/HR00001",), "it holds ptb-xl only"),
        (("georgia/g1/E00001", "training/georgia/g1/E00001"), "record E00001 lies in georgia/g1/E00001 and training/"),
    ],
)
def test_a_folder_that_cannot_be_used_is_said(tmp_path: Path, places: tuple[str, ...], said: str) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(UserError, match=said):
        challenge2021.index(config_of(write_tree(tmp_path / "in", *places)))


def test_a_root_that_is_a_file_or_an_unknown_cohort(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("")
    with pytest.raises(UserError, match="in is not a folder"):
        challenge2021.index(config_of(tmp_path / "in"))
    with pytest.raises(ValueError, match="unknown cohort 'georgja'; did you mean 'georgia'"):
        config_of(tmp_path, cohorts=["georgja"])
    with pytest.raises(ValueError, match="no cohort is given"):
        config_of(tmp_path, cohorts=[])


def test_faults_are_counted_and_stop_nothing(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "in", *(f"ningbo/g1/JS1064{i}" for i in (7, 8, 9)))
    (root / "ningbo/g1/JS10647.hea").write_text("\0 nothing")
    (root / "ningbo/g1/JS10650.mat").write_bytes(b"MATLAB")
    (root / "ningbo/g1/JS10649.dat").unlink()
    store = prepare(config_of(root))
    assert store.records.record.tolist() == ["JS10648"]
    audit = audit_of(store)
    assert (audit["records"], audit["left_out"]) == (4, {"unreadable header": 1, "missing file": 2})
    details = {item["record"]: item["detail"] for item in audit["left_out_records"]}
    assert "JS10650.hea does not exist" in details["JS10650"] and "names JS10649.dat" in details["JS10649"]


# ---------------------------------------------------------------- who is on which side


def test_cohorts_with_unknown_people_are_one_fold_each(tmp_path: Path) -> None:
    names = [f"ptb/g1/S{i:04d}" for i in range(1, 9)] + [f"st_petersburg_incart/g1/I{i:04d}" for i in range(1, 9)]
    names += [f"ptb-xl/g1/HR{i:05d}" for i in range(1, 9)]
    index = challenge2021.index(config_of(write_tree(tmp_path / "in", *names), cohorts=challenge2021.COHORTS))
    assert index.patient.tolist() == index.record.tolist()
    folds = index.groupby("cohort").fold.unique().map(list).to_dict()
    assert folds == {"ptb": [1], "st_petersburg_incart": [2], "ptb-xl": [3]}


def test_one_person_is_in_one_fold_of_both_publications(tmp_path: Path) -> None:
    names = ["chapman_shaoxing/g1/JS00001", "ningbo/g1/JS10647", "ningbo/g2/S23074", "ningbo/g2/JS45551"]
    here = challenge2021.index(config_of(write_tree(tmp_path / "in", *names)))
    assert here.patient.tolist() == ["JS00001", "JS10647", "JS45551", "JS23074"]
    assert set(here.source) == {"chapman_ningbo"} and here.fold.dtype.kind == "i"
    other = write_tree(tmp_path / "other", *(f"WFDBRecords/01/010/{name}" for name in here.patient))
    there = chapman_ningbo.index(chapman_ningbo.Config(root=other, out="unused"))
    both = here.merge(there, on="patient")
    assert len(both) == 4 and (both.fold_x == both.fold_y).all() and (both.cohort_x == both.cohort_y).all()


def test_ptbxl_has_its_people_and_folds_from_its_own_table(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "in", *(f"ptb-xl/g1/HR{i:05d}" for i in (1, 2, 3)), "georgia/g1/E00001")
    table = tmp_path / "ptbxl_database.csv"
    table.write_text("ecg_id,patient_id,strat_fold\n1,15709.0,10\n3,15709.0,10\n")
    store = prepare(config_of(root, cohorts=["ptb-xl", "georgia"], ptbxl_csv=table))
    found = store.records.set_index("record")[["source", "patient", "fold"]].T.to_dict("list")
    assert found["HR00001"] == found["HR00003"] == ["ptbxl", "15709", 10]
    assert found["E00001"][:2] == ["challenge2021", "E00001"]
    (left,) = audit_of(store)["left_out_records"]
    assert left["detail"] == "HR00002: ptbxl_database.csv has no line of it"
    table.write_text("ecg_id,patient_id,strat_fold\n7,1.0,10\n")
    with pytest.raises(UserError, match="has no line of HR00001: it is not the table of PTB-XL"):
        challenge2021.index(config_of(root, cohorts=["ptb-xl"], ptbxl_csv=table))


# ---------------------------------------------------------------- the published sample


def test_the_published_sample_is_what_its_headers_say(tmp_path: Path) -> None:
    """Against a loop that knows neither wfdb nor the source: text of the headers, matrices of the signals."""
    root = tmp_path / "in"
    shutil.copytree(real_data("challenge2021"), root / "training")
    store = prepare(config_of(root, fs=500))
    assert len(store) == 33 and audit_of(store)["left_out"] == {}
    seen = 0
    for row, line in enumerate(store.records.itertuples()):
        (header,) = root.glob(f"training/*/*/{line.record}.hea")
        text = header.read_text()
        said = dict(part[1:].split(": ", 1) for part in text.splitlines() if part.startswith("#") and ": " in part)
        codes = said["Dx"].split(",")
        assert line.cohort == header.parent.parent.name
        assert sorted(line.dx) == sorted(set(codes))
        assert line.sex == (said["Sex"] == "Female")
        assert line.age == float(said["Age"]) or (np.isnan(line.age) and said["Age"] == "NaN")
        assert ("NSR" in line.scored) == ("426783006" in codes)
        assert ("CD" in line.superclass) == bool(
            {"59118001", "270492004", "713426002", "698252002"} & set(codes)
        )  # all of them in the sample
        start = 5000 * line.segment
        matrix = loadmat(header.with_suffix(".mat"))["val"][:, start : start + 5000]
        np.testing.assert_array_equal(store[row], matrix)
        seen += 1
    assert seen == 33 and store.records.groupby("cohort").record.nunique().tolist() == [8, 8, 8, 8]
    assert make_task(store, "scored").labels.sum(axis=0).max() == 8
    assert make_task(store, "challenge_snomed").classes == tuple(store.meta["labels"]["dx"])
    assert make_task(store, "ptbxl_superclass").classes == ("CD", "HYP", "STTC")
