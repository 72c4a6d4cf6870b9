"""Normalisation of feature rows: by kind, fitted on what it is given only."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from shared.errors import UserError
from shared.measurements.catalog import FEATURES
from shared.measurements.scaler import FeatureScaler
from tests.shared.measurements.conftest import FS

# ---------------------------------------------------------------- scaler


@pytest.fixture(scope="module")
def stacked(measured) -> np.ndarray:
    """`[n, F, T]`, NaN where missing."""
    found = measured[FS]
    return np.stack([np.where(f.valid, f.channels, np.nan) for f in found])


def scale(scaler: FeatureScaler, features: np.ndarray) -> np.ndarray:
    return scaler(torch.from_numpy(features))[0].numpy()


def test_scaler_normalises_each_kind(stacked) -> None:
    scaled = scale(FeatureScaler().fit(stacked), stacked)
    valid = ~np.isnan(stacked)
    assert scaled.dtype == np.float32 and scaled.shape == stacked.shape
    for f, (name, feature) in enumerate(FEATURES.items()):
        used = scaled[:, f][valid[:, f]].astype(float)
        if feature.normalise == "none":
            np.testing.assert_array_equal(scaled[:, f][valid[:, f]], stacked[:, f][valid[:, f]])
        elif feature.normalise in ("standard", "log"):
            assert abs(used.mean()) < 1e-3 and abs(used.std() - 1) < 1e-3, name
        elif feature.normalise == "robust":
            low, middle, high = np.percentile(used, (25, 50, 75))
            assert abs(middle) < 0.1 and abs(high - low - 1) < 0.1, name
        else:
            assert used.min() == -1 and used.max() == 1, name
    plain = np.log1p(stacked[:, 5][valid[:, 5]].astype(float))
    np.testing.assert_allclose(scaled[:, 5][valid[:, 5]], (plain - plain.mean()) / plain.std(), atol=1e-4)


def test_scaler_is_fitted_on_what_it_is_given_only(stacked) -> None:
    first = FeatureScaler().fit([stacked[:40]])
    state = {name: value.clone() for name, value in first.state_dict().items()}
    scale(first, 1000 * stacked[40:])
    assert all(torch.equal(value, state[name]) for name, value in first.state_dict().items())
    other = FeatureScaler().fit([stacked[20:]])
    assert not torch.equal(other.center, first.center) and not torch.equal(other.scale, first.scale)
    one_by_one = FeatureScaler().fit(stacked[:40])
    torch.testing.assert_close(one_by_one.center, first.center)
    torch.testing.assert_close(one_by_one.scale, first.scale)


def test_scaler_ignores_what_is_missing(stacked) -> None:
    spoiled = stacked.copy()
    spoiled[::3] = np.nan
    got, want = FeatureScaler().fit([spoiled]), FeatureScaler().fit([np.delete(stacked, slice(None, None, 3), 0)])
    torch.testing.assert_close(got.center, want.center)
    torch.testing.assert_close(got.scale, want.scale)
    scaled, known = got(torch.from_numpy(spoiled))
    assert not known[::3].any() and not scaled[::3].any() and bool(scaled.isfinite().all())
    np.testing.assert_array_equal(known.numpy(), ~np.isnan(spoiled))


def test_scaler_state_travels(stacked) -> None:
    names = ["sdnn", "st_deviation"]
    rows = stacked[:, [list(FEATURES).index(name) for name in names]]
    scaler, again = FeatureScaler(names).fit(rows), FeatureScaler(names)
    assert set(scaler.state_dict()) == {"center", "scale"}
    again.load_state_dict(scaler.state_dict())
    np.testing.assert_array_equal(scale(again, rows), scale(scaler, rows))


def test_scaler_says_what_is_wrong(stacked) -> None:
    with pytest.raises(UserError, match="not fitted"):
        scale(FeatureScaler(), stacked)
    with pytest.raises(UserError, match=r"expected \[n, 11, T\]"):
        FeatureScaler().fit([stacked[:, :8]])
    with pytest.raises(UserError, match="no valid sample of heart_rate"):
        FeatureScaler(["heart_rate"]).fit([np.nan * stacked[:, [1]]])
    with pytest.raises(UserError, match="no valid sample"):
        FeatureScaler().fit([])
    with pytest.raises(UserError, match="did you mean 'sdnn'"):
        FeatureScaler(["sdn"])


def test_a_constant_row_becomes_zero() -> None:
    rows = np.full((4, 1, 10), 72.0, np.float32)
    np.testing.assert_array_equal(scale(FeatureScaler(["heart_rate"]).fit(rows), rows), 0.0)
