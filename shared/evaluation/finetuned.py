"""Fine-tuning from its data to its report: train, score the test predictions once, beside a control's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from shared.evaluation.contamination import check_contamination, settle_copies
from shared.evaluation.context import RANDOM, Context, Picture
from shared.evaluation.evaluate import open_context
from shared.evaluation.following import followed
from shared.evaluation.presets import FINETUNE
from shared.evaluation.report.results import write_results
from shared.evaluation.scoring import score_predictions
from shared.finetune.config import FinetuneConfig
from shared.finetune.train import Finetuned, Method, finetune


def run_finetuning(config: FinetuneConfig, method: Method) -> Path:
    """Train, test once and report; returns the run folder, scores and page are in its `evaluation/`."""
    # The statistics are the CPU's; the model is where the run says.
    context = open_context(config.as_evaluation(), config.run.out / "evaluation", torch.device("cpu"))
    context, copies = settle_copies(context)
    done = finetune(config, method, context)
    if done.is_main:
        report_finetuned(replace(context, split=done.split), done, config, copies)
    return config.run.out


def report_finetuned(context: Context, done: Finetuned, config: FinetuneConfig, copies: Sequence[str] = ()) -> Path:
    """Score and report; returns the path of the page.

    Args:
        context: where the model was trained and tested; its folder stands in the run folder.
        done: predictions of the model and its control.
        config: of the training.
        copies: what is known of copies between the splits.
    """
    rows, notes = {done.name: done.predictions}, list(done.notes)
    if done.control is not None:
        mode, rows[RANDOM] = done.control
        notes.append(f"{RANDOM}: {mode} from random weights, otherwise trained the same")
    else:
        notes.append(f"control=false: no {RANDOM} row; compare with a run of mode=scratch")
    notes += copies
    if config.mode != "scratch":
        test, near = context.indices[context.split.test], context.config.near_copies
        notes += check_contamination(done.trained_on, context.store, test, near)
    else:
        notes.append("nothing was pretrained: no overlap with the test split to look for")
    curves = context.out.parent / "figures" / "training.png"
    figures = [Picture(curves, "Fine-tuning: what was logged along the way.")]
    scores = score_predictions(context, rows, chosen="the epoch" if config.keep == "best" else None)
    return write_results(context, {FINETUNE: scores}, notes, done.name, figures, followed(config, config.mode))
