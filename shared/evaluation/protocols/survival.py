"""Risk over time: Cox proportional hazards on embeddings, C-index, Kaplan–Meier curves of risk groups (lifelines)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field, PositiveFloat

from shared.config import Section
from shared.errors import UserError
from shared.evaluation.context import Context, Picture, Protocol, Result
from shared.evaluation.scoring import score_values
from shared.statistics.metrics import Array
from shared.statistics.pairs import sum_pairs

MIN_EVENTS = 5
GROUPS = ("low risk", "middle risk", "high risk")


class SurvivalSettings(Section):
    """Cox proportional hazards on embeddings."""

    time: str = Field("time_to_event", description="column of the store: time to the event or to the end of watching")
    event: str = Field("event", description="column of the store: 1 where the event was seen, 0 where not")
    components: int = Field(32, ge=1, description="principal components of the training embeddings")
    penalizers: tuple[PositiveFloat, ...] = Field(
        (0.001, 0.01, 0.1, 1.0), min_length=1, description="ridge strengths tried; validation chooses"
    )


@dataclass(frozen=True)
class _Followed:
    """Positions of one split's patients (one record each), how long each was watched, and whether the event was seen."""

    positions: Array
    time: Array
    event: Array


def survival(context: Context) -> Result:
    """Cox proportional hazards on principal components of the training embeddings; scored by `c_index` on test.

    One record per patient takes part, the first in the store: several would count the same event several times. The
    penalty is chosen by the C-index on validation. Risk groups are the tertiles of the training patients' risk.

    Raises:
        UserError: lifelines is not installed, a column is missing, or a split has too few events.
    """
    lifelines = import_lifelines()
    config = context.config.settings(SurvivalSettings)
    train, val, test = (
        _followed(context, name, part)
        for name, part in (
            ("train", context.split.train),
            ("validation", context.split.val),
            ("test", context.split.test),
        )
    )
    among_test = np.searchsorted(context.split.test, test.positions)
    values: dict[str, dict[str, Array]] = {}
    notes: list[str] = []
    pictures: dict[str, tuple[Array, float]] = {}
    for row, embeddings in context.rows.items():
        risks, penalizer = fit_cox(lifelines, embeddings, train, val, test, config.components, config.penalizers)

        def score(weights: Array, risk: Array = risks[2]) -> dict[str, Array]:
            return {"c_index": concordance(test.time, test.event, risk, weights[:, among_test])}

        values[row] = context.resamples.evaluate(score)
        groups = np.searchsorted(np.quantile(risks[0], [1 / 3, 2 / 3]), risks[2], side="right")
        p = logrank(lifelines, test, groups)
        pictures[row] = groups, p
        shown = "below 0.001" if p < 0.001 else f"{p:.3f}"
        notes.append(f"survival, {row}: penalizer {penalizer:g}, log-rank p of the risk groups {shown}")
    n, events = len(test.time), int(test.event.sum())
    notes.append(f"survival: {n} test patients, {events} events; one record per patient, the first")
    path = context.out / "figures" / "survival.png"
    plot_groups(lifelines, path, test, pictures, config.time)
    result = score_values(context, values, n)
    result.notes = notes
    result.figures = [Picture(path, "Kaplan–Meier curves of test patients by tertile of training risk, 95 % bands.")]
    return result


def import_lifelines() -> Any:
    """The lifelines package.

    Raises:
        UserError: it is not installed.
    """
    try:
        import lifelines
        import lifelines.statistics
    except ImportError:
        raise UserError(
            "the survival protocol needs lifelines, which is not installed. Install the extra: "
            'pip install -e ".[survival]"'
        ) from None
    return lifelines


def _followed(context: Context, name: str, part: Array) -> _Followed:
    """The first usable record of each patient of a split.

    Raises:
        UserError: a missing column, impossible values, or too few events.
    """
    config, records = context.config.settings(SurvivalSettings), context.store.records.iloc[context.indices[part]]
    missing = [column for column in (config.time, config.event) if column not in records]
    if missing:
        raise UserError(
            f"the store {context.store.path} has no column {', '.join(missing)}; survival expects time and event "
            "columns. Name them in survival.time and survival.event."
        )
    time, event = (pd.to_numeric(records[c], errors="coerce").to_numpy(float) for c in (config.time, config.event))
    known = np.isfinite(time) & np.isfinite(event)
    if (time[known] < 0).any() or not np.isin(event[known], (0, 1)).all():
        raise UserError(
            f"{config.time} or {config.event} of {name} holds negative times or events other than 0 and 1; expected "
            "times of 0 or more and 1 where the event was seen, 0 where not."
        )
    usable = np.flatnonzero(known)
    usable = usable[~records.patient.iloc[usable].duplicated().to_numpy()]
    if event[usable].sum() < MIN_EVENTS:
        raise UserError(
            f"column {config.event} has {int(event[usable].sum())} events among the {len(usable)} {name} patients; "
            f"survival expects at least {MIN_EVENTS}. Use more records or another event column."
        )
    return _Followed(part[usable], time[usable], event[usable].astype(bool))


def fit_cox(
    lifelines: Any,
    embeddings: Array,
    train: _Followed,
    val: _Followed,
    test: _Followed,
    components: int,
    penalizers: tuple[float, ...],
) -> tuple[list[Array], float]:
    """Log partial hazards of train, validation and test patients, and the penalty chosen on validation.

    Raises:
        UserError: no penalty lets the fit converge.
    """
    from sklearn.decomposition import PCA

    x = embeddings[train.positions].astype(np.float64)
    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    pca = PCA(min(components, *x.shape), random_state=0).fit((x - mean) / scale)
    tables = [
        pd.DataFrame(pca.transform((embeddings[part.positions] - mean) / scale)).add_prefix("pc")
        for part in (train, val, test)
    ]
    # A component without spread cannot be standardised by lifelines.
    varying = tables[0].columns[tables[0].std() > 1e-9]
    tables = [table[varying] for table in tables]
    observed = tables[0].assign(time=train.time, event=train.event)
    best: tuple[float, list[Array], float] | None = None
    for penalizer in sorted(penalizers, reverse=True):
        fitter = lifelines.CoxPHFitter(penalizer=penalizer)
        with warnings.catch_warnings():
            warnings.simplefilter("error", lifelines.exceptions.ConvergenceWarning)
            try:
                fitter.fit(observed, duration_col="time", event_col="event")
            except (lifelines.exceptions.ConvergenceError, lifelines.exceptions.ConvergenceWarning):
                continue
        risks = [fitter.predict_log_partial_hazard(table).to_numpy() for table in tables]
        score = float(concordance(val.time, val.event, risks[1], np.ones((1, len(val.time))))[0])
        if best is None or score > best[0]:
            best = score, risks, penalizer
    if best is None:
        raise UserError(
            f"the Cox model did not converge with any of survival.penalizers {', '.join(map(str, penalizers))}. "
            "Give larger ones, or fewer survival.components."
        )
    return best[1], best[2]


def concordance(time: Array, event: Array, risk: Array, weights: Array) -> Array:
    """Harrell's C-index under resampling: of two patients, does the one with the higher risk have the event first?

    Pairs count where the earlier time is an event; of equal times the seen event counts as earlier than the censored
    one; equal risks count half.

    Args:
        time, event, risk: `[n]`.
        weights: `[R, n]`.

    Returns:
        float64 `[R]`; NaN without a comparable pair.

    Source: Harrell et al., JAMA 1982;247:2543; equal to lifelines.utils.concordance_index where all weights are 1.
    """

    def comparable(rows: slice) -> Array:
        earlier = time[rows, None] < time
        first = (time[rows, None] == time) & ~event
        return np.asarray((earlier | first) & event[rows, None])

    def right(rows: slice) -> Array:
        order = (risk[rows, None] > risk) + 0.5 * (risk[rows, None] == risk)
        return np.asarray(order * comparable(rows))

    pairs = sum_pairs(weights, comparable)
    return np.divide(sum_pairs(weights, right), pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


def logrank(lifelines: Any, followed: _Followed, groups: Array) -> float:
    """p of the log-rank test over the risk groups; 1 where only one group has patients."""
    if len(np.unique(groups)) < 2:
        return 1.0
    return float(lifelines.statistics.multivariate_logrank_test(followed.time, groups, followed.event).p_value)


def plot_groups(
    lifelines: Any, path: Path, followed: _Followed, pictures: dict[str, tuple[Array, float]], unit: str
) -> None:
    """Kaplan–Meier curves of the risk groups, one panel per row."""
    from matplotlib.figure import Figure

    from shared.plots.charts import COLOURS, save

    figure = Figure(figsize=(4.9 * len(pictures), 4.0), layout="constrained")
    panels = figure.subplots(1, len(pictures), squeeze=False, sharey=True)[0]
    colours = (COLOURS[2], COLOURS[1], COLOURS[3])
    for axes, (row, (groups, p)) in zip(panels, pictures.items(), strict=True):
        for g, (name, colour) in enumerate(zip(GROUPS, colours, strict=True)):
            mine = groups == g
            if not mine.any():
                continue
            fitted = lifelines.KaplanMeierFitter().fit(followed.time[mine], followed.event[mine])
            curve, band = fitted.survival_function_, fitted.confidence_interval_
            axes.step(curve.index, curve.iloc[:, 0], where="post", color=colour, label=f"{name} ({mine.sum()})")
            axes.fill_between(band.index, band.iloc[:, 0], band.iloc[:, 1], step="post", color=colour, alpha=0.15, lw=0)
        axes.set_title(f"{row}: log-rank p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}", fontsize=11)
        axes.set_xlabel(unit.replace("_", " "), fontsize=9)
        axes.set_ylim(0, 1.02)
        axes.legend(fontsize=9, frameon=False, loc="lower left")
    panels[0].set_ylabel("share without the event", fontsize=9)
    save(figure, path)


SURVIVAL = Protocol(survival, SurvivalSettings, "survival", titles={"c_index": "C-index"})
