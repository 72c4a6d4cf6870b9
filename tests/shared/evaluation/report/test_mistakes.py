"""The worst mistakes: which records they are, and their pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shared.evaluation.report.mistakes import draw_mistakes, find_mistakes
from tests.shared.evaluation.contexts import make_context, make_store


def test_the_most_confidently_wrong_scores_one_of_each_patient() -> None:
    truth = np.array([[1, 0], [0, 1], [0, 0], [1, 0], [1, 1]], dtype=bool)
    scores = np.array([[0.9, 0.1], [0.97, 0.9], [0.2, 0.8], [0.05, 0.3], [0.45, 0.02]])
    found = find_mistakes(truth, scores, np.array(["p", "q", "r", "q", "s"]))
    assert [(m.record, m.label) for m in found] == [(4, 1), (1, 0), (2, 1)]  # 3 is another record of q, 0 is right
    assert np.allclose([m.error for m in found], [0.98, 0.97, 0.8])
    assert len(find_mistakes(truth, scores, np.arange(5), num=2)) == 2


def test_scores_that_are_no_probabilities_have_no_confident_mistakes() -> None:
    assert find_mistakes(np.array([[True], [False]]), np.array([[-3.0], [4.0]]), np.arange(2)) == []


def test_mistakes_are_drawn_with_record_labels_and_score(tmp_path: Path) -> None:
    store, labels = make_store(tmp_path / "store", num=60, segment=2)
    context = make_context(tmp_path, store, labels)
    test = context.split.test
    scores = np.full((len(test), 3), 0.5)
    truth = labels[test]
    wrong, missed = int(np.flatnonzero(~truth[:, 1])[0]), int(np.flatnonzero(truth[:, 2])[0])
    scores[wrong, 1], scores[missed, 2] = 0.99, 0.03
    pictures = draw_mistakes(context, "linear_probe", "ST-MEM", scores)
    assert len(pictures) == 2 and all(p.path.is_file() and p.path.with_suffix(".svg").is_file() for p in pictures)
    record = store.records.iloc[test[wrong]]
    has = ", ".join(c for c, x in zip("ABC", truth[wrong], strict=True) if x)
    assert pictures[0].caption.startswith(
        f"Record {record.record}, segment 2 (patient {record.patient}), labelled {has}: "
    )
    assert (
        "linear probe of ST-MEM scores B 0.99, not one of its labels. All scores: A 0.50, B 0.99" in pictures[0].caption
    )
    assert "scores C 0.03, though it is one of its labels" in pictures[1].caption


def test_a_store_of_other_signals_draws_no_ecg_paper(tmp_path: Path) -> None:
    store, labels = make_store(tmp_path / "store", num=60)
    store.unit = "a.u."
    context = make_context(tmp_path, store, labels)
    assert draw_mistakes(context, "knn", "x", np.ones((len(context.split.test), 3))) == []
