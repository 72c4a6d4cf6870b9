"""What a study is refused for: before anything is trained, with a message that says what to do."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import shared.evaluation.study.job
import shared.evaluation.study.running
from shared.data.splits import Labelled
from shared.errors import UserError
from shared.evaluation.config import CommonSettings
from shared.evaluation.context import open_once
from shared.evaluation.study.__main__ import main
from shared.evaluation.study.check import describe_test
from shared.evaluation.study.config import read_study
from shared.evaluation.study.plan import plan_study
from tests.shared.evaluation.study.studies import write_study


def refuse_to_run(*_: object) -> bool:
    raise AssertionError("something was started")


@pytest.fixture(autouse=True)
def _nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (shared.evaluation.study.running, shared.evaluation.study.job):
        monkeypatch.setattr(module, "execute", refuse_to_run)


def with_rows(tmp: Path, rows: Mapping[str, Any], **changes: Any) -> str:
    """The study with further rows; `CONFIG` in one is the YAML of the others."""
    write_study(tmp)
    config = str(tmp / "leads.yaml")
    known: dict[str, Any] = {"lead I": {"config": config, "set": {"encoder.leads": ["I"]}}}
    added = {name: {k: config if v == "CONFIG" else v for k, v in row.items()} for name, row in rows.items()}
    return write_study(tmp, rows=known | added, **{"hypotheses": [], **changes})


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("baseline=lead II", r"baseline: there is no row 'lead II'; did you mean 'lead I"),
        ("seeds=0,1,1", "seed 1 stands twice"),
        ("seeds=0,-1", "seed -1 is negative"),
        ("hypotheses=[{row: lead V2}]", r"hypotheses: row: there is no row 'lead V2'; did you mean 'lead V1'"),
        ("hypotheses=[{row: lead I}]", "lead I is compared with itself"),
        ("hypotheses=[{row: lead V1, direction: more}]", "'higher' or 'lower'"),
        ("hypotheses=[{row: lead V1, metric: knn/auroc_marco}]", "did you mean 'knn/auroc_macro'"),
        ("hypotheses=[{row: lead V1, metric: knn/f1_weighted}]", "A study can test: "),
        ("hypotheses=[{row: lead V1, metric: linear_probe/auroc_macro}]", "has no metric 'linear_probe/auroc_macro'"),
        ("evaluation.protocols=knnn", "unknown 'knnn'; did you mean 'knn'"),
        ("evaluation.protocol=sed", "protocol: 'sed' is no preset; did you mean 'seed'"),
        ("evaluation.protocol=seed", "protocol: seed does not define the task 'kind', only"),
        ("evaluation.task=kinds", "did you mean 'kind'"),
        ("evaluation.knn=3", "unknown key"),
        ("rows.lead I.set={encoder.lead: I}", "row lead I: unknown key 'encoder.lead'"),
        ("rows.lead I.config=configs/none.yaml", "row lead I: config file configs/none.yaml does not exist"),
        ("store=data/no_such_store", "no_such_store"),
    ],
)
def test_wrong_key_is_refused(argument: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        main([write_study(tmp_path), argument])


def test_no_store_and_no_study(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no store is given"):
        main([write_study(tmp_path, store=None)])
    with pytest.raises(UserError, match="one study is expected, 0 given"):
        main(["seeds=1"])


def test_rows_of_other_test_records_are_refused(tmp_path: Path) -> None:
    path = with_rows(tmp_path, {"fewer": {"config": "CONFIG", "set": {"train_folds": [1], "test_folds": [8]}}})
    with pytest.raises(UserError, match="fewer would be tested on other records or labels than lead I"):
        main([path])


def test_unlabelled_records_are_records_where_they_take_part(synthetic_store: Path, tmp_path: Path) -> None:
    shutil.copytree(synthetic_store, tmp_path / "store")
    records = pd.read_parquet(tmp_path / "store" / "records.parquet")
    bare = records.fold == 10
    labels = enumerate(zip(bare, records.superclass, strict=True))
    records["superclass"] = [[] if tested and i % 2 else names for i, (tested, names) in labels]
    records.to_parquet(tmp_path / "store" / "records.parquet")
    opened: dict[Any, Labelled] = {}
    given = {"store": tmp_path / "store", "task": "superclass"}
    kept, dropped = (open_once(CommonSettings(**given, keep_unlabelled=keep), opened) for keep in (True, False))
    assert len(kept.split.test) == bare.sum() > len(dropped.split.test)
    assert describe_test(kept) != describe_test(dropped)


def test_weights_that_are_not_there_are_refused(tmp_path: Path) -> None:
    path = with_rows(
        tmp_path, {"old": {"config": "CONFIG", "set": {"encoder.module": None, "encoder.weights": str(tmp_path / "gone")}}}
    )  # fmt: skip
    with pytest.raises(UserError, match=r"row old cannot run, so nothing was started: encoder.weights .*gone does not"):
        main([path])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"config": "CONFIG", "after": "lead II"}, "rows.new.after: there is no row 'lead II'"),
        ({"of": "lead I"}, "either `config`"),
        ({"config": "CONFIG", "of": "lead I", "part": "random encoder"}, "either `config`"),
        ({"of": "lead I", "part": "random encoder", "set": {"a": 1}}, "there is nothing to set"),
        ({"config": "CONFIG", "after": "new"}, "rows.new follows itself"),
        ({"config": "configs/data/synthetic.yaml"}, "row new: .*there is no shared.evaluate to give them"),
        ({"config": "CONFIG", "after": "part"}, "rows.new follows part, which is a part of an evaluation"),
    ],
)
def test_wrong_row_is_refused(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        main([with_rows(tmp_path, {"part": {"of": "lead I", "part": "random encoder"}, "new": row})])


def test_two_rows_of_one_folder_are_refused(tmp_path: Path) -> None:
    path = with_rows(tmp_path, {"lead_I": {"config": "CONFIG"}})
    with pytest.raises(UserError, match="two rows of .* would have one folder"):
        main([path])


def test_sizes(tmp_path: Path) -> None:
    """A size's part stands over the study's, the command line over both; an unknown one is named."""
    sizes = {
        "demo": {"seeds": [7], "rows": {"lead I": {"set": {"knn.k": 3}}}, "evaluation": {"set": {"num_crops": 2}}},
        "full": {"out": str(tmp_path / "elsewhere")},
    }
    path = write_study(tmp_path, sizes=sizes)
    demo = read_study(path)
    assert demo.seeds == (7,) and demo.rows["lead I"].set == {"encoder.leads": ["I"], "knn.k": 3}
    assert demo.evaluation.set == {"knn.k": 5, "num_crops": 2} and demo.evaluation.task == "kind"
    assert read_study(path, ["seeds=1,2"]).seeds == (1, 2)
    full = plan_study(path, read_study(path, ["size=full"]))
    assert full.config.seeds == (0, 1, 2) and full.out == tmp_path / "elsewhere"
    with pytest.raises(UserError, match=r"size=ful: unknown; did you mean 'full'\? .* has demo, full"):
        main([path, "size=ful"])
    with pytest.raises(UserError, match=r"sizes.demo.rows: there is no row 'lead 1'"):
        main([write_study(tmp_path, sizes={"demo": {"rows": {"lead 1": {}}}})])
