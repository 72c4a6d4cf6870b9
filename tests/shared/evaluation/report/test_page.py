"""The page of one evaluation: verdict, contents, a figure before the tables, and all that it shows inside it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shared.evaluation.context import RANDOM
from shared.evaluation.report.page import Part, write_report
from tests.shared.evaluation.test_evaluate import run


@pytest.fixture(scope="module")
def page(synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(synthetic_store, tmp_path_factory.mktemp("page"), "protocols=knn,linear_probe", "min_positives=3")


def test_the_page_opens_with_verdict_contents_and_a_figure(page: Path) -> None:
    text = page.read_text()
    order = ["<h1>", '<div class="verdict ', "<dl>", '<nav aria-label="Contents">', '<img alt="Scores with', "<table>"]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert re.search(
        r"statistics, linear probe: AUROC macro [\d.]+ \[[\d., ]+\], [+−][\d.]+ \[.*?\] over a random encoder: ", text
    )
    assert f">{RANDOM}</td>" in text and "★:" not in text  # one run is not called the best


def test_every_entry_of_the_contents_leads_somewhere(page: Path) -> None:
    text = page.read_text()
    links = re.findall(r'href="#([^"]+)"', text)
    assert set(links) == set(re.findall(r'<h2 id="([^"]+)"', text)) and len(links) == len(set(links))
    assert {"at-a-glance", "linear-probe", "knn", "worst-mistakes", "embeddings", "notes", "configuration"} <= set(
        links
    )


def test_a_single_evaluation_shows_curves_classes_and_mistakes(page: Path) -> None:
    text, figures = page.read_text(), page.parent / "figures"
    for name in ("overview", "roc_linear_probe", "calibration_linear_probe", "confusion_linear_probe", "mistake_1"):
        assert (figures / f"{name}.png").is_file()
    assert "Class by class" in text and "<th>test records</th><th>AUROC</th><th>AUPRC</th>" in text
    assert re.search(r"Record syn\d+ \(patient \w+\), labelled [\w, ]+: linear probe of statistics scores", text)


def test_the_page_holds_its_pictures_and_every_png_has_its_svg(page: Path) -> None:
    text, pictures = page.read_text(), sorted((page.parent / "figures").glob("*.png"))
    assert set(re.findall(r'src="(.{22})', text)) == {"data:image/png;base64,"} and "http" not in text
    assert len(pictures) == text.count("<img ")
    assert [p.with_suffix(".svg").name for p in pictures] == sorted(
        p.name for p in (page.parent / "figures").glob("*.svg")
    )


def test_empty_parts_and_a_missing_verdict_leave_no_trace(tmp_path: Path) -> None:
    parts = [Part("Nothing"), Part("Nothing either", text="still nothing")]
    path = write_report(
        tmp_path / "report.html",
        title="<t>",
        verdict=None,
        facts={"a": "b"},
        notes=["LEAK: x", "y"],
        parts=parts,
        config="c",
    )
    text = path.read_text()
    assert "Nothing" not in text and 'class="verdict' not in text and "&lt;t&gt;" in text
    assert text.count("LEAK: x") == 1 and "<li>y</li>" in text
