"""Synthetic patients at three rates, and what is measured in them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from shared.data.synthetic import SyntheticBatch, draw_patients, render
from shared.leads import LEADS
from shared.measurements.features import FeatureSet, extract_features

FS = 250.0


@pytest.fixture(scope="package")
def patients() -> pd.DataFrame:
    return draw_patients(60, seed=11)


@pytest.fixture(scope="package")
def batches(patients: pd.DataFrame) -> dict[float, SyntheticBatch]:
    return {fs: render(patients, fs) for fs in (500.0, 250.0, 100.0)}


@pytest.fixture(scope="package")
def measured(batches: dict[float, SyntheticBatch]) -> dict[float, list[FeatureSet]]:
    return {fs: [extract_features(ecg, fs, LEADS) for ecg in batch.ecg] for fs, batch in batches.items()}


@pytest.fixture
def ecg(batches: dict[float, SyntheticBatch]) -> np.ndarray:
    return batches[FS].ecg[0].copy()
