"""PTB-XL+ as published: keys in the middle of a table, lines in another order, records that a set lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from shared.data.prepare import prepare
from shared.data.sources import ptbxl, ptbxl_plus
from shared.data.sources.base import PROBLEM
from shared.errors import UserError
from tests.golden import real_data
from tests.shared.data.preparing import audit_of


def write_plus(root: Path, ids: list[int]) -> Path:
    """Tables of these records; 12SL's from the last to the first, unig without the first."""
    (root / "labels").mkdir(parents=True)
    (root / "features").mkdir()
    number = np.array(ids, float)
    pd.DataFrame(
        {
            "ecg_id": ids,
            "scp_codes": ["[('NORM', 100.0)]"] * len(ids),
            "scp_codes_ext_snomed": [f"[({i}, 100.0), (138875005, 100.0)]" for i in ids],
        }
    ).to_csv(root / "labels" / "ptbxl_statements.csv", index=False)
    stated = pd.DataFrame(
        {
            "ecg_id": ids,
            "statements": [f"['NSR', 'X{i}']" for i in ids],
            "statements_ext_snomed": ["[(426783006, 100.0)]"] * len(ids),
        }
    )
    stated[::-1].to_csv(root / "labels" / "12sl_statements.csv", index=False)
    sl = pd.DataFrame(
        {"QRS_Area_aVF": number / 2, "ecg_id": ids, "P_On_Global": np.where(number == ids[0], np.nan, number)}
    )
    sl[::-1].to_csv(root / "features" / "12sl_features.csv", index=False)
    pd.DataFrame({"ecg_id": ids, "HR__Global": number})[1:].to_csv(root / "features" / "unig_features.csv", index=False)
    pd.DataFrame({"ecg_id": ids, "RR_Mean_Global": number}).to_csv(
        root / "features" / "ecgdeli_features.csv", index=False
    )
    return root


def config_of(tmp_path: Path, **values: Any) -> ptbxl_plus.Config:
    root, plus = real_data("ptb-xl"), tmp_path / "plus"
    values = {"backend": "sequential", "limit": 5, **values}
    if not plus.exists():
        write_plus(plus, list(range(1, 501)))
    return ptbxl_plus.Config(root=root, out=tmp_path / "out", plus=plus, **values)


def test_joined_by_id(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = prepare(config_of(tmp_path, plus_features=["12sl", "unig"]))
    plain = prepare(ptbxl.Config(root=real_data("ptb-xl"), out=tmp_path / "plain", limit=5, backend="sequential"))
    np.testing.assert_array_equal(store.read(range(5)), plain.read(range(5)))
    records = store.records
    for name in ("source", "record", "patient", "fold"):  # the same people, by name, for whoever compares stores
        assert records[name].tolist() == plain.records[name].tolist(), name
    ids = records.record.astype(int).tolist()
    assert records.snomed.map(list).tolist() == [sorted(["138875005", str(i)]) for i in ids]
    assert records.statements_12sl.map(list).tolist() == [["NSR", f"X{i}"] for i in ids]
    assert records.snomed_12sl.map(list).tolist() == [["426783006"]] * 5
    assert records.plus_12sl_QRS_Area_aVF.tolist() == [i / 2 for i in ids]
    np.testing.assert_array_equal(records.plus_12sl_P_On_Global, [np.nan, *ids[1:]])
    np.testing.assert_array_equal(records.plus_unig_HR__Global, [np.nan, *ids[1:]])
    assert "no unig features of 1 record(s)" in capsys.readouterr().out
    assert not [name for name in records if name.startswith("plus_ecgdeli")]


def test_options_of_ptbxl_hold(tmp_path: Path) -> None:
    config = config_of(tmp_path, rate=100, single_label=True)
    index = ptbxl_plus.index(config)
    assert index.path[0] == "records100/00000/00001_lr" and (index.superclass.str.len() == 1).all()


def test_a_bad_cell_leaves_its_record_out_and_a_bad_line_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(tmp_path, plus_features=["ecgdeli"])
    assert config.plus is not None
    path = config.plus / "labels" / "ptbxl_statements.csv"
    path.write_text(path.read_text().replace('"[(2, 100.0), (138875005, 100.0)]"', "broken"))
    with (config.plus / "features" / "ecgdeli_features.csv").open("a") as file:
        file.write("501\n")
    store = prepare(config)
    assert store.records.record.tolist() == ["00001", "00003", "00004", "00005"]
    (left,) = audit_of(store)["left_out_records"]
    assert left["record"] == "00002" and "scp_codes_ext_snomed of ptbxl_statements.csv is 'broken'" in left["detail"]
    assert "ecgdeli_features.csv: 1 line(s) cannot be used" in capsys.readouterr().out


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    assert PROBLEM not in ptbxl_plus.index(config)
    with pytest.raises(UserError, match="`plus` is not set"):
        ptbxl_plus.index(config.model_copy(update={"plus": None}))
    with pytest.raises(UserError, match=r"holds no labels/12sl_statements\.csv"):
        ptbxl_plus.index(config.model_copy(update={"plus": tmp_path}))
    path = tmp_path / "plus" / "features" / "12sl_features.csv"
    path.write_text(path.read_text().replace("ecg_id", "id"))
    with pytest.raises(UserError, match=r"12sl_features\.csv has no column ecg_id"):
        ptbxl_plus.index(config.model_copy(update={"plus_features": ("12sl",)}))
