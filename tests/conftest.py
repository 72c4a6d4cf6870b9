"""One thread a test process: two processes on two cores are faster than two threads fighting over them."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import pytest
import torch

from shared.config import load_config
from shared.data.prepare import choose_config, prepare
from shared.plots import charts

matplotlib.use("Agg")
torch.set_num_threads(1)
charts.DPI = 40  # figures of a third of the width: their pixels are most of what they cost


@pytest.fixture(scope="session")
def synthetic_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared store of 200 synthetic records of 100 patients, 250 Hz × 5 s; read it, do not change it."""
    out = tmp_path_factory.mktemp("data") / "synthetic"
    overrides = [f"out={out}", "num_records=200", "records_per_patient=2", "seconds=5", "backend=sequential"]
    prepare(load_config(choose_config, "configs/data/synthetic.yaml", overrides))
    return out
