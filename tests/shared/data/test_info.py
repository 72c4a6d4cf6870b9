"""What is said and drawn of a store, or of two, is what is in them."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shared.config import load_config
from shared.data.describe import describe_store, settings_apart, shared_of
from shared.data.info import info, main
from shared.data.info_page import num
from shared.data.prepare import choose_config, prepare
from shared.data.sources import synthetic
from shared.data.store import ECGStore, StoreError
from shared.errors import UserError
from tests.golden import real_data
from tests.shared.data.preparing import run
from tests.shared.data.wfdb_records import draw_ecg, write_record


def make(path: Path, **values: Any) -> ECGStore:
    settings = {"num_records": 40, "fs": 100, "seconds": 10, "backend": "sequential", **values}
    return prepare(synthetic.Config(out=path, **settings))


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[ECGStore, ECGStore, ECGStore]:
    """One; the same at another rate; and another draw."""
    root = tmp_path_factory.mktemp("stores")
    return make(root / "one"), make(root / "fast", fs=125), make(root / "other", seed=1, records_per_patient=2)


def page_text(path: Path) -> str:
    """The words of a page, without its pictures and style."""
    text = re.sub(r"<style>.*?</style>|data:image/png;base64,[\w+/=]+", "", path.read_text(), flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text)).replace("\N{NO-BREAK SPACE}", " ")


def test_numbers_are_those_of_the_store(stores: tuple[ECGStore, ...]) -> None:
    store, found = stores[0], describe_store(stores[0].path)
    records = store.records
    counted = Counter(name for names in records.superclass for name in names)
    assert found.labels["superclass"] == dict(counted.most_common()) or Counter(found.labels["superclass"]) == counted
    assert list(found.labels["superclass"].values()) == sorted(counted.values(), reverse=True)
    assert found.sexes == {"male": int((records.sex == 0).sum()), "female": int((records.sex == 1).sum())}
    assert sum(found.in_split(split).sum() for split in ("train", "validation", "test")) == len(store)
    np.testing.assert_allclose(found.amplitudes, np.array(records.amplitudes_mv.tolist()))
    rates, where = found.heart_rate
    assert where == "column true_heart_rate" and len(rates) == len(store)


def test_heart_rate_is_measured_where_it_is_not_known(stores: tuple[ECGStore, ...]) -> None:
    """Against the truth that the synthetic records bring, which is hidden from the measurement."""
    found = describe_store(stores[0].path)
    truth = found.column("true_heart_rate")
    found.store.records = found.store.records.drop(columns=["true_heart_rate", "amplitudes_mv"])
    rates, where = found.heart_rate
    assert where == "measured in lead II of 40 segments"
    assert np.median(np.abs(rates - truth)) < 1.0
    assert found.amplitudes.shape == (40, 12) and 0.1 < np.median(found.amplitudes) < 5


def test_examples_are_of_different_labels_and_unflagged(stores: tuple[ECGStore, ...]) -> None:
    found = describe_store(stores[0].path)
    shown = list(found.examples(5))
    rows = [row for row, _ in shown]
    assert len(set(rows)) == 5
    names = list(found.labels["superclass"])
    for (row, caption), name in zip(shown, names, strict=False):
        assert name in found.records.superclass[row] and caption.startswith(name)
        assert str(found.records.record[row]) in caption
    flagged = next(iter(found.flags.values()))
    flagged.iloc[rows[0]] = True
    assert rows[0] not in [row for row, _ in found.examples(5)]


def test_shared_and_apart(stores: tuple[ECGStore, ...]) -> None:
    one, fast, other = (describe_store(store.path) for store in stores)
    assert shared_of(one, one) == {"patients": 40, "records": 40, "identical segments": 40}
    assert shared_of(one, fast) == {"patients": 40, "records": 40, "identical segments": 0}
    assert shared_of(one, other) == {"patients": 0, "records": 0, "identical segments": 0}  # same names of other people
    assert settings_apart(one, one) == {}
    assert settings_apart(one, fast) == {"fs": ("100.0", "125.0")}
    assert settings_apart(one, other) == {"records_per_patient": ("1", "2"), "seed": ("0", "1")}


def test_page_of_one(stores: tuple[ECGStore, ...], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    store = stores[0]
    before = {path: path.read_bytes() for path in store.path.iterdir()}
    main([str(store.path), f"out={tmp_path / 'page'}"])
    said = capsys.readouterr().out.replace("\N{NO-BREAK SPACE}", " ")
    assert "40 segments of 10 s from 40 patients, 12 leads at 100 Hz." in said and store.fingerprint in said
    text = page_text(tmp_path / "page" / "report.html")
    for expected in (store.fingerprint, "Test, fold 10", "superclass", "num_records: 40", "flat_lead", "without any"):
        assert expected in text
    count = sum("NORM" in names for names in store.records.superclass)
    assert f" NORM {count} {count / 40 * 100:.1f} %" in text
    assert {path: path.read_bytes() for path in store.path.iterdir()} == before
    figures = sorted(path.stem for path in (tmp_path / "page" / "figures").glob("*.png"))
    assert {"age_and_rate", "patients", "ecg_0", "strips_0", "amplitude", "labels_superclass"} <= set(figures)
    for name in figures:
        assert (tmp_path / "page" / "figures" / f"{name}.svg").is_file()
        with Image.open(tmp_path / "page" / "figures" / f"{name}.png") as image:
            assert len(np.unique(np.asarray(image.convert("L")))) > 10, f"{name} is empty"
    assert text.count("unflagged records") == 1 and "http" not in (tmp_path / "page" / "report.html").read_text()


def test_page_of_two(stores: tuple[ECGStore, ...], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    one, _, other = stores
    for argv in (["--compare", str(one.path), str(other.path)], [str(one.path), "--compare", str(other.path)]):
        main([*argv, f"out={tmp_path / 'page'}"])
        assert "apart        seed: 0 | 1" in capsys.readouterr().out
    text = page_text(tmp_path / "page" / "report.html")
    assert "one and other have 0 patients, 0 records and 0 identical segments in common." in text
    assert "Settings that differ one other records_per_patient 1 2 seed 0 1" in text
    patients = [str(store.records.patient.nunique()) for store in (one, other)]
    assert f"Patients {' '.join(patients)}" in text


def test_two_of_the_same_name(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    paths = [make(tmp_path / name / "store", num_records=4, seed=i).path for i, name in enumerate("ab")]
    info(paths, tmp_path / "page")
    assert "a/store and b/store" in page_text(tmp_path / "page" / "report.html")


def test_a_store_of_little(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """One lead, no labels, no age, no sex, one record: what is not known is said, and nothing fails."""
    write_record(tmp_path / "in", "a", draw_ecg(0)[1:2] * 0 + np.sin(np.arange(2500) / 40), leads=["II"])
    run(tmp_path, leads=["II"], fs=250)
    page = info([tmp_path / "out"], tmp_path / "page")
    text, said = page_text(page), capsys.readouterr().out
    assert "1 segments of 10 s from 1 patients, 1 leads" in text and "Labels" not in text
    assert "age          not known" in said and "sex          unknown 1" in said


def test_refusals(stores: tuple[ECGStore, ...], tmp_path: Path) -> None:
    path = str(stores[0].path)
    with pytest.raises(UserError, match="lies in the store .* Give another folder"):
        main([path, f"out={path}/info"])
    with pytest.raises(UserError, match=r"1 store\(s\) expected, 2 given\. To compare two, say --compare"):
        main([path, path])
    with pytest.raises(UserError, match=r"2 store\(s\) expected, 1 given"):
        main(["--compare", path])
    with pytest.raises(UserError, match="unknown argument '--compar'; did you mean '--compare'"):
        main(["--compar", path, path])
    with pytest.raises(UserError, match="unknown argument 'outt'; did you mean 'out'"):
        main([path, "outt=x"])
    with pytest.raises(StoreError, match="is not a store"):
        main([str(tmp_path)])
    assert num(1234567) == "1\N{NO-BREAK SPACE}234\N{NO-BREAK SPACE}567"


def test_real_ptbxl(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = real_data("ptb-xl")
    given = [f"root={root}", f"out={tmp_path / 's'}", "limit=200", "backend=sequential"]
    prepare(load_config(choose_config, "configs/data/ptbxl.yaml", given))
    found = describe_store(tmp_path / "s")
    assert found.copies == 2  # 137/138 and 143/144
    rates, where = found.heart_rate
    assert "200 segments" in where and 60 < np.nanmedian(rates) < 80
    assert found.records.record[next(found.examples(1))[0]] not in found.records.record[found.records.clipped].tolist()
    info([tmp_path / "s"], tmp_path / "page")
    said = capsys.readouterr().out
    counts = Counter(name for names in found.records.superclass for name in names)
    assert f"NORM {counts['NORM']}" in said
