"""The evaluation as a whole: embedding once, honest splits, planted leaks, and what it says when something is wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from shared.config import load_config
from shared.data.prepare import choose_config, prepare
from shared.data.spec import InputSpec
from shared.data.splits import open_labelled
from shared.data.store import ECGStore, StoreError
from shared.data.tasks import make_task
from shared.errors import UserError
from shared.evaluation.config import EvaluateConfig
from shared.evaluation.contamination import check_contamination, check_copies
from shared.evaluation.context import RANDOM, UNTUNED, Context, Protocol, Result
from shared.evaluation.evaluate import evaluate, evaluation_folder
from shared.evaluation.protocols import PROTOCOLS
from shared.evaluation.rows import Rows
from shared.files import hold
from shared.run_record import PACKAGES, read_record


class Statistics(nn.Module):
    """An encoder that is no network: deviation of each lead, mixed by fixed weights."""

    def __init__(self, seed: int = 0, num_samples: int = 1000, broken: bool = False) -> None:
        super().__init__()
        self.embed_dim = 12
        self.input_spec = InputSpec(num_samples=num_samples, standardize="none")
        self.mix = nn.Parameter(torch.randn(12, 12, generator=torch.Generator().manual_seed(seed)))
        self.broken = broken
        self.calls = 0

    def embed(self, ecg: Tensor, leads: Sequence[str] | None = None) -> Tensor:
        self.calls += 1
        spread = ecg.std(-1)
        spread = torch.nn.functional.pad(spread, (0, 12 - spread.shape[1]))
        return spread * torch.nan if self.broken else spread @ self.mix


@pytest.fixture(autouse=True)
def few_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Curves and mistakes have tests of their own (`report/`); here they would take most of the time."""
    for name in ("draw_predictions", "draw_mistakes"):
        monkeypatch.setattr(f"shared.evaluation.report.results.{name}", lambda *_: [])


def config_for(store: Path, *more: str) -> EvaluateConfig:
    base = [f"store={store}", "task=superclass", "knn.k=5", "resamples=40", "min_positives=1"]
    return load_config(EvaluateConfig, None, [*base, *more])


def run(store: Path, out: Path, *more: str, encoder: nn.Module | None = None, **options) -> Path:
    config = config_for(store, *more)
    return evaluate(Rows("statistics", encoder or Statistics(0), Statistics(1), **options), config, out)


def test_report_folder(synthetic_store: Path, tmp_path: Path) -> None:
    page = run(synthetic_store, tmp_path)
    table = pd.read_parquet(tmp_path / "embeddings.parquet")
    store = ECGStore(synthetic_store)
    assert len(table) == len(store)
    assert set(table.split) == {"train", "val", "test"}
    assert table.groupby("patient").split.nunique().max() == 1
    lines = pd.read_csv(tmp_path / "metrics.csv")
    assert {"protocol", "row", "metric", "value", "low", "high", "n"} == set(lines.columns)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    score = metrics["knn"]["auroc_macro"]
    assert score["low"] <= score["value"] <= score["high"]
    assert score["n"] == (table.split == "test").sum()
    assert "pretraining data are not known" in page.read_text()
    assert not [path for path in tmp_path.rglob("*") if path.suffix in {".pkl", ".pickle", ".pt"}]


def test_same_seed_same_numbers(synthetic_store: Path, tmp_path: Path) -> None:
    run(synthetic_store, tmp_path / "a")
    run(synthetic_store, tmp_path / "b")
    assert (tmp_path / "a" / "metrics.json").read_text() == (tmp_path / "b" / "metrics.json").read_text()


def test_an_evaluation_says_what_made_it_and_has_its_folder_alone(
    synthetic_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(synthetic_store, tmp_path)
    (record,) = read_record(tmp_path)
    assert record["store"] == ECGStore(synthetic_store).fingerprint and record["seed"] == 0
    assert record["parameters"] == {"statistics": 144, RANDOM: 144} and record["records"] == 200
    assert record["packages"].keys() == set(PACKAGES)
    assert 0 < record["embedding_seconds"] <= record["seconds"] and record["ecg_per_second"] > 0
    monkeypatch.setattr("shared.files.LOCK_SECONDS", 0.05)
    with hold(tmp_path), pytest.raises(UserError, match="is being written by process"):
        run(synthetic_store, tmp_path)


def test_copies_between_the_splits_of_an_evaluation_are_reported(synthetic_store: Path) -> None:
    data = open_labelled(synthetic_store, "superclass", False, {"train": [1, 2], "val": [9], "test": [10]})
    (looked_for,) = check_copies(data.store, data.indices, data.split)
    assert looked_for.startswith(
        "signals of test and training or validation records were compared in II, V2, V5, I; not seen"
    )
    digests = data.store.records.digest.copy()
    train, val, test = (data.indices[part] for part in (data.split.train, data.split.val, data.split.test))
    digests.iloc[test[:2]] = digests.iloc[train[0]]
    digests.iloc[test[2]] = digests.iloc[val[1]]
    data.store.records["digest"] = digests
    names = data.store.records.record
    assert check_copies(data.store, data.indices, data.split, near=False)[:-1] == [
        "LEAK: 2 test records are sample-identical to a training record (e.g. "
        f"{names[test[0]]} = {names[train[0]]}, {names[test[1]]} = {names[train[0]]})",
        f"LEAK: 1 test records are sample-identical to a validation record (e.g. {names[test[2]]} = {names[val[1]]})",
    ]


def test_planted_leak_is_reported(synthetic_store: Path) -> None:
    store = ECGStore(synthetic_store)
    test = store.select([10])
    clean = check_contamination({"store": str(synthetic_store), "folds": [1, 2, 3]}, store, test)
    assert not any("LEAK" in line for line in clean)
    leaky = check_contamination({"store": str(synthetic_store), "folds": [1, 10]}, store, test)
    assert [line.split(" (")[0] for line in leaky if "LEAK" in line] == [
        f"LEAK: {store.records.patient.iloc[test].nunique()} test patients were in pretraining",
        f"LEAK: {len(test)} test records were in pretraining by their name",
        f"LEAK: {len(test)} test records are sample-identical to a pretraining record",
    ]
    gone = check_contamination({"store": "nowhere", "folds": None}, store, test)
    assert "could not be checked" in gone[0]


def test_leak_stands_on_the_page(synthetic_store: Path, tmp_path: Path) -> None:
    page = run(synthetic_store, tmp_path, trained_on={"store": str(synthetic_store), "folds": None})
    assert 'class="leak"' in page.read_text()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("protocols=knn,astrology", "unknown protocol astrology. The protocols are knn"),
        ("protocols=knn,linear_prob", "unknown protocol linear_prob; did you mean 'linear_probe'"),
        ("task=superclas", r"\(task 'superclas'\); did you mean 'superclass'"),
        ("task=ptbxl_superclas", r"did you mean 'ptbxl_superclass'"),
        ("task=ptbxl_rhythm", "has no labels 'rhythm'.*Its label columns: superclass"),
        ("test_folds=8", r"fold\(s\) \[8\] stand in more than one"),
        ("test_folds=11", r"test_folds \[11\] hold no record with a label"),
        ("store=nowhere", "is not a store"),
    ],
)
def test_bad_settings_are_named(synthetic_store: Path, tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(synthetic_store, tmp_path, override)


def test_protocol_that_cannot_run_is_reported_and_the_rest_goes_on(synthetic_store: Path, tmp_path: Path) -> None:
    page = run(synthetic_store, tmp_path, "knn.k=5000")
    assert "knn could not run" in page.read_text()
    assert "clusters" in json.loads((tmp_path / "metrics.json").read_text())
    with pytest.raises(UserError, match="no protocol could run"):
        run(synthetic_store, tmp_path / "none", "knn.k=5000", "protocols=knn")


def test_a_mistake_in_a_protocol_is_loud_and_a_refusal_is_a_note(
    synthetic_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistake(context: Context) -> Result:
        raise ValueError("operands could not be broadcast together")

    def refuse(context: Context) -> Result:
        raise UserError("the store has no such column. Name another.")

    monkeypatch.setitem(PROTOCOLS, "clusters", Protocol(refuse))
    page = run(synthetic_store, tmp_path / "refused", "protocols=knn,clusters").read_text()
    assert "clusters could not run: the store has no such column. Name another." in page
    monkeypatch.setitem(PROTOCOLS, "clusters", Protocol(mistake))
    with pytest.raises(ValueError, match="operands could not be broadcast"):
        run(synthetic_store, tmp_path / "mistaken", "protocols=knn,clusters")
    assert not (tmp_path / "mistaken" / "report.html").exists()


def test_every_baseline_has_its_differences(synthetic_store: Path, tmp_path: Path) -> None:
    others = {"other": Statistics(2), UNTUNED: Statistics(3)}
    page = run(synthetic_store, tmp_path, "protocols=knn,clusters", others=others, baselines=(UNTUNED,)).read_text()
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    of_knn = {key for key in metrics if key.startswith(("knn", "other/knn", f"{UNTUNED}/knn", f"{RANDOM}/knn"))}
    assert of_knn == {
        "knn", "other/knn", f"{UNTUNED}/knn", f"{RANDOM}/knn",
        f"knn minus {RANDOM}", f"other/knn minus {RANDOM}", f"{UNTUNED}/knn minus {RANDOM}",
        f"knn minus {UNTUNED}", f"other/knn minus {UNTUNED}",
    }  # fmt: skip
    for protocol, metric in (("knn", "auroc_macro"), ("clusters", "kmeans/nmi")):
        for baseline in (RANDOM, UNTUNED):
            difference = metrics[f"other/{protocol} minus {baseline}"][metric]["value"]
            a, b = (metrics[f"{row}/{protocol}"][metric]["value"] for row in ("other", baseline))
            assert difference == pytest.approx(a - b, abs=1e-9)
    gain = json.loads((tmp_path / "gain.json").read_text())
    assert set(gain) == {f"{row}/{p} minus {UNTUNED}" for row in ("statistics", "other") for p in ("knn", "clusters")}
    assert gain[f"statistics/knn minus {UNTUNED}"] == metrics[f"knn minus {UNTUNED}"]
    lines = pd.read_csv(tmp_path / "metrics.csv")
    assert {f"statistics − {RANDOM}", f"statistics − {UNTUNED}", f"{UNTUNED} − {RANDOM}"} <= set(lines.row)
    assert (
        f"<td>other − {UNTUNED}</td>" in page and f"<td>other − {RANDOM}</td>" not in page
    )  # that one stands beside it
    assert f"statistics − {UNTUNED}: knn auroc_macro" in page and "clusters kmeans/nmi" in page
    assert (tmp_path / "figures" / "before_after_pca.png").is_file()


def test_broken_encoder_and_short_store_are_refused(synthetic_store: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="embeddings hold NaN or infinity"):
        run(synthetic_store, tmp_path, encoder=Statistics(broken=True))
    with pytest.raises(StoreError, match="takes 2250 samples but the store"):
        run(synthetic_store, tmp_path, encoder=Statistics(num_samples=2250))


def test_single_label_task(synthetic_store: Path) -> None:
    store = ECGStore(synthetic_store)
    every, single = make_task(store, "superclass"), make_task(store, "superclass", single_label=True)
    assert every.classes == ("CD", "HYP", "MI", "NORM", "STTC")
    assert (single.labels[single.usable].sum(axis=1) == 1).all()
    assert single.usable.sum() < every.usable.sum()
    with pytest.raises(UserError, match="has no class XYZ. Its classes"):
        make_task(store, "superclass", classes=["XYZ"])


def test_results_go_into_the_run_folder(tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints" / "step-00000001").mkdir(parents=True)
    weights = tmp_path / "run" / "checkpoints" / "step-00000001" / "model.safetensors"
    assert evaluation_folder(weights) == evaluation_folder(tmp_path / "run") == tmp_path / "run" / "evaluation"
    with pytest.raises(UserError, match="is in no run folder"):
        evaluation_folder(tmp_path / "some.pth")


def test_patients_of_another_synthetic_draw_are_other_people(synthetic_store: Path, tmp_path: Path) -> None:
    """Both stores have a patient000000; only the same draw is a leak."""
    overrides = ["num_records=40", "records_per_patient=2", "seconds=5", "backend=sequential", f"out={tmp_path / 'o'}"]
    other = prepare(load_config(choose_config, "configs/data/synthetic.yaml", [*overrides, "seed=5"]))
    found = check_contamination({"store": str(synthetic_store), "folds": None}, other, np.arange(len(other)))
    assert not any(note.startswith("LEAK") for note in found)
    again = check_contamination({"store": str(other.path), "folds": None}, other, np.arange(3))
    assert any(note.startswith("LEAK: 2 test patients") for note in again)


def test_one_class_of_an_own_csv(synthetic_store: Path, tmp_path: Path) -> None:
    """All zeros is a negative: one class alone can be told from the rest, and the page counts who is what."""
    store = ECGStore(synthetic_store)
    listed = store.records[: len(store) - 5]
    has = listed.superclass.map(lambda names: int("MI" in names))
    listed.assign(MI=has)[["record", "MI"]].to_csv(tmp_path / "mine.csv", index=False)
    page = run(synthetic_store, tmp_path / "out", f"task={tmp_path / 'mine.csv'}", "protocols=knn,linear_probe")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["knn"]["auroc_macro"]["n"] == listed.fold.eq(10).sum()
    counts = f"{has.sum()} have a label, {(1 - has).sum()} are listed with none (negatives), and 5 are not labelled"
    assert counts in page.read_text()
