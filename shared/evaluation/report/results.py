"""The report folder of one evaluation: embeddings, predictions, metrics, figures, tables and the page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shared.config import to_yaml
from shared.evaluation.context import RANDOM, Context, Picture, Result
from shared.evaluation.protocols import PROTOCOLS
from shared.evaluation.report.page import difference_columns, format_interval, scores_table, write_report
from shared.evaluation.validation import VALIDATION_FILE, describe_validation
from shared.plots.embeddings import plot_embeddings
from shared.plots.scores import plot_scores
from shared.statistics.interval import Interval

HEADLINES = tuple(dict.fromkeys(metric for protocol in PROTOCOLS.values() for metric in protocol.headlines))
"""What is printed of results that have some of them, and stands in the caption of a gain."""


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
    notes = [*task.notes, *notes]
    for result in results.values():
        notes += [note for note in result.notes if note not in notes]
    (out / "figures").mkdir(parents=True, exist_ok=True)
    if context.rows:
        write_embeddings(context, name)
    write_predictions(context, results)
    write_summary(context, results, notes, name)
    write_metrics(out / "metrics.json", results, name)
    validated = {protocol: Result(result.validation) for protocol, result in results.items() if result.validation}
    write_metrics(out / VALIDATION_FILE, validated, name)
    write_gain(out / "gain.json", results)
    scores_table(results).to_csv(out / "metrics.csv", index=False)
    drawn = [*draw_figures(context, results, name), *(f for r in results.values() for f in r.figures)]
    for baseline in context.baselines:
        if baseline != RANDOM and baseline in context.rows:
            drawn.append(draw_gain(context, results, name, baseline))
    drawn += figures
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
        "validation": describe_validation(context),
        "notes": list(notes),
    }
    (context.out / "summary.json").write_text(json.dumps(summary, indent=1))


def write_metrics(path: Path, results: Mapping[str, Result], name: str) -> None:
    """`{protocol: {metric: {value, low, high, n}}}`; other rows as `row/protocol`, differences as `row/protocol minus baseline`."""
    content: dict[str, Any] = {}
    for protocol, result in results.items():
        for row, scores in result.scores.items():
            content[protocol if row == name else f"{row}/{protocol}"] = scores
        for baseline, rows in result.differences.items():
            for row, differences in rows.items():
                content[f"{protocol if row == name else f'{row}/{protocol}'} minus {baseline}"] = differences
    path.write_text(json.dumps(content, indent=1))


def write_gain(path: Path, results: Mapping[str, Result]) -> None:
    """What a training brought over where it started: `{"row/protocol minus baseline": {metric: interval}}`, if it has a start."""
    content = {
        f"{row}/{protocol} minus {baseline}": differences
        for protocol, result in results.items()
        for baseline, rows in result.differences.items()
        for row, differences in rows.items()
        if baseline != RANDOM
    }
    if content:
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


def draw_gain(context: Context, results: Mapping[str, Result], name: str, baseline: str) -> Picture:
    """Maps of the baseline's and the evaluated row's test embeddings, and the main differences as the caption."""
    path = context.out / "figures" / "before_after_pca.png"
    single = context.labels.sum(axis=1) == 1
    test = [i for i in context.split.test if single[i]]
    plot_embeddings(
        path,
        {f"before: {baseline}": context.rows[baseline][test], f"after: {name}": context.rows[name][test]},
        context.labels[test].argmax(axis=1),
        context.task.classes,
        "pca",
        seed=context.config.seed,
    )
    gains = []
    for protocol, result in results.items():
        found = result.differences.get(baseline, {}).get(name, {})
        gains += [f"{protocol} {m} {format_interval(found[m], '+')}" for m in HEADLINES if m in found]
    caption = f"Test records before and after, principal components. {name} − {baseline}: {'; '.join(gains)}."
    return Picture(path, caption)


def print_scores(results: Mapping[str, Result], notes: Sequence[str]) -> None:
    """The main scores in a few lines."""
    for protocol, result in results.items():
        some = next(iter(result.scores.values()))
        metrics = [m for m in HEADLINES if m in some] or [m for m in some if "_std@" not in m][:8]
        columns = [(f"{row:<16}", scores, "") for row, scores in result.scores.items()]
        columns += [(row, scores, "+") for row, scores in difference_columns(result).items()]
        for row, scores, sign in columns:
            shown = [f"{m} {_in_three_digits(scores[m], sign)}" for m in metrics if m in scores]
            print(f"{protocol:<15} {row} {'  '.join(shown)}")
    for note in notes:
        print(f"note: {note}")


def _in_three_digits(score: Interval, sign: str) -> str:
    value, low, high = (format(x, f"{sign}.3f") for x in (score["value"], score["low"], score["high"]))
    return f"{value} [{low}, {high}]"
