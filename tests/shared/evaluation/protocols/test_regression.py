"""Numbers from embeddings: exact on truth, useless on noise, and columns that cannot be predicted."""

from __future__ import annotations

import numpy as np
import pytest

from shared.errors import UserError
from shared.evaluation.context import RANDOM
from shared.evaluation.protocols.regression import regression
from tests.shared.evaluation.contexts import NAME, make_context, make_store, truth_and_noise


def make_case(tmp_path, **settings):
    rng = np.random.default_rng(5)
    age, sex = rng.uniform(20, 90, 400), rng.integers(0, 2, 400).astype(float)
    age[::7] = np.nan
    store, labels = make_store(tmp_path / "store", num=400, age=age, sex=sex, same=1.0, few=[1.0, 2.0] + [None] * 398)
    rows = truth_and_noise(labels)
    rows[NAME][:, 5] = np.nan_to_num(age, nan=50)
    rows[NAME][:, 6] = sex
    return make_context(tmp_path, store, labels, rows, **settings)


def test_truth_and_noise(tmp_path):
    result = regression(make_case(tmp_path, regression=("age", "sex", "same", "few", "height")))
    found, noise = result.scores[NAME], result.scores[RANDOM]
    assert found["age/mae"]["value"] < 0.1 and found["age/r2"]["value"] > 0.999
    assert found["sex/auroc"]["value"] == 1
    assert noise["age/mae"]["value"] > 12 and noise["age/r2"]["value"] < 0.15
    assert noise["sex/auroc"]["value"] == pytest.approx(0.5, abs=0.15)
    assert found["age/mae"]["n"] < found["sex/auroc"]["n"] == 80
    assert result.differences[RANDOM][NAME]["age/mae"]["high"] < 0
    assert "sex/mae" not in found and result.figures[0].path.is_file()
    notes = " ".join(result.notes)
    assert "no column height" in notes and "same does not vary" in notes and "few is known for" in notes


def test_nothing_to_predict(tmp_path):
    with pytest.raises(UserError, match="none of the columns height can be predicted.*Name number columns"):
        regression(make_case(tmp_path, regression=("height",)))
