"""Effective rank and the decay of spectra that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from shared.statistics import spectrum as module
from shared.statistics.spectrum import alpha_req, effective_rank


def test_effective_rank_of_known_spectra(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 7)
    rng = np.random.default_rng(0)
    u, v = np.linalg.qr(rng.normal(size=(200, 10)))[0], np.linalg.qr(rng.normal(size=(10, 10)))[0]
    assert effective_rank(u @ v.T) == pytest.approx(10, rel=1e-4)
    assert effective_rank(np.outer(u[:, 0], v[0])) == pytest.approx(1, abs=1e-3)
    sizes = np.geomspace(1, 0.01, 10)
    p = sizes / sizes.sum()
    assert effective_rank(u * sizes @ v.T) == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-4)
    weights = rng.integers(0, 3, 200)
    x = rng.normal(size=(200, 10)) + 1
    assert effective_rank(x, weights) == pytest.approx(effective_rank(np.repeat(x, weights, axis=0)))
    assert effective_rank(np.zeros((5, 3))) == 0


def test_alpha_req_of_a_power_law():
    rng = np.random.default_rng(0)
    u = np.linalg.qr(rng.normal(size=(500, 64)) - 0.0)[0]
    u = np.linalg.qr(u - u.mean(0))[0]  # centred and orthogonal: the covariance has exactly this spectrum
    for alpha in (0.5, 1.0, 2.0):
        x = u * np.arange(1, 65) ** (-alpha / 2) + 3
        assert alpha_req(x) == pytest.approx(alpha, abs=0.02)
    assert np.isnan(alpha_req(u[:, :10]))


def test_centred_rank_counts_the_directions_in_which_records_differ():
    assert effective_rank(np.eye(20), centred=True) == pytest.approx(19, abs=0.2)
    line = np.random.default_rng(0).normal(size=(50, 1)) * np.ones((1, 10))
    assert effective_rank(line, centred=True) == pytest.approx(1, abs=1e-4)
    x = np.random.default_rng(1).normal(size=(40, 6))
    assert effective_rank(x + 100, centred=True) == pytest.approx(effective_rank(x, centred=True), rel=1e-9)
    assert effective_rank(x + 100) < 2  # not centred, what all records share is most of it
    assert math.isfinite(effective_rank(np.zeros((4, 3)), centred=True))
