"""The worst mistakes of a run: test records with the most confidently wrong score, on ECG paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared.evaluation.context import Context, Picture
from shared.evaluation.report.tables import protocol_title
from shared.leads import LEADS
from shared.plots.paper import plot_ecg

NUM = 20
OPEN = 4
"""Shown at once; more are behind a click."""
MOST_SCORES = 8
"""Classes named in a caption; of more, those with the highest scores."""


@dataclass(frozen=True)
class Mistake:
    """A wrong answer: `record` is its position among the test records, `error` how far the score is from the label."""

    record: int
    label: int
    error: float


def find_mistakes(truth: np.ndarray, scores: np.ndarray, patients: np.ndarray, num: int = NUM) -> list[Mistake]:
    """The most confidently wrong scores, one of each patient, worst first.

    Args:
        truth: `[n, C]` bool.
        scores: `[n, C]`, probabilities.
        patients: `[n]`.
        num: how many at most.

    Returns:
        Only scores on the wrong side of 0.5; none where the scores are no probabilities.
    """
    if scores.min() < 0 or scores.max() > 1:
        return []
    errors = np.abs(truth - scores)
    labels, worst = errors.argmax(axis=1), errors.max(axis=1)
    found: list[Mistake] = []
    seen: set[object] = set()
    for i in np.argsort(-worst, kind="stable"):
        if worst[i] <= 0.5 or len(found) == num:
            break
        if patients[i] not in seen:
            seen.add(patients[i])
            found.append(Mistake(int(i), int(labels[i]), float(worst[i])))
    return found


def draw_mistakes(context: Context, protocol: str, row: str, scores: np.ndarray) -> list[Picture]:
    """Pictures of the worst mistakes as the store holds the signals; none where these are no ECG in mV.

    Args:
        context: store, labels and test split.
        protocol, row: whose scores these are.
        scores: `[n_test, C]`.
    """
    store, test, classes = context.store, context.split.test, context.task.classes
    if store.unit != "mV" or not set(store.leads) <= set(LEADS):
        return []
    truth = context.labels[test]
    pictures = []
    for number, mistake in enumerate(find_mistakes(truth, scores, context.patients[test]), start=1):
        index = context.indices[test][mistake.record]
        record = store.records.iloc[index]
        labels = ", ".join(c for c, has in zip(classes, truth[mistake.record], strict=True) if has) or "no label"
        score = scores[mistake.record, mistake.label]
        wrong = "not one of its labels" if score > 0.5 else "though it is one of its labels"
        path = context.out / "figures" / f"mistake_{number}.png"
        name = f"record {record.record}" + (f", segment {record.segment}" if record.segment else "")
        said = f"{classes[mistake.label]} {score:.2f}"
        title = f"{name}: labelled {labels}, scored {said}"
        plot_ecg(path, store[index] * store.scale, fs=store.fs, leads=store.leads, title=title)
        caption = (
            f"{name} (patient {record.patient}), labelled {labels}: {protocol_title(protocol)} of {row} scores {said}, "
            f"{wrong}. All scores: {_listed(classes, scores[mistake.record])}."
        )
        pictures.append(Picture(path, caption[0].upper() + caption[1:]))
    return pictures


def _listed(classes: Sequence[str], scores: np.ndarray) -> str:
    shown = np.sort(np.argsort(-scores, kind="stable")[:MOST_SCORES])
    return ", ".join(f"{classes[c]} {scores[c]:.2f}" for c in shown) + (" …" if len(classes) > MOST_SCORES else "")
