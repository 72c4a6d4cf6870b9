"""Outside encoders: named by `module:object`, given this project's face and a control, evaluated like any other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from shared.config import load_config
from shared.data.store import ECGStore, StoreError
from shared.errors import UserError
from shared.evaluation.config import EvaluateConfig
from shared.evaluation.outside import RandomProjection, untrained
from shared.leads import LEADS
from shared.outside import OutsideEncoder, load_outside
from shared.signals import resample_ends
from st_mem_modified.evaluate import run_evaluation

MODULE = """
import torch
from torch import nn

class Net(nn.Module):
    input_spec = {"num_samples": 500, "leads": ["I", "II", "V2"]}
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(3, 8, 25, stride=10)
        self.scale = nn.Parameter(torch.arange(8.0))
    def embed(self, ecg):
        return self.conv(ecg).abs().mean(-1) * self.scale

class Plain:
    embed_dim = 3
    input_spec = {"num_samples": 500, "leads": ["I", "II", "V2"]}
    def embed(self, ecg, leads=None):
        return ecg.std(-1) @ torch.ones(ecg.shape[1], 3)

class NoSpec(nn.Module):
    def embed(self, ecg):
        return ecg

class Fast:
    input_spec = {"fs": 500, "seconds": 1.5, "leads": ["V2", "I"]}
    def embed(self, ecg):
        return ecg.flatten(1)[:, ::100]

class Slow(Fast):
    input_spec = {"fs": 100, "seconds": 1.5, "leads": ["V2", "I"]}

class Long(Fast):
    input_spec = {"fs": 500, "seconds": 9}

made = Plain()
def make():
    torch.manual_seed(0)
    return Net()
number = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"outside_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return name


@pytest.mark.parametrize(("attribute", "dim"), [("make", 8), ("Net", 8), ("made", 3), ("Plain", 3)])
def test_encoders_of_every_kind(module: str, attribute: str, dim: int) -> None:
    encoder = load_outside(f"{module}:{attribute}")
    assert encoder.embed_dim == dim
    assert encoder.embed(torch.randn(2, 3, 500)).shape == (2, dim)


def test_control_of_a_module_forgets_its_weights(module: str) -> None:
    encoder = load_outside(f"{module}:make")
    control, what = untrained(encoder, 5)
    assert "1 tensors without it shuffled" in what
    before, after = encoder.state_dict(), control.state_dict()
    assert not torch.equal(before["inner.conv.weight"], after["inner.conv.weight"])
    scale = after["inner.scale"]
    assert not torch.equal(before["inner.scale"], scale)
    assert torch.equal(before["inner.scale"], scale.sort().values)
    again, _ = untrained(encoder, 5)
    assert torch.equal(after["inner.conv.weight"], again.state_dict()["inner.conv.weight"])


def test_control_of_what_is_no_module(module: str) -> None:
    control, _ = untrained(load_outside(f"{module}:made"), 0)
    assert isinstance(control, RandomProjection)
    ecg = torch.randn(2, 3, 500)
    only = ecg.clone()
    only[:, [0, 2]] = 0
    torch.testing.assert_close(control.embed(ecg[:, 1:2], ["II"]), control.embed(only))


def test_fewer_leads_only_where_the_encoder_takes_them(module: str) -> None:
    assert load_outside(f"{module}:made").embed(torch.randn(2, 1, 500), ["II"]).shape == (2, 3)
    with pytest.raises(UserError, match="takes all of its leads"):
        load_outside(f"{module}:make").embed(torch.randn(2, 1, 500), ["II"])


def test_evaluation(module: str, synthetic_store: Path, tmp_path: Path) -> None:
    settings = [f"store={synthetic_store}", "task=superclass", f"out={tmp_path / 'e'}", "knn.k=5", "resamples=30"]
    settings += ["min_positives=1", "protocols=knn,linear_probe,reduced_leads", f"encoder.module={module}:make"]
    page = run_evaluation(load_config(EvaluateConfig, None, settings))
    metrics = json.loads((page.parent / "metrics.json").read_text())
    assert {"knn", "linear_probe", "random encoder/knn"} <= set(metrics)
    text = page.read_text()
    assert "reduced_leads could not run" in text and "weights drawn anew" in text
    assert "pretraining data are not known" in text


@pytest.mark.parametrize(("attribute", "fs"), [("Fast", 500), ("Slow", 100)])
def test_an_encoder_of_another_rate_gets_the_records_at_its_own(
    module: str, synthetic_store: Path, tmp_path: Path, attribute: str, fs: int
) -> None:
    settings = [f"store={synthetic_store}", "task=superclass", f"out={tmp_path / 'e'}", "knn.k=5", "resamples=30"]
    settings += ["min_positives=1", "protocols=knn", f"encoder.module={module}:{attribute}"]
    page = run_evaluation(load_config(EvaluateConfig, None, settings))
    store = ECGStore(synthetic_store)
    table = pd.read_parquet(page.parent / "embeddings.parquet").set_index("record").loc[store.records.record]
    found = table.filter(regex=r"^e\d{4}$").to_numpy()
    ecg = resample_ends(store.read(np.arange(len(store)))[:, [LEADS.index("V2"), LEADS.index("I")]] * 1e-3, 250, fs)
    start = (5 * fs - 3 * fs // 2) // 2
    middle = ecg[..., start : start + 3 * fs // 2]  # its window, in its rate and order
    np.testing.assert_allclose(found, middle.reshape(len(store), -1)[:, ::100], atol=6e-4)
    note = f"records of 250 Hz were resampled to the {fs} Hz of {module}:{attribute} as they were read"
    assert note in page.read_text()
    assert (f"{note}: nothing above 125 Hz is in them" in page.read_text()) == (fs > 250)


def test_a_longer_window_than_the_records_have_is_refused(module: str, synthetic_store: Path, tmp_path: Path) -> None:
    settings = [f"store={synthetic_store}", "task=superclass", f"out={tmp_path / 'e'}", "protocols=knn"]
    with pytest.raises(StoreError, match="takes 4500 samples but the store .* segments of 2500: .* seconds=9"):
        run_evaluation(load_config(EvaluateConfig, None, [*settings, f"encoder.module={module}:Long"]))


def test_bad_names(module: str) -> None:
    with pytest.raises(UserError, match="expected module:object"):
        load_outside("no_colon")
    with pytest.raises(UserError, match="No module named 'not_there'"):
        load_outside("not_there:thing")
    with pytest.raises(UserError, match="has no 'thing'"):
        load_outside(f"{module}:thing")
    with pytest.raises(UserError, match="int without embed"):
        load_outside(f"{module}:number")
    with pytest.raises(UserError, match="has no input_spec"):
        load_outside(f"{module}:NoSpec")
    with pytest.raises(UserError, match="out is not set"):
        run_evaluation(load_config(EvaluateConfig, None, ["store=x", f"encoder.module={module}:make"]))
    with pytest.raises(UserError, match="both set"):
        run_evaluation(load_config(EvaluateConfig, None, ["store=x", "encoder.module=a:b", "encoder.weights=c"]))
    assert isinstance(load_outside(f"{module}:made"), OutsideEncoder)
