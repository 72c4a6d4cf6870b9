"""`--help` lists every key with its default, what it takes and what it is."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Literal

import pytest
from pydantic import Field

import shared.evaluation.report.compare
import shared.sweep.__main__
from shared.config import Choice, RepoPath, Section, config_from_cli
from shared.help import describe
from shared.optim import OptimConfig


class Training(Section):
    optim: OptimConfig = OptimConfig()
    folds: tuple[int, ...] | None = None
    tasks: tuple[str, ...] = ()
    kind: Literal["a", "b"] = "a"
    flag: bool = False
    out: RepoPath = Field(Path("runs/default"), validate_default=True)


def test_help_lists_every_key_with_default_kind_and_description(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        config_from_cli(Training, ["--help"], "a.b")
    assert end.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert "`program: a.b`" in lines[0]
    assert "optim.epochs = 100  (int, ≥ 1)" in lines
    assert (
        "optim.lr_reference_batch = 256  (int or null, ≥ 1)  the learning rate is lr x batch_size / this; null takes lr as it is"
        in lines
    )
    assert "optim.betas = [0.9, 0.999]  ([number, number])" in lines
    assert "folds = null  (list of int or null)" in lines and "kind = a  (a | b)" in lines
    assert "flag = false  (true | false)" in lines and "out = runs/default  (path)" in lines
    keys = {line.split(" ")[0] for line in lines[2:]}
    sections = {f"optim.{name}" for name in OptimConfig.model_fields}
    assert keys == sections | set(Training.model_fields) - {"optim"}


def test_help_shows_the_defaults_of_the_section_as_the_config_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    class Own(Section):
        optim: OptimConfig = OptimConfig(epochs=3)

    with pytest.raises(SystemExit):
        config_from_cli(Own, ["-h"])
    assert "optim.epochs = 3  " in capsys.readouterr().out


def test_help_of_a_choice_lists_what_is_common_once_and_the_rest_by_choice() -> None:
    class A(Section):
        kind: Literal["a"]
        size: int = 1
        x: int = Field(description="wide")

    class B(Section):
        kind: Literal["b"]
        size: int = 1
        y: bool = True

    lines = describe(Choice("kind", {"a": A, "b": B}))
    assert lines[1:] == [
        "kind  (a | b)", "size = 1  (int)", "", "kind=a:", "x (required)  (int)  wide", "", "kind=b:", "y = true  (true | false)",
    ]  # fmt: skip


@pytest.mark.parametrize("module", [shared.sweep.__main__, shared.evaluation.report.compare])
def test_a_command_without_yaml_prints_how_it_is_called(module: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    module.main(["--help"])
    assert f"python -m {module.__name__.removesuffix('.__main__')} " in capsys.readouterr().out
