"""From encoders to a report folder: embed once, run the protocols, write metrics, figures, tables and the page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from shared.config import to_yaml
from shared.data.splits import make_split
from shared.data.store import ECGStore
from shared.data.tasks import make_task
from shared.devices import pick_device
from shared.errors import UserError
from shared.evaluation.config import EvaluateConfig
from shared.evaluation.contamination import check_contamination
from shared.evaluation.context import RANDOM, Context, Picture, Result
from shared.evaluation.protocols import PROTOCOLS
from shared.evaluation.report.page import scores_table, write_report
from shared.plots.embeddings import plot_embeddings
from shared.plots.scores import plot_scores
from shared.statistics.bootstrap import Resamples

HEADLINES = ("auroc_macro", "f1_weighted", "labels/silhouette", "labels/davies_bouldin", "kmeans/nmi")


def evaluate(
    encoder: nn.Module,
    random_encoder: nn.Module,
    config: EvaluateConfig,
    out: Path,
    *,
    name: str,
    others: Mapping[str, nn.Module] | None = None,
    trained_on: Mapping[str, Any] | None = None,
    figures: Sequence[Picture] = (),
    notes: Sequence[str] = (),
) -> Path:
    """Evaluate one encoder beside a randomly initialised one of the same architecture.

    Args:
        encoder: offers `embed`, `embed_dim`, `input_spec`.
        random_encoder: the same, with random weights.
        config: store, task, protocols, splits.
        out: report folder.
        name: of the encoder, for tables and titles.
        others: further rows between the two, name to encoder.
        trained_on: the `data` section of its pretraining config, to look for overlap with the test split.
        figures: further figures for the page, already written below `out`.
        notes: what a reader must know of the rows.

    Returns:
        The path of `report.html`.

    Raises:
        UserError: unknown protocol, overlapping splits, no labels, or no protocol that could run.
    """
    unknown = [p for p in config.protocols if p not in PROTOCOLS]
    if unknown:
        raise UserError(f"unknown protocol {', '.join(unknown)}; the protocols are {', '.join(PROTOCOLS)}.")
    encoders = {name: encoder, **(others or {}), RANDOM: random_encoder}
    context = open_context(config, out, pick_device(config.device), encoders)
    context.rows.update({row: context.embed(row) for row in encoders})
    results, problems = run_protocols(context)
    test = context.indices[context.split.test]
    notes = [*notes, *check_contamination(trained_on, context.store, test), *problems]
    return write_results(context, results, notes, name, figures)


def open_context(
    config: EvaluateConfig, out: Path, device: torch.device, encoders: Mapping[str, nn.Module] | None = None
) -> Context:
    """Store, task, splits and resamples as the config says; no rows yet, nothing is written.

    Raises:
        UserError: no store, no labels, or what `make_split` refuses.
    """
    store = ECGStore(config.store)
    task = make_task(store, config.task, config.single_label)
    folds = {"train": config.train_folds, "val": config.val_folds, "test": config.test_folds}
    indices, split = make_split(store, task, folds)
    resamples = Resamples(store.records.patient.to_numpy()[indices[split.test]], config.resamples, config.seed)
    return Context(config, store, task, indices, split, {}, resamples, out, device, dict(encoders or {}))


def write_results(
    context: Context, results: Mapping[str, Result], notes: Sequence[str], name: str, figures: Sequence[Picture] = ()
) -> Path:
    """Embeddings, predictions, summary, metrics, figures and the page of finished protocols, into the context's folder.

    Args:
        context: what was evaluated.
        results: protocol to its scores.
        notes: what a reader must know, before the protocols' own notes.
        name: the row that is evaluated.
        figures: further figures for the page, already written below the folder.

    Returns:
        The path of `report.html`.
    """
    config, store, task, split, out = context.config, context.store, context.task, context.split, context.out
    notes = list(notes)
    for result in results.values():
        notes += [note for note in result.notes if note not in notes]
    (out / "figures").mkdir(parents=True, exist_ok=True)
    if context.rows:
        write_embeddings(context, name)
    write_predictions(context, results)
    write_summary(context, results, notes, name)
    write_metrics(out / "metrics.json", results, name)
    scores_table(results).to_csv(out / "metrics.csv", index=False)
    drawn = [*draw_figures(context, results, name), *(f for r in results.values() for f in r.figures), *figures]
    (out / "config.yaml").write_text(to_yaml(config))
    page = write_report(
        out / "report.html",
        title=f"{name}: {task.name}",
        facts={
            "store": f"{store.path.name}: {len(store)} records at {store.fs:g} Hz, fingerprint {store.fingerprint[:12]}",
            "task": f"{task.name}: {', '.join(task.classes[:12])}{' …' if len(task.classes) > 12 else ''}",
            "records": f"{len(split.train)} train, {len(split.val)} validation, {len(split.test)} test; splits by patient",
            "intervals": f"95 %, {config.resamples} bootstrap draws of {context.resamples.num_patients} test patients",
        },
        notes=notes,
        results=results,
        figures=drawn,
        config=to_yaml(config),
    )
    print_scores(results, notes)
    print(f"report: {page}")
    return page


def run_protocols(context: Context) -> tuple[dict[str, Result], list[str]]:
    """Every protocol that can run, and one sentence for each that cannot.

    Raises:
        UserError: none could.
    """
    results: dict[str, Result] = {}
    problems: list[str] = []
    for name in context.config.protocols:
        try:
            results[name] = PROTOCOLS[name](context)
        except ValueError as error:
            problems.append(f"{name} could not run: {error}")
    if not results:
        raise UserError("no protocol could run:\n  " + "\n  ".join(problems))
    return results, problems


def write_embeddings(context: Context, name: str) -> None:
    """`embeddings.parquet`: who each record is, its split and labels, and its embedding."""
    split = np.empty(len(context.indices), dtype=object)
    for part in ("train", "val", "test"):
        split[getattr(context.split, part)] = part
    records = context.store.records.iloc[context.indices]
    table = records[["source", "record", "segment", "patient", "fold"]].reset_index(drop=True)
    table["split"] = split
    for c, label in enumerate(context.task.classes):
        table[f"label_{label}"] = context.labels[:, c]
    embeddings = context.rows[name]
    columns = pd.DataFrame(embeddings, columns=[f"e{i:04d}" for i in range(embeddings.shape[1])])
    pd.concat([table, columns], axis=1).to_parquet(context.out / "embeddings.parquet", index=False)


def write_predictions(context: Context, results: Mapping[str, Result]) -> None:
    """`predictions.parquet`: the test records, their labels, and every row's scores as `protocol|row|class`."""
    test = context.split.test
    table = context.store.records.iloc[context.indices[test]][["source", "record", "segment", "patient"]]
    columns: dict[str, np.ndarray] = {}
    for c, label in enumerate(context.task.classes):
        columns[f"label_{label}"] = context.labels[test, c]
        for protocol, result in results.items():
            columns |= {f"{protocol}|{row}|{label}": scores[:, c] for row, scores in result.predictions.items()}
    table = pd.concat([table.reset_index(drop=True), pd.DataFrame(columns)], axis=1)
    table.to_parquet(context.out / "predictions.parquet", index=False)


def write_summary(context: Context, results: Mapping[str, Result], notes: Sequence[str], name: str) -> None:
    """`summary.json`: what a comparison of runs needs to know."""
    config = context.config
    summary = {
        "name": name,
        "task": context.task.name,
        "classes": list(context.task.classes),
        "protocols": list(results),
        "resamples": config.resamples,
        "seed": config.seed,
        "min_positives": config.min_positives,
        "store": context.store.fingerprint,
        "notes": list(notes),
    }
    (context.out / "summary.json").write_text(json.dumps(summary, indent=1))


def write_metrics(path: Path, results: Mapping[str, Result], name: str) -> None:
    """`{protocol: {metric: {value, low, high, n}}}`; other rows as `row/protocol`, differences as `row − random/protocol`."""
    content: dict[str, Any] = {}
    for protocol, result in results.items():
        for row, scores in result.scores.items():
            content[protocol if row == name else f"{row}/{protocol}"] = scores
        for row, differences in result.differences.items():
            content[f"{protocol if row == name else f'{row}/{protocol}'} minus {RANDOM}"] = differences
    path.write_text(json.dumps(content, indent=1))


def draw_figures(context: Context, results: Mapping[str, Result], name: str) -> list[Picture]:
    """Embedding maps and score bars, as PNG below `figures/`."""
    folder = context.out / "figures"
    labels = context.labels
    single = np.flatnonzero(labels.sum(axis=1) == 1)
    drawn: list[Picture] = []
    for method in ("pca", "tsne") if context.rows else ():
        path = folder / f"embeddings_{method}.png"
        plot_embeddings(
            path,
            {row: e[single] for row, e in context.rows.items()},
            labels[single].argmax(axis=1),
            context.task.classes,
            method,
            seed=context.config.seed,
        )
        title = {"pca": "principal components", "tsne": "t-SNE"}[method]
        drawn.append(Picture(path, f"Embeddings of the records with one label, {title}."))
    predicting = {protocol: result for protocol, result in results.items() if result.predictions}
    if predicting:
        path = folder / "auroc_per_class.png"
        plot_scores(path, {p: r.scores for p, r in predicting.items()}, context.task.classes)
        drawn.append(Picture(path, "AUROC per class with 95 % intervals; the dashed line is chance."))
    return drawn


def print_scores(results: Mapping[str, Result], notes: Sequence[str]) -> None:
    """The main scores in a few lines."""
    for protocol, result in results.items():
        some = next(iter(result.scores.values()))
        metrics = [m for m in HEADLINES if m in some] or [m for m in some if "_std@" not in m][:8]
        for row, scores in result.scores.items():
            shown = [
                f"{m} {scores[m]['value']:.3f} [{scores[m]['low']:.3f}, {scores[m]['high']:.3f}]"
                for m in metrics
                if m in scores
            ]
            print(f"{protocol:<15} {row:<16} {'  '.join(shown)}")
        for row, scores in result.differences.items():
            shown = [
                f"{m} {scores[m]['value']:+.3f} [{scores[m]['low']:+.3f}, {scores[m]['high']:+.3f}]"
                for m in metrics
                if m in scores
            ]
            print(f"{protocol:<15} {row} − random  {'  '.join(shown)}")
    for note in notes:
        print(f"note: {note}")


def evaluation_folder(weights: Path) -> Path:
    """Where results go when `out` is not set: `evaluation/` in the run folder, or beside a weights file.

    Raises:
        UserError: a checkpoint outside any run folder, whose place may not be ours to write to.
    """
    for folder in (weights, *weights.parents):
        if (folder / "checkpoints").is_dir():
            return folder / "evaluation"
    raise UserError(f"{weights} is in no run folder: say where the results go, e.g. out=runs/evaluation.")


def training_figures(weights: Path) -> list[Picture]:
    """Curves of the run that the weights came from, where they were drawn."""
    for folder in (weights, *weights.parents):
        if (folder / "checkpoints").is_dir():
            path = folder / "figures" / "training.png"
            return [Picture(path, "Pretraining: what was logged along the way.")] if path.is_file() else []
    return []
