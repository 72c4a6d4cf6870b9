"""One table of several evaluated runs: intervals, paired differences to the first, random encoders.

    python -m shared.evaluation.report.compare runs/a runs/b [out=runs/compare]

Runs are comparable when they were evaluated on the same task of the same test records; everything else may differ.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shared.config import asks_for_help, entry_point, repo_path
from shared.errors import UserError
from shared.evaluation.context import RANDOM, Picture, Result
from shared.evaluation.protocols import PROTOCOLS
from shared.evaluation.report.page import format_interval, metric_title, scores_table, write_report
from shared.plots.scores import plot_conditions, plot_confusion, plot_roc, plot_scores
from shared.statistics.bootstrap import Resamples, difference_all, score_all
from shared.statistics.interval import Scores

RESCORED = ("auroc_macro", "auroc_weighted", "auprc_macro", "sensitivity_at_95_macro", "ece_macro")
"""Scored anew from the stored predictions; metrics of decisions and of clusters are taken as they were scored."""
KEYS = ["source", "record", "segment", "patient"]


@dataclass(frozen=True)
class Evaluated:
    """What one evaluation folder holds."""

    folder: Path
    row: str
    summary: dict[str, Any]
    metrics: dict[str, Scores]
    predictions: pd.DataFrame

    def scores_of(self, protocol: str, row: str) -> np.ndarray:
        """Test predictions `[n, C]` of one row of one protocol."""
        return self.predictions[[f"{protocol}|{row}|{c}" for c in self.summary["classes"]]].to_numpy()


def compare(runs: Sequence[Path], out: Path) -> Path:
    """Write `comparison.{csv,md,tex}` and `report.html`; returns the path of the page.

    Raises:
        UserError: fewer than two runs, one that was not evaluated, or other test records, task or classes.
    """
    if len(runs) < 2:
        raise UserError(f"{len(runs)} run given; name at least two evaluated run folders.")
    evaluated = [read_evaluation(run) for run in runs]
    names = [e.row for e in evaluated]
    evaluated = [
        e
        if names.count(e.row) == 1
        else Evaluated(e.folder, f"{e.row} ({run.name})", e.summary, e.metrics, e.predictions)
        for e, run in zip(evaluated, runs, strict=True)
    ]
    first = evaluated[0]
    for other in evaluated[1:]:
        require_same_records(first, other)
    shared_protocols = [p for p in first.summary["protocols"] if all(p in e.summary["protocols"] for e in evaluated)]
    if not shared_protocols:
        raise UserError("the runs share no protocol; evaluate them with the same `protocols`.")
    results = {protocol: compare_protocol(protocol, evaluated) for protocol in shared_protocols}
    out.mkdir(parents=True, exist_ok=True)
    write_tables(out, results)
    figures = draw_comparison(out / "figures", results, evaluated)
    return write_report(
        out / "report.html",
        title=f"{' and '.join(e.row for e in evaluated)}: {first.summary['task']}",
        facts={
            "runs": "; ".join(f"{e.row}: {e.folder.parent.name}/{e.folder.name}" for e in evaluated),
            "test": f"{len(first.predictions)} records of {first.predictions.patient.nunique()} patients, the same for all rows",
            "intervals": f"95 %, {first.summary['resamples']} patient-level bootstrap draws, the same for all rows",
        },
        notes=[f"{e.row}: {note}" for e in evaluated for note in e.summary["notes"]],
        results=results,
        figures=figures,
        config="\n".join(f"# {e.row}\n{(e.folder / 'config.yaml').read_text()}" for e in evaluated),
    )


def read_evaluation(run: Path) -> Evaluated:
    """An evaluated run folder, or its evaluation folder.

    Raises:
        UserError: there is no finished evaluation.
    """
    for folder in (run, run / "evaluation"):
        if (folder / "summary.json").is_file():
            summary = json.loads((folder / "summary.json").read_text())
            metrics = json.loads((folder / "metrics.json").read_text())
            predictions = pd.read_parquet(folder / "predictions.parquet")
            return Evaluated(folder, summary["name"], summary, metrics, predictions)
    raise UserError(f"{run} holds no evaluation (no summary.json). Run `python -m <method>.evaluate` on it first.")


def require_same_records(first: Evaluated, other: Evaluated) -> None:
    """Refuse a comparison of different tasks or test records."""
    for key in ("task", "classes"):
        if first.summary[key] != other.summary[key]:
            raise UserError(f"{other.folder} has {key} {other.summary[key]}, {first.folder} has {first.summary[key]}.")
    columns = [*KEYS, *(f"label_{c}" for c in first.summary["classes"])]
    if not first.predictions[columns].equals(other.predictions[columns]):
        raise UserError(
            f"{first.folder} and {other.folder} were tested on different records or labels "
            f"({len(first.predictions)} and {len(other.predictions)}); evaluate both on the same store and folds."
        )


def compare_protocol(protocol: str, evaluated: Sequence[Evaluated]) -> Result:
    """Scores of every run and its random encoder; differences of every further run to the first."""
    first = evaluated[0]
    rows = {e.row: (e, e.summary["name"]) for e in evaluated}
    randoms: list[Scores] = []
    for e in evaluated:
        # A run that tunes another run's encoder has the same random encoder: one row says it.
        own = e.metrics.get(f"{RANDOM}/{protocol}", {})
        if own not in randoms:
            randoms.append(own)
            rows[f"{RANDOM}, {e.row}"] = (e, RANDOM)
    scores: dict[str, Scores] = {}
    for row, (e, stored) in rows.items():
        key = protocol if stored != RANDOM else f"{RANDOM}/{protocol}"
        if key in e.metrics:
            scores[row] = e.metrics[key]
    differences: dict[str, Scores] = {}
    if any(column.startswith(f"{protocol}|") for column in first.predictions.columns):
        classes = first.summary["classes"]
        truth = first.predictions[[f"label_{c}" for c in classes]].to_numpy()
        resamples = Resamples(first.predictions.patient.to_numpy(), first.summary["resamples"], first.summary["seed"])
        options: dict[str, Any] = {"metrics": RESCORED, "min_positives": first.summary["min_positives"]}
        for row, (e, stored) in rows.items():
            if row in scores:
                scores[row] = scores[row] | score_all(
                    truth, e.scores_of(protocol, stored), resamples, classes, **options
                )
        base = first.scores_of(protocol, first.summary["name"])
        for e in evaluated[1:]:
            differences[e.row] = difference_all(
                truth, e.scores_of(protocol, e.summary["name"]), base, resamples, classes, **options
            )
    return Result(scores, {first.row: differences})


def draw_comparison(folder: Path, results: dict[str, Result], evaluated: Sequence[Evaluated]) -> list[Picture]:
    """Per-class scores, ROC curves, confusion matrices, curves over conditions, and pictures of the runs themselves."""
    first = evaluated[0]
    classes = first.summary["classes"]
    truth = first.predictions[[f"label_{c}" for c in classes]].to_numpy(bool)
    figures = []
    predicting = {p: r.scores for p, r in results.items() if any("auroc_macro" in s for s in r.scores.values())}
    if predicting:
        plot_scores(folder / "auroc_per_class.png", predicting, classes)
        figures.append(Picture(folder / "auroc_per_class.png", "AUROC per class with 95 % intervals."))
    for protocol in predicting:
        scores = {e.row: e.scores_of(protocol, e.summary["name"]) for e in evaluated}
        name = protocol.replace("_", " ")
        path = folder / f"roc_{protocol}.png"
        plot_roc(path, truth, scores, classes, f"ROC curves, {name}")
        figures.append(Picture(path, f"ROC curves of {name}, test records; numbers are areas."))
        path = folder / f"confusion_{protocol}.png"
        if plot_confusion(path, truth, scores, classes, f"Confusion, {name}"):
            caption = "records with one label, the highest score being the answer; rows sum to 100 %."
            figures.append(Picture(path, f"Confusion matrices of {name}: {caption}"))
    for protocol, result in results.items():
        known, path = PROTOCOLS.get(protocol), folder / f"{protocol}.png"
        if known is not None and known.curve is not None and plot_conditions(path, *known.curve, result.scores):
            figures.append(Picture(path, f"{known.curve[0]} of all runs, 95 % intervals."))
    for e in evaluated:
        for file, caption in (("reconstruction", "reconstruction"), ("embeddings_tsne", "embeddings, t-SNE")):
            if (e.folder / "figures" / f"{file}.png").is_file():
                figures.append(Picture(e.folder / "figures" / f"{file}.png", f"{e.row}: {caption}."))
    return figures


def is_summary(metric: str) -> bool:
    """Whether a metric speaks of all classes: `auroc/MI` and the like are left to the CSV and the figures."""
    group, slash, _ = metric.partition("/")
    return not slash or group not in {"auroc", "auprc", "f1", "sensitivity_at_95", "ece"}


def write_tables(out: Path, results: dict[str, Result]) -> None:
    """The same table for a spreadsheet, a readme and a paper."""
    long = scores_table(results)
    long.to_csv(out / "comparison.csv", index=False)
    chosen = long[long.metric.map(is_summary)].copy()
    chosen["cell"] = [
        format_interval(line, "+" if "−" in line["row"] else "")  # type: ignore[arg-type]
        for line in chosen.to_dict("records")
    ]
    chosen["metric"] = chosen.metric.map(metric_title)
    markdown, latex = [], []
    for protocol, lines in chosen.groupby("protocol", sort=False):
        wide = lines.pivot_table(index="metric", columns="row", values="cell", aggfunc="first", sort=False)
        wide = wide.fillna("–").rename_axis(index=None, columns=None)
        markdown += [
            f"## {protocol}",
            "",
            "| | " + " | ".join(map(str, wide.columns)) + " |",
            "|---" * (1 + wide.shape[1]) + "|",
        ]
        markdown += [f"| {metric} | " + " | ".join(map(str, cells)) + " |" for metric, *cells in wide.itertuples()]
        markdown.append("")
        latex += [f"% {protocol}", wide.to_latex(escape=True)]
    (out / "comparison.md").write_text("\n".join(markdown))
    (out / "comparison.tex").write_text("\n".join(latex))


def main(argv: Sequence[str]) -> None:
    """Entry point."""
    if asks_for_help(argv):
        print(__doc__)
        return
    # A sweep's folders have `=` in their names, so what is there is a run.
    settings = [arg for arg in argv if "=" in arg and not repo_path(arg).exists()]
    options = dict(arg.split("=", 1) for arg in settings)
    unknown = set(options) - {"out"}
    if unknown:
        raise UserError(f"unknown key {min(unknown)!r}; usage: RUN RUN … [out=FOLDER]")
    runs = [repo_path(arg) for arg in argv if arg not in settings]
    out = repo_path(options.get("out", "runs/compare"))
    page = compare(runs, out)
    print((out / "comparison.md").read_text())
    print(f"report: {page}")


if __name__ == "__main__":
    entry_point(main)
