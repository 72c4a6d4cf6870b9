"""Batch transforms equal scipy, the published preprocessing, and a loop over records."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.signal import butter, resample, sosfiltfilt

from shared.data.spec import InputSpec
from shared.data.transforms import Preprocess, butterworth, even_starts, filter_matrix
from tests.golden import Golden


def ecg_like(num_leads: int, num_samples: int, seed: int = 0) -> np.ndarray:
    """Wandering, offset and noisy, `[B, L, T]` in mV."""
    rng = np.random.default_rng(seed)
    walk = rng.normal(scale=0.03, size=(3, num_leads, num_samples)).cumsum(-1)
    return walk + rng.normal(scale=0.2, size=walk.shape) + rng.normal(size=(3, num_leads, 1))


BANDS: list[dict[str, Any]] = [
    {"fs": 250, "num_samples": 2250, "highpass": 0.67, "lowpass": 40},
    {"fs": 250, "num_samples": 2500, "highpass": 0.5},
    {"fs": 500, "num_samples": 1000, "lowpass": 100},
    {"fs": 100, "num_samples": 200, "highpass": 0.05, "lowpass": 47},
]


@pytest.mark.parametrize("band", BANDS)
def test_filter_equals_scipy(band: dict[str, Any]) -> None:
    x = ecg_like(4, band["num_samples"])
    expected = x
    for kind in ("highpass", "lowpass"):
        if kind in band:
            expected = sosfiltfilt(butter(5, band[kind], kind, fs=band["fs"], output="sos"), expected, axis=-1)
    got = Preprocess(InputSpec(**band))(torch.from_numpy(x))
    assert got.dtype == torch.float32
    assert np.abs(got.numpy() - expected).max() < 1e-4
    np.testing.assert_allclose(butterworth(x, InputSpec(**band)), expected)


def test_no_filter_is_no_matrix() -> None:
    spec = InputSpec(num_samples=50)
    assert filter_matrix(spec) is None
    x = torch.randn(2, 12, 50)
    torch.testing.assert_close(Preprocess(spec)(x), x)


def test_published_preprocessing_is_reproduced() -> None:
    golden = Golden("st_mem_preprocess.npz")
    at_500, at_250 = golden.arrays["x_500hz"], golden.arrays["x_250hz"]
    np.testing.assert_allclose(resample(at_500, at_500.shape[-1] // 2, axis=-1), at_250, atol=1e-9)
    spec = InputSpec(fs=250, num_samples=2250, highpass=0.67, lowpass=40, standardize="record")
    crops = [at_250[:, start : start + 2250] for start in even_starts(at_250.shape[-1], 2250, 3)]
    got = Preprocess(spec)(torch.from_numpy(np.stack(crops)))
    assert (got - golden["eval_crops"]).abs().max().item() < 1e-3


@pytest.mark.parametrize(("how", "axes"), [("record", (1, 2)), ("lead", (2,))])
def test_standardising_equals_numpy(how: str, axes: tuple[int, ...]) -> None:
    x = ecg_like(12, 300)
    expected = (x - x.mean(axes, keepdims=True)) / x.std(axes, keepdims=True)
    got = Preprocess(InputSpec(num_samples=300, standardize=how))(torch.from_numpy(x))
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("how", ["record", "lead"])
@pytest.mark.parametrize("level", [0, 1200, -32768])
def test_constant_signal_becomes_zeros_not_nan(how: str, level: int) -> None:
    got = Preprocess(InputSpec(num_samples=300, standardize=how))(torch.full((1, 12, 300), level, dtype=torch.int16))
    assert torch.isfinite(got).all()
    assert got.abs().max().item() < 0.1


SPEC = InputSpec(num_samples=300, highpass=0.67, lowpass=40, standardize="record")


def test_stored_integers_are_microvolts() -> None:
    stored = torch.from_numpy((ecg_like(12, 300) * 1000).astype(np.int16))
    torch.testing.assert_close(Preprocess(SPEC)(stored), Preprocess(SPEC)(stored.double() / 1000), atol=1e-5, rtol=0)
    plain = Preprocess(InputSpec(num_samples=300))
    torch.testing.assert_close(plain(stored), stored.float() / 1000)


@pytest.mark.parametrize("how", ["none", "record", "lead"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_input_is_left_alone(how: str, dtype: torch.dtype) -> None:
    x = torch.from_numpy(ecg_like(12, 300)).to(dtype)
    before = x.clone()
    Preprocess(InputSpec(num_samples=300, standardize=how))(x)
    assert torch.equal(x, before)


def test_a_batch_is_its_records() -> None:
    x = torch.from_numpy(ecg_like(12, 300)).float()
    preprocess = Preprocess(SPEC)
    torch.testing.assert_close(preprocess(x), torch.cat([preprocess(one[None]) for one in x]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("how", ["none", "record", "lead"])
def test_the_scale_brings_the_signal_back(how: str) -> None:
    spec = InputSpec(num_samples=300, lowpass=40, standardize=how)
    preprocess = Preprocess(spec)
    x = torch.from_numpy(ecg_like(12, 300)).float()
    scaled, mean, std = preprocess.with_scale(x)
    torch.testing.assert_close(scaled, preprocess(x))
    np.testing.assert_allclose((scaled * std + mean).numpy(), butterworth(x.numpy(), spec), atol=1e-4)


def test_autocast_does_not_touch_the_signal() -> None:
    x = torch.from_numpy(ecg_like(12, 300)).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = Preprocess(SPEC)(x)
    assert torch.equal(inside, Preprocess(SPEC)(x))


def test_the_filter_travels_with_no_checkpoint() -> None:
    assert Preprocess(SPEC).state_dict() == {}


def test_crops_are_even() -> None:
    assert even_starts(2500, 2250, 3).tolist() == [0, 125, 250]
    assert even_starts(2500, 2250, 1).tolist() == [125]
    assert even_starts(100, 100, 4).tolist() == [0, 0, 0, 0]
    with pytest.raises(ValueError, match="2250 samples do not fit into 2000"):
        even_starts(2000, 2250, 1)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"lowpass": 125}, "lowpass 125 Hz is not below half the sampling rate"),
        ({"highpass": 40, "lowpass": 40}, "highpass 40 Hz is not below lowpass 40 Hz"),
        ({"fs": 0}, "greater than 0"),
        ({"fs": 1e9}, "less than or equal to 10000"),
        ({"leads": ["V7"]}, "unknown lead 'V7'"),
        ({"leads": ["I", "i"]}, "named twice"),
        ({"standardize": "both"}, "'none', 'record' or 'lead'"),
        ({"num_sample": 3}, "num_sample"),
    ],
)
def test_impossible_specs_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        InputSpec(**values)


def test_spec_reads_groups_and_any_case() -> None:
    assert InputSpec(leads="limb,v1").leads == ("I", "II", "III", "aVR", "aVL", "aVF", "V1")
    assert InputSpec.model_validate(InputSpec(leads=["AVR"]).model_dump(mode="json")) == InputSpec(leads=["aVR"])


# ---------------------------------------------------------------- the window


def test_another_rate_sees_the_same_stretch_of_ecg() -> None:
    assert InputSpec(fs=500, seconds=9).num_samples == 2 * InputSpec(fs=250, seconds=9).num_samples == 4500


def test_samples_are_understood_in_place_of_seconds() -> None:
    assert InputSpec(fs=100, num_samples=450) == InputSpec(fs=100, seconds=4.5)
    assert InputSpec(num_samples=1125).seconds == 4.5
    with pytest.raises(ValueError, match="seconds 9 and num_samples 450 at 250 Hz disagree; give seconds alone"):
        InputSpec(seconds=9, num_samples=450)
    for wrong in ("many", 0, 2.5):
        with pytest.raises(ValueError, match=f"num_samples {wrong!r}.*give seconds"):
            InputSpec(num_samples=wrong)
    with pytest.raises(ValueError, match="less than a sample"):
        InputSpec(seconds=1e-4)
