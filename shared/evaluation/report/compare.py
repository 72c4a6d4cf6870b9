"""One page of several evaluated runs: each beside its random encoder, and paired differences to the first.

    python -m shared.evaluation.report.compare runs/a runs/b [out=runs/compare]

Runs are comparable when they were evaluated on the same task of the same test records; everything else may differ.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shared.config import asks_for_help, entry_point, repo_path
from shared.errors import UserError
from shared.evaluation.context import RANDOM, Picture, Result
from shared.evaluation.following import Followed
from shared.evaluation.presets import PRESETS
from shared.evaluation.protocols import PROTOCOLS
from shared.evaluation.report.figures import draw_overview, draw_per_class, draw_predictions
from shared.evaluation.report.page import Part, write_report
from shared.evaluation.report.published import Entry, published_part, say_followed
from shared.evaluation.report.tables import (
    heading,
    main_table,
    scores_table,
    tables_of,
    to_latex,
    to_markdown,
)
from shared.evaluation.report.verdict import comparison_verdict, lead_first, merge_notes
from shared.files import hold
from shared.plots.scores import plot_conditions
from shared.statistics.bootstrap import Resamples, difference_all, score_all
from shared.statistics.interval import Interval, Scores

RESCORED = ("auroc_macro", "auroc_all_macro", "auroc_weighted", "auprc_macro", "sensitivity_at_95_macro", "ece_macro")
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

    def has_predictions(self, protocol: str) -> bool:
        """Whether the protocol predicted."""
        return any(column.startswith(f"{protocol}|") for column in self.predictions.columns)

    @property
    def followed(self) -> Followed | None:
        """The preset that it followed; None too where an older or newer version of this project had another one."""
        kept = self.summary.get("protocol")
        if kept is None or kept["part"] not in getattr(PRESETS.get(kept["name"]), "parts", ()):
            return None
        return Followed(kept["name"], kept["part"], tuple(kept["deviations"]))

    def entry(self) -> Entry:
        """Its own row, for the published figures."""
        scores = {protocol: self.metrics[protocol] for protocol in self.summary["protocols"]}
        sources = sorted(self.predictions.source.unique())
        return Entry(self.row, scores, self.followed, self.summary.get("weights"), sources, len(self.predictions))

    def rows(self) -> list[str]:
        """Names of the rows, the run's own first."""
        others = (key.partition(" minus ")[0].rpartition("/")[0] for key in self.metrics)
        return list(dict.fromkeys([self.summary["name"], *filter(None, others)]))


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
    rescorer = Rescorer(first)
    results = lead_first({protocol: compare_protocol(protocol, evaluated, rescorer) for protocol in shared_protocols})
    named = {e.followed.preset.headline if e.followed else None for e in evaluated}
    for result in results.values():
        result.headline = next(iter(named)) if len(named) == 1 else None
    out.mkdir(parents=True, exist_ok=True)
    scores_table(results).to_csv(out / "comparison.csv", index=False)
    (out / "comparison.md").write_text(to_markdown(results))
    (out / "comparison.tex").write_text(to_latex(results))
    by_row = {e.row: (e, e.summary["name"]) for e in evaluated}

    def between(protocol: str, metric: str, a: str, b: str) -> Interval | None:
        metrics = [metric] if metric in RESCORED else []
        return rescorer.difference(protocol, by_row[a], by_row[b], metrics).get(metric) if metrics else None

    called = " and ".join(e.row for e in evaluated) if len(evaluated) < 4 else f"{len(evaluated)} runs"
    return write_report(
        out / "report.html",
        title=f"{called}: {first.summary['task']}",
        verdict=comparison_verdict(results, between),
        facts={
            "runs": "; ".join(f"{e.row}: {e.folder.parent.name}/{e.folder.name}" for e in evaluated),
            "test": f"{len(first.predictions)} records of {first.predictions.patient.nunique()} patients, the same for all rows",
            "intervals": f"95 %, {first.summary['resamples']} patient-level bootstrap draws, the same for all rows",
            "protocol": "; ".join(f"{e.row}: {say_followed(e.followed)}" for e in evaluated if e.followed)
            or say_followed(None),
        },
        notes=merge_notes((e.row, e.rows(), e.summary["notes"]) for e in evaluated),
        parts=comparison_parts(out / "figures", results, evaluated, rescorer.truth),
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


def compare_protocol(protocol: str, evaluated: Sequence[Evaluated], rescorer: Rescorer) -> Result:
    """Scores of every run and its random encoder, run minus random encoder, and further runs minus the first.

    Runs stand together with the random encoder that is theirs: one that tunes another's encoder shares it.
    """
    groups: list[tuple[Scores, list[Evaluated]]] = []
    for e in evaluated:
        own = e.metrics.get(f"{RANDOM}/{protocol}", {})
        group = next((members for random, members in groups if random == own), None)
        if group is None:
            groups.append((own, [e]))
        else:
            group.append(e)
    scores: dict[str, Scores] = {}
    differences: dict[str, dict[str, Scores]] = {}
    for random, members in groups:
        scores |= {e.row: e.metrics[protocol] | rescorer.score(protocol, e, e.summary["name"]) for e in members}
        if random:
            baseline = f"{RANDOM}, {members[0].row}"
            scores[baseline] = random | rescorer.score(protocol, members[0], RANDOM)
            differences[baseline] = {
                e.row: e.metrics.get(f"{protocol} minus {RANDOM}", {})
                | rescorer.difference(protocol, (e, e.summary["name"]), (e, RANDOM))
                for e in members
            }
    first = evaluated[0]
    to_first = {
        e.row: rescorer.difference(protocol, (e, e.summary["name"]), (first, first.summary["name"]))
        for e in evaluated[1:]
    }
    return Result(scores, {first.row: to_first, **differences})


class Rescorer:
    """Scores stored predictions anew: of all runs on the same resamples, which are the first run's."""

    def __init__(self, first: Evaluated) -> None:
        self.classes: list[str] = first.summary["classes"]
        self.truth = first.predictions[[f"label_{c}" for c in self.classes]].to_numpy(bool)
        self.resamples = Resamples(
            first.predictions.patient.to_numpy(), first.summary["resamples"], first.summary["seed"]
        )
        self.min_positives: int = first.summary["min_positives"]

    def score(self, protocol: str, e: Evaluated, row: str) -> Scores:
        """Scores of a row; none where the protocol predicts nothing."""
        if not e.has_predictions(protocol):
            return {}
        found = e.scores_of(protocol, row)
        return score_all(self.truth, found, self.resamples, self.classes, RESCORED, min_positives=self.min_positives)

    def difference(
        self, protocol: str, a: tuple[Evaluated, str], b: tuple[Evaluated, str], metrics: Sequence[str] = RESCORED
    ) -> Scores:
        """Scores of a row of one run minus those of a row of another; none where the protocol predicts nothing."""
        if not (a[0].has_predictions(protocol) and b[0].has_predictions(protocol)):
            return {}
        left, right = (e.scores_of(protocol, row) for e, row in (a, b))
        least = self.min_positives
        return difference_all(self.truth, left, right, self.resamples, self.classes, metrics, min_positives=least)


def comparison_parts(
    folder: Path, results: Mapping[str, Result], evaluated: Sequence[Evaluated], truth: np.ndarray
) -> list[Part]:
    """The page part by part: all at a glance, each protocol with its figures, and pictures of the runs themselves.

    Args:
        folder: of the figures.
        results: protocol to its scores, the leading one first.
        evaluated: the runs.
        truth: `[n, C]` bool, test labels.
    """
    classes = evaluated[0].summary["classes"]
    overview, table = draw_overview(folder, results), main_table(results)
    parts = [
        Part("At a glance", [table] if table else [], [overview] if overview else [], figures_first=True, compact=True)
    ]
    for protocol, result in results.items():
        drawn: list[Picture] = []
        if all(e.has_predictions(protocol) for e in evaluated):
            scores = {e.row: e.scores_of(protocol, e.summary["name"]) for e in evaluated}
            drawn = draw_predictions(folder, protocol, truth, scores, classes)
        known, path, shown = PROTOCOLS.get(protocol), folder / f"{protocol}.png", []
        if known is not None and known.curve is not None and plot_conditions(path, *known.curve, result.scores):
            shown = [Picture(path, f"{known.curve[0]} of all runs, 95 % intervals.")]
        if len(parts) == 1:
            drawn, shown = [], [*shown, *drawn]
        parts.append(Part(heading(protocol), tables_of(result), shown, more=drawn))
    per_class = draw_per_class(folder, results, classes)
    parts.append(Part("Per class", figures=[per_class] if per_class else []))
    stored = [
        Picture(path, f"{e.row}: {caption}.")
        for e in evaluated
        for file, caption in (("reconstruction", "reconstruction"), ("embeddings_tsne", "embeddings, t-SNE"))
        if (path := e.folder / "figures" / f"{file}.png").is_file()
    ]
    summary = evaluated[0].summary
    published = published_part([e.entry() for e in evaluated], summary["task"], summary.get("single_label", False))
    return [*parts[:1], published, *parts[1:], Part("The runs", more=stored)]


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
    with hold(out):
        page = compare(runs, out)
    print((out / "comparison.md").read_text())
    print(f"report: {page}")


if __name__ == "__main__":
    entry_point(main)
