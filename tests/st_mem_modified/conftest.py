"""A small pretrained ST-MEM for the tests of what is built on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.config import load_config
from st_mem_modified.config import PretrainConfig
from st_mem_modified.pretrain import pretrain

SMALL = {"embed_dim": 16, "depth": 2, "num_heads": 1, "head_dim": 16, "decoder_dim": 16, "decoder_depth": 1}


@pytest.fixture(scope="session")
def stmem_run(synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of an ST-MEM (D 16, depth 2, 450 samples) after two steps; read it, do not change it."""
    out = tmp_path_factory.mktemp("runs") / "st_mem"
    overrides = [
        f"run.out={out}",
        f"data.store={synthetic_store}",
        *(f"model.{key}={value}" for key, value in SMALL.items()),
        "model.decoder_heads=1",
        "model.input.num_samples=450",
        "optim.epochs=1",
        "optim.batch_size=80",
        "optim.warmup_epochs=0",
    ]
    return pretrain(load_config(PretrainConfig, None, overrides))
