"""Leads are found by name, in one order; the identities hold or the residual says by how much they do not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from shared.errors import UserError
from shared.lead_rows import arrange_leads, limb_residual
from shared.leads import (
    GROUPS,
    INDEPENDENT_LEADS,
    LEADS,
    LIMB_LEADS,
    LeadError,
    canonical_lead,
    channel_name,
    lead_indices,
    parse_leads,
    subset_leads,
)


@pytest.fixture
def ecg() -> np.ndarray:
    """Twelve leads `[12, 50]` that obey the identities, written out here a second time."""
    rows = dict(zip(INDEPENDENT_LEADS, np.random.default_rng(0).normal(size=(8, 50)), strict=True))
    one, two = rows["I"], rows["II"]
    rows |= {"III": two - one, "aVR": -(one + two) / 2, "aVL": one - two / 2, "aVF": two - one / 2}
    return np.stack([rows[name] for name in LEADS])


def test_the_one_order() -> None:
    assert " ".join(LEADS) == "I II III aVR aVL aVF V1 V2 V3 V4 V5 V6"
    assert GROUPS["limb"] + GROUPS["precordial"] == GROUPS["all"] == LEADS


@pytest.mark.parametrize("spelling", [str.lower, str.upper, str.title, lambda name: f" {name} "])
def test_names_match_in_any_case(spelling: object) -> None:
    assert [canonical_lead(spelling(name)) for name in LEADS] == list(LEADS)  # type: ignore[operator]


@pytest.mark.parametrize(("name", "near"), [("aVX", "aV"), ("V11", "V1"), ("avff", "aVF")])
def test_unknown_name_proposes_a_near_one(name: str, near: str) -> None:
    with pytest.raises(LeadError, match=f"unknown lead '{name}'; did you mean '{near}"):
        canonical_lead(name)


@pytest.mark.parametrize("name", ["", "ABP", "13"])
def test_unknown_name_lists_the_twelve(name: str) -> None:
    with pytest.raises(LeadError, match=r"Expected one of I, II, .*V6"):
        canonical_lead(name)


def test_selection_by_name_and_group() -> None:
    assert parse_leads("limb,v2") == (*LIMB_LEADS, "V2")
    assert parse_leads(["AVR", " ii "]) == ("aVR", "II")
    assert parse_leads("Independent") == INDEPENDENT_LEADS


@pytest.mark.parametrize(
    ("leads", "said"),
    [([], "no lead was given"), ("", "unknown lead"), ("I,i", "named twice"), ("limb,I", "named twice"), ("V9", "V9")],
)
def test_bad_selection_is_refused(leads: object, said: str) -> None:
    with pytest.raises(LeadError, match=said):
        parse_leads(leads)  # type: ignore[arg-type]


def test_indices_follow_the_wanted_order() -> None:
    assert lead_indices(("V1", "I"), LEADS) == [6, 0]
    with pytest.raises(LeadError, match=r"V1, V2 are not among I, II"):
        lead_indices(("I", "V1", "V2"), ("I", "II"))


def test_arranging_undoes_any_order_and_case(ecg: np.ndarray) -> None:
    order = np.random.default_rng(1).permutation(12)
    got, derived = arrange_leads(ecg[order], [LEADS[i].upper() for i in order])
    np.testing.assert_array_equal(got, ecg)
    assert derived == ()


def test_missing_limb_leads_are_derived(ecg: np.ndarray) -> None:
    got, derived = arrange_leads(ecg[[0, 1, *range(6, 12)]], INDEPENDENT_LEADS)
    np.testing.assert_allclose(got, ecg, atol=1e-12)
    assert derived == ("III", "aVR", "aVL", "aVF")


def test_a_present_lead_is_never_replaced(ecg: np.ndarray) -> None:
    ecg[2] += 1.0
    got, derived = arrange_leads(ecg, LEADS)
    np.testing.assert_array_equal(got[2], ecg[2])
    assert derived == ()


def test_strange_signals_are_passed_over(ecg: np.ndarray) -> None:
    got, _ = arrange_leads(np.vstack([np.full(50, 9.0), ecg, np.full(50, 8.0)]), ["ABP", *LEADS, "V3R"])
    np.testing.assert_array_equal(got, ecg)


@pytest.mark.parametrize(
    ("names", "wanted", "said"),
    [
        (("II",), LEADS, "lead I is missing: the header has II"),
        (("I", "III"), ("aVF",), "lead aVF is missing"),
        (("I", "II"), ("V1",), "lead V1 is missing"),
        (("I", "I"), ("I",), "lead I stands twice"),
        (("x", "y"), LEADS, "lead I is missing: the header has x, y"),
        ((), LEADS, "no signals"),
    ],
)
def test_leads_that_cannot_be_had(names: tuple[str, ...], wanted: tuple[str, ...], said: str) -> None:
    with pytest.raises(LeadError, match=said):
        arrange_leads(np.zeros((len(names), 5)), names, wanted)


def test_header_and_file_must_agree_in_number() -> None:
    with pytest.raises(LeadError, match="names 2 signals but the file holds 3"):
        arrange_leads(np.zeros((3, 5)), ("I", "II"))


def test_one_lead_is_enough_where_one_is_wanted() -> None:
    got, _ = arrange_leads(np.arange(5.0)[None], ["ii"], ("II",))
    np.testing.assert_array_equal(got, np.arange(5.0)[None])


def test_residual_is_zero_for_true_leads_and_the_error_otherwise(ecg: np.ndarray) -> None:
    assert limb_residual(ecg, LEADS) < 1e-12
    for row in range(2, 6):
        wrong = ecg.copy()
        wrong[row, 17] -= 0.25
        assert limb_residual(wrong, LEADS) == pytest.approx(0.25)


def test_swapped_electrodes_show(ecg: np.ndarray) -> None:
    ecg[[0, 1]] = ecg[[1, 0]]
    assert limb_residual(ecg, LEADS) > 0.5


def test_residual_needs_something_to_check(ecg: np.ndarray) -> None:
    assert math.isnan(limb_residual(ecg[6:], LEADS[6:]))
    assert math.isnan(limb_residual(ecg[:2], LEADS[:2]))
    assert math.isnan(limb_residual(ecg[1:], LEADS[1:]))


def test_one_nan_does_not_hide_a_violation(ecg: np.ndarray) -> None:
    ecg[2, 3] = np.nan
    ecg[2, 17] += 0.25
    assert limb_residual(ecg, LEADS) == pytest.approx(0.25)
    assert math.isnan(limb_residual(np.full_like(ecg, np.nan), LEADS))
    assert math.isnan(limb_residual(ecg[:, :0], LEADS))


def test_lead_error_speaks_to_the_user() -> None:
    assert issubclass(LeadError, UserError)


# ---------------------------------------------------------------- channels that are none of the twelve


@pytest.mark.parametrize("name", ["PPG", "MLII", "ECG", "channel 1", "Pleth left", "x2"])
def test_other_channels_keep_their_name(name: str) -> None:
    assert parse_leads([name, "v1"], others=True) == (name, "V1")
    assert subset_leads([name], [name, "V1"]) == (name,)
    assert subset_leads(None, [name]) == (name,)


@pytest.mark.parametrize("name", ["aVX", "V7", "v10", "IIa", "IV", "ll", "", "vf"])
def test_what_looks_like_a_slip_of_a_lead_is_none(name: str) -> None:
    with pytest.raises(LeadError, match=f"unknown lead '{name}'"):
        channel_name(name)


def test_other_channels_are_picked_by_name_and_only_where_wanted() -> None:
    signal = np.arange(6.0).reshape(3, 2)
    rows, derived = arrange_leads(signal, ["v1", "mlii", "Resp"], ("MLII", "V1"))
    np.testing.assert_array_equal(rows, signal[[1, 0]])
    assert derived == ()
    with pytest.raises(LeadError, match="lead PPG is missing: the header has v1, mlii, Resp"):
        arrange_leads(signal, ["v1", "mlii", "Resp"], ("PPG",))
