"""How much is left with fewer leads: embeddings and linear probe of subsets, without any retraining of the encoder."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from shared.config import Section
from shared.errors import UserError
from shared.evaluation.conditions import CONDITION_TITLES, SPREADS, Draws, curve, score_conditions
from shared.evaluation.context import Context, Picture, Protocol, Result
from shared.evaluation.protocols.linear_probe import fit_row
from shared.leads import GROUPS, canonical_lead, parse_leads


class ReducedLeadsSettings(Section):
    """Lead subsets."""

    lead_subsets: tuple[str, ...] = Field(
        ("all", "limb", "I+II+V2", "II+V1", "II", "I"), min_length=1, description="leads joined by +, or groups"
    )


def reduced_leads(context: Context) -> Result:
    """A linear probe on embeddings from each lead subset; the encoder sees that subset in training and test alike.

    Raises:
        UserError: an unknown lead, no subset within the encoder's leads, or an encoder that cannot embed anew.
    """
    from shared.plots.scores import plot_curves

    if not context.encoders:
        raise UserError("reduced_leads must embed anew with fewer leads, but the encoders are not at hand.")
    own = next(iter(context.encoders.values())).input_spec.leads
    asked = context.config.settings(ReducedLeadsSettings).lead_subsets
    subsets, notes = find_subsets(asked, own)
    if next(iter(context.encoders.values())).input_spec.features:
        notes.append(
            "reduced_leads: the features stay as measured on the whole record, in lead II where it can be used"
        )
    if not subsets:
        there = ", ".join(own) or "an encoder without leads"
        raise UserError(f"none of lead_subsets {', '.join(asked)} is within {there}.")
    predictions: dict[str, dict[str, Draws]] = {}
    for row in context.rows:
        predictions[row] = {}
        for name, leads in subsets.items():
            embeddings = context.embed(row, leads)
            probe = fit_row(context, embeddings, context.split.train)
            predictions[row][name] = [probe.predict(embeddings[context.split.test])]
    result = score_conditions(context, predictions)
    result.notes += notes
    path = context.out / "figures" / "reduced_leads.png"
    rows = {row: curve(scores, "auroc_macro", list(subsets)) for row, scores in result.scores.items()}
    plot_curves(path, {"linear probe": rows}, {"linear probe": CURVE[1]})
    result.figures.append(Picture(path, "Macro AUROC of the linear probe with fewer leads, 95 % intervals."))
    return result


def find_subsets(names: Sequence[str], own: Sequence[str]) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Leads of each subset that the encoder can see.

    Args:
        names: leads and groups joined by `+`: `all`, `limb`, `I+II+V2`.
        own: the encoder's leads.

    Returns:
        Subset to leads in the encoder's order, and notes. A group keeps those of its leads that the encoder has (the six
        limb leads of an eight-lead encoder are I and II, which hold the same information); a subset that names a lead
        the encoder lacks is left out.

    Raises:
        LeadError: an unknown or repeated lead.
    """
    subsets: dict[str, tuple[str, ...]] = {}
    notes: list[str] = []
    for name in names:
        parts = [part.strip() for part in name.split("+")]
        named = [canonical_lead(part) for part in parts if part.lower() not in GROUPS]
        missing = [lead for lead in named if lead not in own]
        wanted = parse_leads(parts)
        leads = tuple(lead for lead in own if lead in wanted)
        if missing or not leads:
            notes.append(f"lead subset {name} left out: the encoder has no {', '.join(missing or wanted)}")
            continue
        subsets[name] = leads
        if len(leads) < len(wanted):
            notes.append(f"lead subset {name}: of these the encoder has {', '.join(leads)}")
    return subsets, notes


CURVE = ("Reduced leads", "leads the encoder sees")
REDUCED_LEADS = Protocol(reduced_leads, ReducedLeadsSettings, titles=CONDITION_TITLES, curve=CURVE, unranked=SPREADS)
