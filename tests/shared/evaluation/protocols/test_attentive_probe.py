"""The attentive probe's protocol: both ways to read tokens, how many steps there are, and what it says of its choice."""

from __future__ import annotations

import numpy as np
import pytest

from shared.errors import UserError
from shared.evaluation.context import RANDOM
from shared.evaluation.protocols import attentive_probe as module
from shared.evaluation.protocols.attentive_probe import attentive_probe
from tests.shared.evaluation.contexts import NAME, Powers, make_context, make_store, truth_and_noise


def test_protocol_reads_tokens_either_way(tmp_path, monkeypatch):
    store, labels = make_store(tmp_path / "store", num=200)
    encoders = {NAME: Powers(), RANDOM: Powers()}
    context = make_context(
        tmp_path, store, labels, encoders=encoders, probe={"attentive_epochs": 1, "attentive_steps": 9}
    )
    held = attentive_probe(context)
    monkeypatch.setattr(module, "HELD_BYTES", 0)
    anew = attentive_probe(context)
    np.testing.assert_allclose(held.predictions[NAME], anew.predictions[NAME], atol=5e-3)
    assert held.scores[NAME]["auroc_macro"]["n"] == 40
    assert any(
        "attentive probe of encoder: lr = " in note and "of 9, chosen on validation" in note for note in held.notes
    )


def test_steps_follow_from_epochs_but_are_not_too_few(tmp_path, monkeypatch):
    store, labels = make_store(tmp_path / "store", num=200)  # 120 of them train: two batches
    asked = []

    def fit(*args, steps, **options):
        asked.append(steps)
        raise UserError("enough")

    monkeypatch.setattr(module, "fit_attentive_probe", fit)
    for probe in ({}, {"attentive_steps": 7, "attentive_epochs": 5}):
        with pytest.raises(UserError, match="enough"):
            attentive_probe(make_context(tmp_path, store, labels, encoders={NAME: Powers()}, probe=probe))
    assert asked == [1000, 10]


def test_needs_tokens(tmp_path):
    store, labels = make_store(tmp_path / "store")
    with pytest.raises(UserError, match=r"needs an encoder with tokens\(ecg, leads\)"):
        attentive_probe(make_context(tmp_path, store, labels, truth_and_noise(labels)))
