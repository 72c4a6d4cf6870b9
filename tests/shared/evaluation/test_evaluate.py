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
from shared.data.loader import eval_batches
from shared.data.prepare import choose_config, prepare
from shared.data.spec import InputSpec
from shared.data.store import ECGStore, StoreError
from shared.data.tasks import make_task
from shared.data.transforms import Preprocess
from shared.embeddings import embed_cached, embed_store, weights_digest
from shared.errors import UserError
from shared.evaluation.config import EvaluateConfig
from shared.evaluation.contamination import check_contamination
from shared.evaluation.evaluate import evaluate, evaluation_folder


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


def config_for(store: Path, *more: str) -> EvaluateConfig:
    base = [f"store={store}", "task=superclass", "knn.k=5", "resamples=40", "min_positives=1"]
    return load_config(EvaluateConfig, None, [*base, *more])


def run(store: Path, out: Path, *more: str, encoder: nn.Module | None = None, **options) -> Path:
    config = config_for(store, *more)
    return evaluate(encoder or Statistics(0), Statistics(1), config, out, name="statistics", **options)


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


def test_embedding_equals_a_plain_loop(synthetic_store: Path) -> None:
    store, encoder = ECGStore(synthetic_store), Statistics()
    indices = np.array([5, 3, 199])
    got = embed_store(encoder, store, indices, num_crops=2, batch_size=2)
    for row, index in enumerate(indices):
        crops = next(iter(eval_batches(store, [index], encoder.input_spec, 1, 2)))[0]  # type: ignore[arg-type]
        want = encoder.embed(Preprocess(encoder.input_spec)(crops)).mean(0)
        np.testing.assert_allclose(got[row], want.detach().numpy(), rtol=1e-5, atol=1e-7)


def test_cache_follows_weights_records_and_options(synthetic_store: Path, tmp_path: Path) -> None:
    store, encoder = ECGStore(synthetic_store), Statistics()
    indices = np.arange(20)
    first = embed_cached(tmp_path, encoder, store, indices)
    calls = encoder.calls
    np.testing.assert_array_equal(embed_cached(tmp_path, encoder, store, indices), first)
    assert encoder.calls == calls
    embed_cached(tmp_path, encoder, store, indices[::-1].copy())
    embed_cached(tmp_path, encoder, store, indices, num_crops=2)
    with torch.no_grad():
        encoder.mix += 1
    embed_cached(tmp_path, encoder, store, indices)
    assert encoder.calls == calls + 3
    assert weights_digest(Statistics(0)) != weights_digest(Statistics(1))


def test_planted_leak_is_reported(synthetic_store: Path) -> None:
    store = ECGStore(synthetic_store)
    test = store.select([10])
    clean = check_contamination({"store": str(synthetic_store), "folds": [1, 2, 3]}, store, test)
    assert not any("LEAK" in line for line in clean)
    leaky = check_contamination({"store": str(synthetic_store), "folds": [1, 10]}, store, test)
    assert sum("LEAK" in line for line in leaky) == 2
    gone = check_contamination({"store": "nowhere", "folds": None}, store, test)
    assert "could not be checked" in gone[0]


def test_leak_stands_on_the_page(synthetic_store: Path, tmp_path: Path) -> None:
    page = run(synthetic_store, tmp_path, trained_on={"store": str(synthetic_store), "folds": None})
    assert 'class="leak"' in page.read_text()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("protocols=knn,astrology", "unknown protocol astrology; the protocols are knn"),
        ("task=ptbxl_rhythm", "has no labels 'rhythm'.*its label columns: superclass"),
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
    with pytest.raises(UserError, match="has no class XYZ"):
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
