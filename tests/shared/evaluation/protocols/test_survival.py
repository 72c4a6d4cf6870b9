"""C-index against lifelines, risk from truth and from noise, and data that cannot be used."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from shared.errors import UserError
from shared.evaluation.context import RANDOM
from shared.evaluation.protocols.survival import concordance, survival
from tests.shared.evaluation.contexts import NAME, make_context, make_store, truth_and_noise

lifelines = pytest.importorskip("lifelines")


def make_case(tmp_path, num=400, per_patient=2, **columns):
    """Exponential times whose log hazard is the first embedding column of the encoder's row."""
    rng = np.random.default_rng(1)
    hazard = rng.normal(size=num // per_patient)
    time = rng.exponential(np.exp(-2 * hazard))
    censored = rng.uniform(0, 3, len(time))
    expand = np.arange(num) // per_patient
    given = {"time_to_event": np.minimum(time, censored)[expand], "event": (time <= censored).astype(int)[expand]}
    store, labels = make_store(tmp_path / "store", num=num, per_patient=per_patient, **{**given, **columns})
    rows = truth_and_noise(labels)
    rows[NAME] = rows[RANDOM].copy()
    rows[NAME][:, 0] = hazard[expand]
    return make_context(tmp_path, store, labels, rows)


def test_concordance_equals_lifelines_and_repeated_records():
    rng = np.random.default_rng(0)
    time, risk = rng.integers(1, 15, 60) / 2, rng.integers(0, 12, 60) / 3  # many ties in both
    event = rng.random(60) < 0.6
    weights = rng.integers(0, 4, (5, 60)).astype(np.uint8)
    weights[0] = 1
    found = concordance(time, event, risk, weights)
    for row, score in zip(weights, found, strict=True):
        copies = np.repeat(np.arange(60), row)
        theirs = lifelines.utils.concordance_index(time[copies], -risk[copies], event[copies])
        assert score == pytest.approx(theirs)
    distinct = rng.permutation(60)
    np.testing.assert_allclose(concordance(distinct, event, -distinct, weights), 1)
    assert np.isnan(concordance(time, np.zeros(60, bool), risk, weights)).all()


def test_truth_and_noise(tmp_path):
    result = survival(make_case(tmp_path))
    found, noise = (result.scores[row]["c_index"] for row in (NAME, RANDOM))
    assert found["value"] > 0.7 and found["low"] > 0.5 and found["n"] == 40  # 80 test records of 40 patients
    assert noise["value"] == pytest.approx(0.5, abs=0.15)
    assert result.differences[RANDOM][NAME]["c_index"]["low"] > 0
    assert any("encoder: penalizer" in note and "below 0.001" in note for note in result.notes)
    assert result.figures[0].path.stat().st_size > 1_500


def test_data_that_cannot_be_used(tmp_path):
    with pytest.raises(UserError, match="column event has 0 events among the 120 train patients"):
        survival(make_case(tmp_path / "a", event=0))
    with pytest.raises(UserError, match="negative times or events other than 0 and 1"):
        survival(make_case(tmp_path / "b", time_to_event=-1.0))
    store, labels = make_store(tmp_path / "c")
    with pytest.raises(UserError, match="no column time_to_event, event.*survival.time"):
        survival(make_context(tmp_path, store, labels, truth_and_noise(labels)))


def test_without_lifelines(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lifelines", None)
    with pytest.raises(UserError, match=r'pip install -e "\.\[survival\]"'):
        survival(make_case(tmp_path))
