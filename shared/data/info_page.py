"""The page of one store, or of two beside each other: tables, figures, and ECG as they are stored."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from shared.data.describe import SPLITS, Description, settings_apart, shared_of
from shared.plots.pages import page_template
from shared.plots.paper import plot_ecg
from shared.plots.stores import plot_amplitudes, plot_counts, plot_distributions, plot_labels, plot_strips

EXAMPLES = 8
MOST_ROWS = 40
"""Labels of a table; of the rest, the number."""
NONE = "without any"
"""What the line of segments without a label is called."""
NAMED = 3
"""Records that are named of a flag."""
AGE_YEARS, RATE_BPM = np.arange(0, 101, 5.0), np.arange(30, 181, 5.0)
"""Edges of the histograms; what lies beyond is counted in the outermost bin."""


@dataclass(frozen=True)
class DataTable:
    """Lines of text under the titles of their columns."""

    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[str]]]


@dataclass(frozen=True)
class Section:
    """A part of the page below its own heading: figures with captions, tables, and more of both behind a click."""

    title: str
    figures: Sequence[tuple[Path, str]] = ()
    tables: Sequence[DataTable] = ()
    more: Sequence[tuple[Path, str]] = ()
    more_tables: Sequence[DataTable] = ()

    @property
    def anchor(self) -> str:
        """The address of the part on the page."""
        return re.sub(r"\W+", "-", self.title.lower()).strip("-")


def write_page(out: Path, stores: Sequence[Description]) -> Path:
    """Write `report.html` with its pictures inside, and these as PNG and SVG in `figures/`; returns the page's path.

    Args:
        out: folder to write into.
        stores: one, or two to be compared.
    """
    figures = out / "figures"
    sections = [section for section in _sections(figures, stores) if section.figures or section.tables]
    page = page_template("shared.data", "info.html.jinja").render(
        title=" and ".join(one.name for one in stores),
        lines=headlines(stores),
        facts=facts_of(stores),
        sections=sections,
        settings="\n".join(
            f"# {one.name}\n{yaml.safe_dump(one.store.meta['made_by'], sort_keys=False, allow_unicode=True)}"
            for one in stores
        ),
    )
    path = out / "report.html"
    path.write_text(page)
    return path


def headlines(stores: Sequence[Description]) -> list[str]:
    """What is said first: a sentence, and a line for each thing one should know."""
    lines = []
    if len(stores) == 2:
        shared = [f"{num(count)} {what}" for what, count in shared_of(*stores).items()]
        lines.append(f"{stores[0].name} and {stores[1].name} have {', '.join(shared[:-1])} and {shared[-1]} in common.")
    for one in stores:
        store, called = one.store, f"{one.name}: " if len(stores) > 1 else ""
        lines.append(
            f"{called}{num(len(store))} segments of {store.num_samples / store.fs:g} s from "
            f"{num(one.patients.nunique())} patients, {len(store.leads)} leads at {store.fs:g} Hz."
        )
    if len(stores) == 2:
        lines.append("Copies after another preparation differ in some bits: an evaluation looks for them.")
    for one in stores:
        told = [f"{num(one.copies)} segments are sample by sample an earlier one"] if one.copies else []
        left_out = one.audit.get("left_out", {})
        if left_out:
            told.append("left out: " + ", ".join(f"{num(count)} {reason}" for reason, count in left_out.items()))
        flagged = [f"{num(int(flag.sum()))} {name}" for name, flag in one.flags.items() if flag.any()]
        told.append(f"flagged: {', '.join(flagged)}" if flagged else "no segment is flagged")
        lines.append(f"{one.name}: {'; '.join(told)}." if len(stores) > 1 else f"{'; '.join(told).capitalize()}.")
    return lines


def facts_of(stores: Sequence[Description]) -> dict[str, str]:
    """Where each is from; the fingerprint changes with any signal or setting."""
    facts: dict[str, str] = {}
    for one in stores:
        prefix = f"{one.name}: " if len(stores) > 1 else ""
        made_by, store = one.store.meta["made_by"], one.store
        about = {
            "store": f"{store.path} ({one.size / 1e9:.2f} GB)",
            "made of": f"{made_by.get('source', 'unknown')}, {made_by.get('root') or 'no folder'}",
            "fingerprint": store.fingerprint,
            "measurements": ", ".join(store.features) or "none",
        }
        facts |= {f"{prefix}{name}": text for name, text in about.items()}
    return facts


def _sections(folder: Path, stores: Sequence[Description]) -> Iterator[Section]:
    yield _ecg(folder, stores)
    yield _records(folder, stores)
    yield _amplitudes(folder, stores)
    yield _labels(folder, stores)
    yield _quality(stores)
    if len(stores) == 2:
        apart = settings_apart(*stores)
        rows = [(key, values) for key, values in apart.items()]
        yield Section(
            "Settings that differ", tables=[DataTable("", [one.name for one in stores], rows)] if rows else []
        )


def _records(folder: Path, stores: Sequence[Description]) -> Section:
    """Counts, folds, age and sex."""
    rows: list[tuple[str, list[str]]] = [
        ("Segments", [num(len(one.store)) for one in stores]),
        ("Records", [num(one.records.record.nunique()) for one in stores]),
        ("Patients", [num(one.patients.nunique()) for one in stores]),
    ]
    for split, folds in SPLITS.items():
        span = f"folds {folds[0]} to {folds[-1]}" if len(folds) > 1 else f"fold {folds[0]}"
        rows.append((f"{split.capitalize()}, {span}", [num(int(one.in_split(split).sum())) for one in stores]))
    ages = {one.name: one.column("age") for one in stores}
    rates = {one.name: one.heart_rate for one in stores}
    beats = {name: values for name, (values, _) in rates.items()}
    panels: dict[str, tuple[np.ndarray, Mapping[str, np.ndarray]]] = {}
    for title, edges, values in (("Age, years", AGE_YEARS, ages), ("Heart rate, bpm", RATE_BPM, beats)):
        if any(np.isfinite(of_one).any() for of_one in values.values()):
            panels[title] = (edges, values)
            rows.append((f"{title}: median", [_quantiles(of_one, 50) for of_one in values.values()]))
            rows.append((f"{title}: 5 to 95 %", [_quantiles(of_one, (5, 95)) for of_one in values.values()]))
    figures = []
    if panels:
        path = folder / "age_and_rate.png"
        plot_distributions(path, panels)
        where = "; ".join(f"{name}: {said}" if len(stores) > 1 else said for name, (_, said) in rates.items())
        figures.append((path, f"Dashed: the median. Heart rate: {where}."))
    path = folder / "patients.png"
    sexes = {one.name: _percent(one.sexes, len(one.store)) for one in stores}
    several = {one.name: _per_patient(one) for one in stores}
    plot_counts(path, {"Sex": sexes, "Records a patient has": several, "Fold": {o.name: _folds(o) for o in stores}})
    figures.append((path, "Sex and folds: shares of segments; records a patient has: shares of patients."))
    return Section("Records and patients", figures, [DataTable("", [one.name for one in stores], rows)])


def _ecg(folder: Path, stores: Sequence[Description]) -> Section:
    """One record in all leads, and several in one lead."""
    figures = []
    for number, one in enumerate(stores):
        store, shown = one.store, list(one.examples(EXAMPLES))
        if store.unit != "mV" or not shown:
            continue
        row, caption = shown[0]
        path = folder / f"ecg_{number}.png"
        signal = store[row] * store.scale
        if len(stores) == 1:
            plot_ecg(path, signal, fs=store.fs, leads=store.leads, title=caption)
            figures.append((path, f"One record as it is stored: {caption}."))
        lead = "II" if "II" in store.leads else store.leads[0]
        at = store.leads.index(lead)
        path = folder / f"strips_{number}.png"
        plot_strips(path, [(store[row][at] * store.scale, text) for row, text in shown], store.fs, lead)
        figures.append(
            (
                path,
                f"{one.name}: lead {lead}; unflagged records of usual amplitude, each for another frequent label.",
            )
        )
    return Section("ECG", figures)


def _amplitudes(folder: Path, stores: Sequence[Description]) -> Section:
    """Amplitude by lead, where the stores have the same."""
    leads, path = stores[0].store.leads, folder / "amplitude.png"
    if not all(one.store.leads == leads and np.isfinite(one.amplitudes).any() for one in stores):
        return Section("Amplitude")
    plot_amplitudes(path, leads, {one.name: one.amplitudes for one in stores})
    caption = "Peak to peak in a typical second: the middle half as a box, 5 to 95 % as whiskers. A lead far off has a wrong gain."
    return Section("Amplitude", [(path, caption)])


def _labels(folder: Path, stores: Sequence[Description]) -> Section:
    """Each set of labels: shares, and counts by split; the first in full view."""
    figures, tables = [], []
    for column in dict.fromkeys(column for one in stores for column in one.labels):
        shares = {one.name: _percent(one.labels.get(column, {}), len(one.store)) for one in stores}
        path = folder / f"labels_{column}.png"
        plot_labels(path, shares, column)
        figures.append((path, f"{column}: share of segments that carry each label; one segment may carry several."))
        names = list(dict.fromkeys(name for one in stores for name in one.labels.get(column, {})))
        tables.append(_label_table(column, names, stores))
    return Section("Labels", figures[:1], tables[:1], figures[1:], tables[1:])


def _label_table(column: str, names: Sequence[str], stores: Sequence[Description]) -> DataTable:
    """Segments that carry each label, their share and, of one store, how many are in each split."""
    columns: list[str] = []
    rows: dict[str, list[str]] = {name: [] for name in [*names[:MOST_ROWS], NONE]}
    for one in stores:
        everything = _count_labels(one, column, np.ones(len(one.store), dtype=bool))
        splits = (
            {split: _count_labels(one, column, one.in_split(split)) for split in SPLITS} if len(stores) == 1 else {}
        )
        columns += [one.name if len(stores) > 1 else "segments", "share", *splits]
        for name, cells in rows.items():
            cells += [num(everything[name]), f"{everything[name] / len(one.store) * 100:.1f} %"]
            cells += [num(counts[name]) for counts in splits.values()]
    lines = list(rows.items())
    if len(names) > MOST_ROWS:
        lines.insert(-1, (f"… {len(names) - MOST_ROWS} more", [""] * len(columns)))
    return DataTable(column, columns, lines)


def _count_labels(one: Description, column: str, rows: np.ndarray) -> Counter[str]:
    """Segments of these rows with each label, and with none."""
    if column not in one.records:
        return Counter({NONE: int(rows.sum())})
    carried = one.records[column][rows].tolist()
    return Counter([name for labels in carried for name in (labels if len(labels) else (NONE,))])


def _quality(stores: Sequence[Description]) -> Section:
    """Flags and what was left out."""
    names = list(dict.fromkeys(name for one in stores for name in one.flags))
    rows = []
    for name in names:
        cells = []
        for one in stores:
            flag = one.flags.get(name)
            count = 0 if flag is None else int(flag.sum())
            cells += [num(count), f"{count / len(one.store) * 100:.1f} %"]
            if len(stores) == 1:
                examples = [] if flag is None else one.records.record[flag.to_numpy()].astype(str).tolist()
                cells.append(", ".join(examples[:NAMED]) + (" …" if len(examples) > NAMED else ""))
        rows.append((name, cells))
    columns = [title for one in stores for title in (one.name if len(stores) > 1 else "segments", "share")]
    tables = [DataTable("Flags", columns + (["for example"] if len(stores) == 1 else []), rows)] if rows else []
    reasons = list(dict.fromkeys(reason for one in stores for reason in one.audit.get("left_out", {})))
    if reasons:
        left_out = [
            (reason, [num(one.audit.get("left_out", {}).get(reason, 0)) for one in stores]) for reason in reasons
        ]
        tables.append(DataTable("Left out while preparing", [one.name for one in stores], left_out))
    return Section("Quality", tables=tables)


def num(count: int) -> str:
    """A count as the docs write it: 21 799."""
    return f"{count:,}".replace(",", "\N{NO-BREAK SPACE}")


def _quantiles(values: np.ndarray, percent: float | tuple[float, float]) -> str:
    known = values[np.isfinite(values)]
    return "–".join(f"{q:.0f}" for q in np.atleast_1d(np.percentile(known, percent))) if len(known) else "not known"


def _percent(counts: Mapping[str, int], total: int) -> dict[str, float]:
    return {name: count / total * 100 for name, count in counts.items()}


def _per_patient(one: Description) -> dict[str, float]:
    counts = one.records.assign(who=one.patients).groupby("who").record.nunique().clip(upper=5).value_counts()
    return {f"{n}{'+' if n == 5 else ''}": float(counts.get(n, 0)) / one.patients.nunique() * 100 for n in range(1, 6)}


def _folds(one: Description) -> dict[str, float]:
    counts = one.records.fold.value_counts().sort_index()
    return {str(fold): float(count) / len(one.store) * 100 for fold, count in counts.items()}
