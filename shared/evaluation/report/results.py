"""The report folder of one evaluation: embeddings, predictions, metrics, figures, tables and the page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shared.config import to_yaml
from shared.evaluation.context import RANDOM, Context, Picture, Result
from shared.evaluation.following import Followed
from shared.evaluation.report.figures import draw_overview, draw_per_class, draw_predictions
from shared.evaluation.report.mistakes import OPEN, draw_mistakes
from shared.evaluation.report.page import Part, write_report
from shared.evaluation.report.published import Entry, published_part, say_followed
from shared.evaluation.report.tables import (
    HEADLINES,
    Table,
    class_table,
    difference_columns,
    format_interval,
    heading,
    headline,
    is_random,
    main_table,
    scores_table,
    tables_of,
)
from shared.evaluation.report.verdict import Verdict, lead_first, merge_notes, single_verdict
from shared.evaluation.validation import VALIDATION_FILE, describe_validation
from shared.plots.embeddings import plot_embeddings
from shared.run_record import say_surroundings, surroundings


def write_results(
    context: Context,
    results: Mapping[str, Result],
    notes: Sequence[str],
    name: str,
    figures: Sequence[Picture] = (),
    protocol: Followed | None = None,
) -> Path:
    """Embeddings, predictions, summary, metrics, figures and the page of finished protocols, into the context's folder.

    Args:
        context: what was evaluated.
        results: protocol to its scores.
        notes: what a reader must know, before the protocols' own notes.
        name: the row that is evaluated.
        figures: further figures for the page, already written below the folder.
        protocol: the preset that was followed.

    Returns:
        The path of `report.html`.
    """
    config, store, task, split, out = context.config, context.store, context.task, context.split, context.out
    notes = [*(protocol.notes if protocol else ()), *task.notes, *notes]
    for result in results.values():
        result.headline = protocol.preset.headline if protocol else None
    for result in results.values():
        notes += [note for note in result.notes if note not in notes]
    (out / "figures").mkdir(parents=True, exist_ok=True)
    if context.rows:
        write_embeddings(context, name)
    write_predictions(context, results)
    write_summary(context, results, notes, name, protocol)
    write_metrics(out / "metrics.json", results, name)
    validated = {protocol: Result(result.validation) for protocol, result in results.items() if result.validation}
    write_metrics(out / VALIDATION_FILE, validated, name)
    write_gain(out / "gain.json", results)
    scores_table(results).to_csv(out / "metrics.csv", index=False)
    verdict = single_verdict(lead_first(results), name)
    parts = report_parts(context, results, name, figures)
    parts.insert(1, published_part([Entry.of(context, name, results, protocol)], task.name, config.single_label))
    (out / "config.yaml").write_text(to_yaml(config))
    page = write_report(
        out / "report.html",
        title=f"{name}: {task.name}",
        verdict=verdict,
        facts={
            "store": f"{store.path.name}: {len(store)} records at {store.fs:g} Hz, fingerprint {store.fingerprint[:12]}",
            "task": f"{task.name}: {', '.join(task.classes[:12])}{' …' if len(task.classes) > 12 else ''}",
            "protocol": say_followed(protocol),
            "records": f"{len(split.train)} train, {len(split.val)} validation, {len(split.test)} test; splits by patient",
            "intervals": f"95 %, {config.resamples} bootstrap draws of {context.resamples.num_patients} test patients",
            "made with": say_surroundings(surroundings(context.device)),
        },
        notes=merge_notes([(name, [name, *(row for r in results.values() for row in r.scores if row != name)], notes)]),
        parts=parts,
        config=to_yaml(config),
    )
    print_scores(results, notes, verdict)
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


def write_summary(
    context: Context, results: Mapping[str, Result], notes: Sequence[str], name: str, protocol: Followed | None
) -> None:
    """`summary.json`: what a comparison of runs needs to know."""
    config = context.config
    summary = {
        "name": name,
        "task": context.task.name,
        "classes": list(context.task.classes),
        "protocols": list(results),
        "protocol": None if protocol is None else asdict(protocol),
        "single_label": config.single_label,
        "weights": None if config.encoder.weights is None else config.encoder.weights.name,
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


def report_parts(context: Context, results: Mapping[str, Result], name: str, figures: Sequence[Picture]) -> list[Part]:
    """The page part by part: all at a glance, each protocol with its figures, mistakes, embeddings, and what a method adds.

    Args:
        context: what was evaluated.
        results: protocol to its scores.
        name: the row that is evaluated.
        figures: a method's own.
    """
    folder, ordered = context.out / "figures", lead_first(results)
    overview, table = draw_overview(folder, ordered), main_table(ordered)
    parts = [
        Part("At a glance", [table] if table else [], [overview] if overview else [], figures_first=True, compact=True)
    ]
    mistakes: list[Picture] = []
    leading = next((p for p, r in ordered.items() if name in r.predictions), None)
    for protocol, result in ordered.items():
        tables, drawn, by_class = tables_of(result), [], []
        if name in result.predictions:
            by_class = [table_of_classes(context, result, name)]
        if protocol == leading:
            truth = context.labels[context.split.test]
            drawn = draw_predictions(folder, protocol, truth, result.predictions, context.task.classes)
            mistakes = draw_mistakes(context, protocol, name, result.predictions[name])
            parts.append(Part(heading(protocol), [*tables, *by_class], [*drawn, *result.figures]))
        else:
            parts.append(Part(heading(protocol), tables, result.figures, more_tables=by_class))
    per_class = draw_per_class(folder, ordered, context.task.classes)
    text = "Test records with the most confidently wrong score, one of each patient, as stored. Wrong labels show here too."
    parts += [
        Part("Per class", figures=[per_class] if per_class else []),
        Part("Worst mistakes", figures=mistakes[:OPEN], text=text, more=mistakes[OPEN:]),
        Part("Embeddings", figures=draw_embeddings(context, results, name)),
        Part("The model", figures=figures),
    ]
    return parts


def table_of_classes(context: Context, result: Result, name: str) -> Table:
    """The evaluated row class by class, with its differences to the random encoder."""
    gains = next((rows.get(name, {}) for base, rows in result.differences.items() if is_random(base)), {})
    counts = context.labels[context.split.test].sum(axis=0)
    return class_table(result.scores[name], gains, context.task.classes, counts.tolist())


def draw_embeddings(context: Context, results: Mapping[str, Result], name: str) -> list[Picture]:
    """Maps of all rows, and before and after where the evaluated row was tuned."""
    if not context.rows:
        return []
    labels = context.labels
    single = np.flatnonzero(labels.sum(axis=1) == 1)
    drawn: list[Picture] = []
    for method, title in (("pca", "principal components"), ("tsne", "t-SNE")):
        path = context.out / "figures" / f"embeddings_{method}.png"
        plot_embeddings(
            path,
            {row: e[single] for row, e in context.rows.items()},
            labels[single].argmax(axis=1),
            context.task.classes,
            method,
            seed=context.config.seed,
        )
        drawn.append(Picture(path, f"Embeddings of the records with one label, {title}."))
    for baseline in context.baselines:
        if baseline != RANDOM and baseline in context.rows:
            drawn.append(draw_gain(context, results, name, baseline))
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


def print_scores(results: Mapping[str, Result], notes: Sequence[str], verdict: Verdict | None) -> None:
    """The main scores in a few lines, and what follows from them."""
    for protocol, result in results.items():
        some = next(iter(result.scores.values()))
        named = dict.fromkeys([headline(protocol, result), *HEADLINES])
        metrics = [m for m in named if m is not None and m in some] or [m for m in some if "_std@" not in m][:8]
        columns = [(f"{row:<16}", scores, "") for row, scores in result.scores.items()]
        columns += [(row, scores, "+") for row, scores in difference_columns(result).items()]
        for row, scores, sign in columns:
            shown = [f"{m} {format_interval(scores[m], sign)}" for m in metrics if m in scores]
            print(f"{protocol:<15} {row} {'  '.join(shown)}")
    for note in notes:
        print(f"note: {note}")
    if verdict is not None:
        print(verdict.sentence)
