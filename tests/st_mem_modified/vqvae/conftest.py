"""A small trained VQ-VAE for the tests of what is built on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.config import load_config
from st_mem_modified.vqvae.config import VQTrainConfig
from st_mem_modified.vqvae.train import train
from tests.st_mem_modified.vqvae.small import EVALUATION, TINY


@pytest.fixture(scope="session")
def trained(synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps, evaluated; read it, do not change it."""
    out = tmp_path_factory.mktemp("runs") / "vqvae"
    overrides = [f"run.out={out}", f"data.store={synthetic_store}", *TINY, *EVALUATION]
    return train(load_config(VQTrainConfig, "configs/demo/st_mem_vqvae.yaml", overrides))
