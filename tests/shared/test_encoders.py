"""From an array, or files, to the embeddings that an evaluation would have; what cannot be right is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import resample_poly
from torch import nn

from ecg_jepa_modified.config import ModelConfig as JEPAConfig
from ecg_jepa_modified.model import ECGJEPA
from shared import embed, load_encoder
from shared.checkpoints import CheckpointError, packages, save_weights
from shared.config import REPO_ROOT
from shared.data.store import ECGStore
from shared.embeddings import embed_store
from shared.errors import UserError
from shared.leads import INDEPENDENT_LEADS, LEADS
from shared.signals import resample_ends
from st_mem_modified.config import ModelConfig
from st_mem_modified.model import STMEM
from tests.golden import golden_file

OUTSIDE = """
class Spread:
    input_spec = {"fs": 100, "seconds": 2, "leads": ["V1", "I"]}
    def embed(self, ecg):
        return ecg.std(-1)
"""
STMEM_SIZE = {"embed_dim": 16, "depth": 1, "num_heads": 1, "head_dim": 16, "decoder_dim": 16, "decoder_depth": 1}
FOUND = np.arange(6)


def save(path: Path, model: nn.Module, method: str, config: Any) -> Path:
    path.mkdir()
    save_weights(path / "model.safetensors", model.state_dict(), method, {"model": config.model_dump(mode="json")})
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = ModelConfig.model_validate({**STMEM_SIZE, "decoder_heads": 1, "input": {"num_samples": 900}})
    return save(tmp_path_factory.mktemp("w") / "st_mem", STMEM(config), "st_mem", config)


@pytest.fixture(scope="module")
def encoder(weights: Path) -> nn.Module:
    return load_encoder(weights)


@pytest.fixture(scope="module")
def store(synthetic_store: Path) -> ECGStore:
    return ECGStore(synthetic_store)


@pytest.fixture(scope="module")
def expected(encoder: nn.Module, store: ECGStore) -> np.ndarray:
    return embed_store(encoder, store, FOUND)  # type: ignore[arg-type]


def test_an_outside_encoder_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere.py").write_text(OUTSIDE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert load_encoder("elsewhere:Spread").embed_dim == 2
    with pytest.raises(UserError, match="has no 'Spraed'"):
        load_encoder("elsewhere:Spraed")


def test_any_method_is_found_by_its_name(weights: Path, store: ECGStore, tmp_path: Path) -> None:
    config = JEPAConfig.model_validate(
        {"embed_dim": 16, "depth": 1, "num_heads": 2, "predictor_dim": 8, "predictor_depth": 1, "predictor_heads": 2,
         "input": {"seconds": 4}}
    )  # fmt: skip
    jepa = load_encoder(save(tmp_path / "jepa", ECGJEPA(config), "ecg_jepa", config))
    assert type(jepa).__name__ == "ECGJEPAEncoder" and not jepa.training
    np.testing.assert_allclose(
        embed(jepa, store.read(FOUND), 250, unit="uV"),
        embed_store(jepa, store, FOUND),
        atol=1e-4,
    )
    assert type(load_encoder(weights)).__name__ == "STMEMEncoder"
    save_weights(tmp_path / "model.safetensors", {"w": torch.zeros(1)}, "cinc", {})
    with pytest.raises(CheckpointError, match=f"checkpoint of cinc, which none of {', '.join(packages())} reads"):
        load_encoder(tmp_path)
    torch.save({"w": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="is a file of no method here"):
        load_encoder(tmp_path / "other.pth")


@pytest.mark.parametrize(("unit", "factor"), [("uV", 1.0), ("mV", 1e-3), ("V", 1e-6)])
def test_an_array_as_the_store_has_it(
    encoder: nn.Module, store: ECGStore, expected: Any, unit: str, factor: float
) -> None:
    order = np.random.default_rng(0).permutation(12)
    x = store.read(FOUND)[:, order] * factor
    found = embed(encoder, x, fs=250, leads=[LEADS[i].upper() for i in order], unit=unit, batch_size=4)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(
        embed(encoder, torch.from_numpy(x[2]), 250, [LEADS[i] for i in order], unit), found[2:3], atol=1e-5
    )


def test_another_rate_is_resampled(encoder: nn.Module, store: ECGStore, expected: np.ndarray) -> None:
    x = resample_poly(store.read(FOUND).astype(float), 2, 1, axis=-1, padtype="edge")
    found = embed(encoder, x, fs=500, unit="uV")
    spread = np.abs(expected - expected.mean(0)).mean()
    assert np.abs(found - expected).mean() < 0.05 * spread
    assert np.abs(embed(encoder, x[..., : x.shape[-1] // 2], fs=250, unit="uV") - expected).mean() > 0.5 * spread


def test_resampling_keeps_the_ends() -> None:
    ramp = np.linspace(1.0, 3.0, 1000)[None]
    found = resample_ends(ramp, 500, 257)
    assert found.shape == (1, 514)
    np.testing.assert_allclose(found[0], np.interp(np.arange(514) / 257, np.arange(1000) / 500, ramp[0]), atol=0.01)


def test_subsets_and_derived_leads(encoder: nn.Module, store: ECGStore, expected: np.ndarray) -> None:
    names = ["V2", "I"]
    x = store.read(FOUND)[:, [LEADS.index(name) for name in names]]
    subset = embed_store(encoder, store, FOUND, leads=("I", "V2"))  # type: ignore[arg-type]
    np.testing.assert_allclose(embed(encoder, x, 250, names, "uV"), subset, atol=1e-5)
    eight = store.read(FOUND)[:, [LEADS.index(name) for name in INDEPENDENT_LEADS]]
    np.testing.assert_allclose(embed(encoder, eight, 250, INDEPENDENT_LEADS, "uV"), expected, atol=5e-3)


def test_windows(encoder: nn.Module, store: ECGStore) -> None:
    many = embed_store(encoder, store, FOUND, num_crops=3)  # type: ignore[arg-type]
    np.testing.assert_allclose(embed(encoder, store.read(FOUND), 250, unit="uV", num_crops=3), many, atol=1e-5)


def test_what_cannot_be_right_is_refused(encoder: nn.Module, store: ECGStore) -> None:
    x = store.read(FOUND) / 1000
    with_nan = x.copy()
    with_nan[3, 0, 0] = np.nan
    cases: list[tuple[str, dict[str, Any]]] = [
        (r"shape \[6, 1250, 12\].*it is transposed", {"x": x.swapaxes(1, 2)}),
        (r"shape \[1250, 12\].*it is transposed", {"x": x[0].T}),
        (r"shape \[6, 12, 1250\] for 2 leads \(I, II\): name each", {"leads": "I,II"}),
        (r"shape \[12\]; expected", {"x": x[0, :, 0]}),
        ("unit='uV'; ECG moves by .* as mV they would be", {"unit": "uV"}),
        ("as uV they would be", {"x": x * 1000}),
        ("no unit makes them so", {"x": x * 0}),
        ("unknown unit 'mVv'; did you mean 'mV'", {"unit": "mVv"}),
        ("1 of 6 records hold NaN or infinity, the first is 3", {"x": with_nan}),
        ("unknown lead 'aVX'; did you mean 'aVR'", {"leads": [*LEADS[:11], "aVX"]}),
        ("fs is 5 Hz; expected 50", {"fs": 5}),
        ("have 2.00 s, the encoder takes 3.6 s", {"x": x[..., :500]}),
    ]
    for message, values in cases:
        with pytest.raises(UserError, match=message):
            embed(encoder, **{"x": x, "fs": 250, **values})


def test_importing_shared_stays_light() -> None:
    code = "import sys, shared; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=REPO_ROOT, check=True)


@pytest.mark.parametrize(
    ("name", "kind", "nest", "expected_class"),
    [
        ("st_mem_checkpoint_keys.json", "st_mem_vit_small", "model", "STMEMEncoder"),
        ("ecg_jepa_checkpoint_keys.json", "encoder", "encoder", "ECGJEPAEncoder"),
    ],
)
def test_a_released_file_is_told_by_its_names(
    name: str, kind: str, nest: str, expected_class: str, tmp_path: Path
) -> None:
    shapes = json.loads(golden_file(name).read_text())[kind]
    torch.save({nest: {key: torch.zeros(shape) for key, shape in shapes.items()}}, tmp_path / "released.pth")
    assert type(load_encoder(tmp_path / "released.pth")).__name__ == expected_class
