"""Lead subsets: what the encoder can see of each, and that a lead that carries a class is needed for it."""

from __future__ import annotations

import pytest

from shared.errors import UserError
from shared.evaluation.context import RANDOM
from shared.evaluation.protocols.reduced_leads import find_subsets, reduced_leads
from shared.leads import INDEPENDENT_LEADS, LEADS, LeadError
from tests.shared.evaluation.contexts import NAME, Powers, make_context, make_store, truth_and_noise


def test_subsets_of_twelve_and_of_eight_leads():
    names = ("all", "limb", "I+II+V2", "III", "precordial")
    twelve, notes = find_subsets(names, LEADS)
    assert twelve["all"] == LEADS and twelve["I+II+V2"] == ("I", "II", "V2") and not notes
    eight, notes = find_subsets(names, INDEPENDENT_LEADS)
    assert eight["limb"] == ("I", "II") and eight["all"] == INDEPENDENT_LEADS and "III" not in eight
    assert any("III left out: the encoder has no III" in note for note in notes)
    assert any("limb: of these the encoder has I, II" in note for note in notes)
    with pytest.raises(LeadError, match="unknown lead 'V9'"):
        find_subsets(("V9",), LEADS)


def test_a_class_needs_its_lead(tmp_path):
    store, labels = make_store(tmp_path / "store", num=400)
    encoders = {NAME: Powers(), RANDOM: Powers()}
    context = make_context(tmp_path, store, labels, encoders=encoders, lead_subsets=("all", "II", "V6"))
    result = reduced_leads(context)
    scores = result.scores[NAME]
    assert scores["auroc_macro@all"]["value"] > 0.99
    assert 0.6 < scores["auroc_macro@II"]["value"] < 0.9
    assert scores["auroc_macro@V6"]["value"] == pytest.approx(0.5, abs=0.15)
    assert result.differences[RANDOM][NAME]["auroc_macro@all"]["value"] == 0
    assert result.figures[0].path.is_file()


def test_needs_encoders_and_a_subset(tmp_path):
    store, labels = make_store(tmp_path / "store")
    with pytest.raises(UserError, match="must embed anew"):
        reduced_leads(make_context(tmp_path, store, labels, truth_and_noise(labels)))
    few = {NAME: Powers(leads=("I", "II"))}
    with pytest.raises(UserError, match="none of lead_subsets V1 is within I, II"):
        reduced_leads(make_context(tmp_path, store, labels, encoders=few, lead_subsets=("V1",)))
