"""Attentive probe: attention over all tokens of a frozen encoder; learning rate and step chosen on validation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from shared.config import Section
from shared.data.loader import eval_batches
from shared.data.transforms import Preprocess
from shared.errors import UserError
from shared.evaluation.context import Context, Protocol, Result
from shared.evaluation.scoring import CLASSIFICATION, CLASSIFICATION_HEADLINES, CLASSIFICATION_MAIN, score_predictions
from shared.leads import subset_leads
from shared.statistics.attentive import BATCH_SIZE, Tokens, fit_attentive_probe, predict_attentive
from shared.statistics.metrics import Array

HELD_BYTES = 2**31
"""Tokens are kept in float16 up to this size; beyond it they are computed anew for every batch."""


class AttentiveProbeSettings(Section):
    """The attentive probe."""

    attentive_epochs: int = Field(
        30, ge=1, description="passes over the training records; more where they make fewer than attentive_steps steps"
    )
    attentive_steps: int = Field(1000, ge=1, description="at least so many steps, of 64 records each")
    attentive_lr: tuple[PositiveFloat, ...] = Field(
        (1e-3, 3e-3, 1e-2, 3e-2),
        min_length=1,
        description="peak learning rates tried; validation chooses the rate and the step",
    )


def attentive_probe(context: Context) -> Result:
    """Attention over the tokens of each encoder, trained on train; validation chooses learning rate and step.

    Raises:
        UserError: an encoder that offers no `tokens(ecg, leads)`, or what `fit_attentive_probe` refuses.
    """
    split, settings = context.split, context.config.settings(AttentiveProbeSettings)
    steps = max(settings.attentive_steps, settings.attentive_epochs * -(-len(split.train) // BATCH_SIZE))
    predictions, notes = {}, []
    for row in context.rows:
        if not hasattr(context.encoders.get(row), "tokens"):
            raise UserError(
                f"attentive_probe needs an encoder with tokens(ecg, leads) -> [B, ..., D]; {row!r} has none. "
                "Use linear_probe, or add the method."
            )
        tokens = read_tokens(context, row)
        best = fit_attentive_probe(
            tokens,
            context.labels,
            split.train,
            split.val,
            steps=steps,
            lrs=settings.attentive_lr,
            seed=context.config.seed,
            device=context.device,
        )
        predictions[row] = (
            predict_attentive(best.probe, tokens, split.val),
            predict_attentive(best.probe, tokens, split.test),
        )
        notes.append(
            f"attentive probe of {row}: lr = {best.lr:g}, step {best.step} of {steps}, chosen on validation"
            if best.step
            else f"attentive probe of {row}: no step was better on validation than the frequency of each class"
        )
    result = score_predictions(context, predictions, chosen="the probe's learning rate and step")
    result.notes += notes
    return result


def read_tokens(context: Context, row: str) -> Tokens:
    """Tokens of the context's records from the centred window, held in float16 where they fit into `HELD_BYTES`."""
    encoder, config = context.encoders[row], context.config
    leads: Sequence[str] | None = None
    if config.encoder.leads is not None:
        leads = subset_leads(config.encoder.leads, encoder.input_spec.leads)
    spec = encoder.input_spec.with_leads(leads)
    preprocess = Preprocess(spec, context.store.scale).to(context.device)
    encoder.to(context.device).eval()

    def compute(positions: Array) -> Iterator[tuple[Array, Tensor]]:
        done = 0
        for crops in eval_batches(context.store, context.indices[positions], spec, config.batch_size):
            with torch.no_grad():
                found = encoder.tokens(preprocess(crops[:, 0].to(context.device)), leads).flatten(1, -2)  # [b, S, D]
            yield positions[done : done + len(found)], found.float()
            done += len(found)

    everyone = np.arange(len(context.indices))
    _, first = next(compute(everyone[:1]))
    if len(everyone) * first.numel() * 2 > HELD_BYTES:
        return compute
    held = torch.empty(len(everyone), *first.shape[1:], dtype=torch.float16, device=context.device)
    for positions, found in compute(everyone):
        held[positions] = found.half()

    def look_up(positions: Array) -> Iterator[tuple[Array, Tensor]]:
        for i in range(0, len(positions), config.batch_size):
            part = positions[i : i + config.batch_size]
            yield part, held[part].float()

    return look_up


ATTENTIVE_PROBE = Protocol(
    attentive_probe,
    AttentiveProbeSettings,
    "probe",
    CLASSIFICATION,
    CLASSIFICATION_MAIN,
    CLASSIFICATION_HEADLINES,
    validates=True,
)
