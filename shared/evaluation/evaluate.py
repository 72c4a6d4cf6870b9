"""From a method's rows to a report folder: embed once, run the protocols, write what they found."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from shared.errors import UserError, did_you_mean
from shared.evaluation.config import EvaluateConfig
from shared.evaluation.contamination import check_contamination, settle_copies
from shared.evaluation.context import RANDOM, Context, Picture, Result, open_records
from shared.evaluation.following import followed
from shared.evaluation.outside import at_its_rate, outside_rows
from shared.evaluation.presets import EVALUATION
from shared.evaluation.protocols import PROTOCOLS
from shared.evaluation.report.results import write_results
from shared.evaluation.rows import Rows
from shared.evaluation.together import follow
from shared.evaluation.validation import mark_optimistic
from shared.files import hold
from shared.ranks import local_rank, pick_device, place
from shared.run_folder import BEST
from shared.run_record import num_parameters, surroundings, write_record
from shared.statistics.bootstrap import Resamples


def evaluate_weights(config: EvaluateConfig, rows_of: Callable[[Path, EvaluateConfig, Path], Rows]) -> Path:
    """Evaluate what the config names; returns the path of the report page.

    Args:
        config: names weights of the method, or an outside encoder.
        rows_of: the method's: weights, config and report folder to its rows.

    Raises:
        UserError: no weights were named, or what `evaluate` refuses.
    """
    if config.encoder.module is not None:
        rows, out = outside_rows(config)
        return evaluate(rows, config, out)
    if config.encoder.weights is None:
        raise UserError("encoder.weights is not set: give a run folder, a model.safetensors or a released .pth.")
    out = config.out or evaluation_folder(config.encoder.weights)
    if place()[0] > 0:
        with TemporaryDirectory() as aside:  # its pictures are the main rank's
            return evaluate(rows_of(config.encoder.weights, config, Path(aside)), config, out)
    return evaluate(rows_of(config.encoder.weights, config, out), config, out)


def evaluate(rows: Rows, config: EvaluateConfig, out: Path) -> Path:
    """Evaluate rows beside a randomly initialised encoder of the same architecture; of several ranks the main one writes.

    Args:
        rows: encoders and what is known of them.
        config: store, task, protocols, splits.
        out: report folder.

    Returns:
        The path of `report.html`.

    Raises:
        UserError: unknown protocol, overlapping splits, no labels, or no protocol that could run.
    """
    unknown = [p for p in config.protocols if p not in PROTOCOLS]
    if unknown:
        hint = did_you_mean(unknown[0], PROTOCOLS)
        raise UserError(f"unknown protocol {', '.join(unknown)}{hint} The protocols are {', '.join(PROTOCOLS)}.")
    device, began = pick_device(config.device, local_rank()), time.monotonic()
    context = open_context(config, out, device, rows.encoders, (RANDOM, *rows.baselines))
    if place()[0] > 0:
        follow(at_its_rate(context, rows.encoder)[0])
        return out / "report.html"
    with hold(out):
        context, copies = settle_copies(context)
        context, resampled = at_its_rate(context, rows.encoder)
        record = {**surroundings(device), "seed": config.seed, "store": context.store.fingerprint}
        context.rows.update({row: context.embed(row) for row in context.encoders})
        embedded = time.monotonic() - began  # of rows whose embeddings were cached, the reading
        results, problems = run_protocols(context)
        if rows.chosen is not None:
            for result in results.values():
                mark_optimistic(result.validation.get(rows.name, {}), rows.chosen)
        test = context.indices[context.split.test]
        overlap = check_contamination(rows.trained_on, context.store, test, config.near_copies)
        notes = [*rows.notes, *resampled, *copies, *overlap, *problems]
        page = write_results(context, results, notes, rows.name, rows.figures, followed(config, EVALUATION))
        record |= {
            "weights": None if config.encoder.weights is None else str(config.encoder.weights),
            "parameters": {row: num_parameters(encoder) for row, encoder in context.encoders.items()},
            "records": len(context.indices),
            "embedding_seconds": round(embedded, 2),
            "ecg_per_second": round(len(context.indices) * len(context.encoders) / embedded, 2),
            "seconds": round(time.monotonic() - began, 2),
        }
        write_record(out, [record])
    return page


def open_context(
    config: EvaluateConfig,
    out: Path,
    device: torch.device,
    encoders: Mapping[str, nn.Module] | None = None,
    baselines: tuple[str, ...] = (RANDOM,),
) -> Context:
    """Store, task, splits and resamples as the config says; no rows yet, nothing is written.

    Raises:
        UserError: no store, no labels, or what `make_split` refuses.
    """
    data = open_records(config)
    return Context(
        data.store,
        data.task,
        data.indices,
        data.split,
        config=config,
        rows={},
        resamples=Resamples(data.patients[data.split.test], config.resamples, config.seed),
        out=out,
        device=device,
        encoders=dict(encoders or {}),
        baselines=baselines,
    )


def run_protocols(context: Context) -> tuple[dict[str, Result], list[str]]:
    """Every protocol that can run, and one sentence for each that refuses (by a UserError); other errors end the evaluation.

    Raises:
        UserError: none could.
    """
    results: dict[str, Result] = {}
    problems: list[str] = []
    for name in context.config.protocols:
        try:
            results[name] = PROTOCOLS[name].run(context)
        except UserError as error:
            problems.append(f"{name} could not run: {error}")
    if not results:
        raise UserError("no protocol could run:\n  " + "\n  ".join(problems))
    return results, problems


def evaluation_folder(weights: Path) -> Path:
    """Where results go when `out` is not set: `evaluation/` in the run folder, or beside a weights file.

    Raises:
        UserError: a checkpoint outside any run folder, whose place may not be ours to write to.
    """
    for folder in (weights, *weights.parents):
        if (folder / "checkpoints").is_dir() or (folder / f"{BEST}.json").is_file():
            return folder / "evaluation"
    raise UserError(f"{weights} is in no run folder: say where the results go, e.g. out=runs/evaluation.")


def training_figures(weights: Path) -> list[Picture]:
    """Curves of the run that the weights came from, where they were drawn."""
    for folder in (weights, *weights.parents):
        if (folder / "checkpoints").is_dir():
            path = folder / "figures" / "training.png"
            return [Picture(path, "Pretraining: what was logged along the way.")] if path.is_file() else []
    return []
