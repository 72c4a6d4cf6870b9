"""The report of a fine-tuned model: its test predictions scored once, beside the control's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shared.evaluation.contamination import check_contamination
from shared.evaluation.context import RANDOM, Context, Picture
from shared.evaluation.report.results import write_results
from shared.evaluation.scoring import score_predictions


def report_finetuned(
    context: Context,
    name: str,
    predictions: tuple[np.ndarray, np.ndarray],
    control: tuple[str, tuple[np.ndarray, np.ndarray]] | None,
    *,
    pretrained: bool,
    trained_on: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Score and report; returns the path of the page.

    Args:
        context: where the model was trained and tested; its folder stands in the run folder.
        name: of the model, for tables and titles.
        predictions: of the tuned model, probabilities `[n_val, C]` and `[n_test, C]`.
        control: how the control was trained (a fine-tuning mode), and its predictions; None: there is none.
        pretrained: whether it started from weights that have seen data.
        trained_on: the `data` section of their config; None where it is not known.
        notes: what a reader must know.
    """
    rows, found = {name: predictions}, list(notes)
    if control is not None:
        mode, rows[RANDOM] = control
        found.append(f"{RANDOM}: {mode} from random weights, otherwise trained the same")
    else:
        found.append(f"control=false: no {RANDOM} row; compare with a run of mode=scratch")
    if pretrained:
        found += check_contamination(trained_on, context.store, context.indices[context.split.test])
    else:
        found.append("nothing was pretrained: no overlap with the test split to look for")
    curves = context.out.parent / "figures" / "training.png"
    figures = [Picture(curves, "Fine-tuning: what was logged along the way.")]
    return write_results(context, {"finetune": score_predictions(context, rows)}, found, name, figures)
