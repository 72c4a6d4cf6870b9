"""Figures are written as a small PNG and as an SVG, the same each time; calibration against a naive loop."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from scipy.stats import binomtest

from shared.leads import LEADS
from shared.plots import charts
from shared.plots.charts import COLOURS, GREYS, colours_of, save
from shared.plots.paper import plot_ecg
from shared.plots.predictions import calibration_curve, plot_calibration, wilson_interval
from shared.plots.scores import plot_overview


def draw(path: Path) -> tuple[bytes, bytes]:
    figure = Figure(figsize=(4, 3), layout="constrained")
    figure.subplots().plot([0, 1, 2], [3, 1, 2], label="a")
    save(figure, path)
    return path.read_bytes(), path.with_suffix(".svg").read_bytes()


def test_a_figure_is_a_png_of_few_colours_and_an_svg_and_the_same_each_time(tmp_path: Path) -> None:
    png, svg = draw(tmp_path / "new" / "a.png")
    assert (png, svg) == draw(tmp_path / "again" / "a.png")
    assert svg.startswith(b"<?xml") and b"<path" in svg
    with Image.open(tmp_path / "new" / "a.png") as image:
        assert image.mode == "P" and image.size == (4 * charts.DPI, 3 * charts.DPI)


def test_what_does_not_compete_is_grey() -> None:
    colours = colours_of(["random encoder", "a", "b"], ["random encoder"])
    assert colours == {"random encoder": GREYS[0], "a": COLOURS[0], "b": COLOURS[1]}
    assert len(colours_of([str(i) for i in range(20)])) == 20


def test_calibration_curve_equals_a_naive_loop() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(800)
    truth = rng.random(800) < scores**2  # overconfident
    mean, share, counts = calibration_curve(truth, scores)
    parts = np.array_split(np.argsort(scores), 8)
    assert counts.tolist() == [100] * 8
    assert mean == pytest.approx([scores[part].mean() for part in parts])
    assert share == pytest.approx([truth[part].mean() for part in parts])
    tied = np.repeat([0.0, 0.2, 1.0], [700, 60, 40])
    mean, _, counts = calibration_curve(tied > 0.1, tied)
    assert mean.tolist() == pytest.approx([0, 0.2, 1]) or counts.sum() == 800
    assert np.all(np.diff(mean) > 0)
    assert len(calibration_curve(truth[:40], scores[:40])[0]) == 2  # few records, few groups


def test_interval_of_a_share_is_wilsons() -> None:
    share, counts = np.array([0.0, 0.3, 1.0]), np.array([10, 50, 7])
    low, high = wilson_interval(share, counts)
    for i, (p, n) in enumerate(zip(share, counts, strict=True)):
        reference = binomtest(round(p * n), int(n)).proportion_ci(method="wilson")
        assert (low[i], high[i]) == pytest.approx((reference.low, reference.high), abs=1e-4)


def test_scores_that_are_no_probabilities_have_no_calibration(tmp_path: Path) -> None:
    truth = np.array([[True], [False]])
    assert not plot_calibration(tmp_path / "a.png", truth, {"a": np.array([[2.0], [-1.0]])}, ["A"], "t")
    assert not (tmp_path / "a.png").exists()


def test_whiskers_of_the_overview_are_not_clipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Figure] = []
    monkeypatch.setattr("shared.plots.scores.save", lambda figure, path: kept.append(figure))
    wide = {"value": 0.9, "low": 0.05, "high": 1.0, "n": 3}
    narrow = {"value": 0.6, "low": 0.55, "high": 0.65, "n": 3}
    plot_overview(tmp_path / "a.png", {"x": {"a": wide}, "y": {"a": narrow}, "z": {"a": narrow}}, chance=["x", "y"])  # type: ignore[dict-item]
    x, y, z = (axes.get_xlim() for axes in kept[0].axes)
    assert x[0] < 0.05 and x[1] > 1.0
    assert x == y and z[0] > 0.5  # scores of a kind stand on one scale


def test_leads_of_a_record_do_not_overlap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Figure] = []
    monkeypatch.setattr("shared.plots.paper.save", lambda figure, path: kept.append(figure))
    rng = np.random.default_rng(0)
    ecg = rng.normal(0, 0.05, (12, 1250)) + 3 * (rng.random((12, 1250)) < 0.01) * rng.choice([-1, 1], (12, 1))
    model = ecg + rng.normal(0, 1.0, ecg.shape)  # a reconstruction that is far off
    plot_ecg(
        tmp_path / "a.png",
        ecg,
        fs=250,
        leads=LEADS,
        title="t",
        model=model,
        mask=np.ones_like(ecg, bool),
        legend="model",
    )
    for axes in kept[0].axes:
        drawn = [line.get_ydata() for line in axes.get_lines()]
        spans = [(min(map(np.min, pair)), max(map(np.max, pair))) for pair in zip(drawn[::2], drawn[1::2], strict=True)]
        assert len(spans) == 6
        assert all(below[1] < above[0] for above, below in itertools.pairwise(spans))
        assert spans[0][1] < axes.get_ylim()[1] and spans[-1][0] > axes.get_ylim()[0]
