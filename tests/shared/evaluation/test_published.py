"""The published figures: every line is read, bad lines are named, and ours stand beside those of the same task and protocol."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from shared.config import repo_path
from shared.errors import UserError
from shared.evaluation.following import Followed
from shared.evaluation.presets import PRESETS
from shared.evaluation.published import COLUMNS, PUBLISHED, read_published
from shared.evaluation.report.published import Entry, published_part, say_followed
from shared.statistics.interval import Interval

LINE = 'ST-MEM,Chapman,ST-MEM paper linear,PTB-XL,{task},macro AUROC,{value},,,1,"a, b"'


def write(path: Path, *lines: str, header: str = ",".join(COLUMNS)) -> Path:
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def test_the_file_of_the_project_is_read_whole() -> None:
    found = read_published()
    assert len(found) == len(repo_path(PUBLISHED).read_text().splitlines()) - 1 == 1109
    assert all(line.source and line.model for line in found)
    best = max(
        p.value for p in found if p.protocol == "Strodthoff 2021 supervised" and p.stands_for("ptbxl_all", False)
    )
    assert best == 0.925  # inception1d and xresnet1d101 in its table
    asked = {name for preset in PRESETS.values() for part in preset.parts.values() for name in part.published.values()}
    for name in asked:
        assert any(p.protocol == name and p.dataset == "PTB-XL" for p in found), name


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (LINE.format(task="superclas", value=0.8), "line 3: PTB-XL has no task 'superclas'; did you mean 'superclass'"),
        (LINE.format(task="9 classes", value=0.8), "line 3: PTB-XL has no task '9 classes'"),
        (LINE.format(task="form", value="n/a"), "line 3: value is 'n/a'; expected a number"),
        (LINE.format(task="form", value=""), "line 3: value is ''; expected a number"),
        (
            LINE.format(task="form", value=0.8).replace("PTB-XL", "PTBXL"),
            "line 3: unknown data set 'PTBXL'; did you mean",
        ),
        (LINE.format(task="form", value=0.8).replace('"a, b"', ""), "line 3: source is empty"),
        (LINE.format(task="form", value=0.8).replace('"a, b"', "a, b"), "line 3 has not 11 cells"),
        (LINE.format(task="form", value=0.8).replace(',"a, b"', ""), "line 3 has not 11 cells"),
        (LINE.format(task="form", value=0.8).replace('"a, b"', '"a, b'), "is not readable after line 2"),
    ],
)
def test_bad_lines_are_named(line: str, message: str, tmp_path: Path) -> None:
    good = LINE.format(task="form", value=0.8)
    with pytest.raises(UserError, match=message):
        read_published(write(tmp_path / "published.csv", good, line))


def test_a_file_that_is_no_table_of_figures(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_published(tmp_path / "none.csv")
    with pytest.raises(UserError, match="has the columns model, task; expected model, pretraining_data"):
        read_published(write(tmp_path / "published.csv", header="model,task"))


def test_which_task_a_figure_is_of(tmp_path: Path) -> None:
    tasks = ["superclass, single-label records (own split)", "superclass, multi-label", "all"]
    lines = [LINE.format(task=f'"{task}"', value=0.8) for task in tasks]
    single, multi, every = read_published(write(tmp_path / "published.csv", *lines))
    assert single.stands_for("ptbxl_superclass", True) and not single.stands_for("ptbxl_superclass", False)
    assert multi.stands_for("superclass", False) and not multi.stands_for("ptbxl_subclass", False)
    assert every.stands_for("ptbxl_all", False) and math.isnan(every.low)


def entry(weights: str | None = None, part: str = "evaluation", name: str = "st_mem", source: str = "ptbxl") -> Entry:
    score: Interval = {"value": 0.85, "low": 0.8, "high": 0.9, "n": 9}
    key = "linear_probe" if part == "evaluation" else "finetune"
    return Entry("ST-MEM", {key: {"auroc_all_macro": score}}, Followed(name, part, ()), weights, [source], 2158)


def test_published_ours_and_difference() -> None:
    part = published_part([entry("st_mem.pth")], "ptbxl_superclass", True)
    (table,) = part.tables
    assert table.title == "ST-MEM paper linear" and table.columns == ("published", "ours", "difference")
    values = {line.name: [cell.score["value"] for cell in line.cells if cell.score] for line in table.lines}
    found = next(v for name, v in values.items() if name.startswith("ViT-B ST-MEM ("))
    assert found == pytest.approx([0.838, 0.85, 0.012])
    assert [line.cells[0].score["value"] for line in table.lines if line.cells[0].score] == sorted(
        (v[0] for v in values.values()), reverse=True
    )
    assert "ST-MEM: 2158" in part.text and "arxiv.org/abs/2402.09450" in part.text


def test_grey_unless_the_authors_pretrained_it_or_nobody_did() -> None:
    def kinds(entry: Entry, single_label: bool = True) -> dict[str, str]:
        (table,) = published_part([entry], "ptbxl_superclass", single_label).tables
        return {line.name.partition(" (")[0]: line.kind for line in table.lines}

    released = kinds(entry("st_mem_vit_base.pth"))
    assert released["ViT-B ST-MEM"] == "run" and released["ViT-B MTAE"] == "apart"
    assert set(kinds(entry("pretrain")).values()) == {"apart"} and set(kinds(entry()).values()) == {"apart"}
    assert set(kinds(entry(part="scratch", name="strodthoff2021"), False).values()) == {"run"}
    assert set(kinds(entry(part="scratch", name="reality_check"), False).values()) == {"run"}


def test_nothing_stands_beside_other_records_tasks_or_settings() -> None:
    assert not published_part([entry(source="synthetic")], "ptbxl_superclass", True).tables
    assert not published_part([entry()], "ptbxl_superclass", False).tables
    assert not published_part([entry(name="seed")], "ptbxl_superclass", True).tables
    unnamed = Entry("ST-MEM", entry().scores, None, None, ["ptbxl"], 9)
    assert not published_part([unnamed], "ptbxl_superclass", True).tables
    assert say_followed(None).startswith("none named")


def test_two_runs_have_two_columns_each() -> None:
    second = Entry(
        "other", *(getattr(entry(), key) for key in ("scores", "followed", "weights", "sources", "num_test"))
    )
    (table,) = published_part([entry(), second], "ptbxl_superclass", True).tables
    assert table.columns == ("published", "ST-MEM", "ST-MEM − published", "other", "other − published")
    assert all(len(line.cells) == 5 for line in table.lines)
