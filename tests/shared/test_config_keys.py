"""Sections that are one of several classes: which one, whose keys, how layers change it, how help and schema show it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest

from shared.config import ConfigError, Section, config_from_cli, load_config, to_yaml
from shared.config_keys import OneOf


class Shape(Section):
    name: str


class Circle(Shape):
    name: Literal["circle"] = "circle"
    radius: float = 1.0
    colour: str = "red"


class Box(Shape):
    name: Literal["box"] = "box"
    sides: tuple[int, ...] = (1, 2)
    colour: str = "blue"


class Page(Section):
    shape: Annotated[Shape, OneOf({"circle": Circle, "box": Box}, ("radius", "sides", "colour"))] = Circle()
    title: str = ""


class Book(Section):
    page: Page = Page()


def shape(*given: str, path: Path | None = None) -> Shape:
    return load_config(Book, path, given).page.shape


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_name_chooses_and_the_first_is_the_default() -> None:
    assert shape() == Circle()
    assert shape("page.shape.radius=2") == Circle(radius=2)
    assert shape("page.shape.name=box", "page.shape.sides=3,4") == Box(sides=(3, 4))
    assert shape("page.shape.sides=3,4", "page.shape.name=box") == Box(sides=(3, 4))
    assert Page(shape=Box()).shape == Box() and Page(shape=Box()).model_copy().shape == Box()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ["page.shape.sides=3"],
            "page.shape.sides is a key of box; page.shape.name is circle, whose keys are radius, colour",
        ),
        (["page.shape.name=bxo"], "page.shape.name: 'bxo' is none of circle, box; did you mean 'box'?"),
        (["page.shape.name=zzz"], r"page.shape.name: 'zzz' is none of circle, box\."),
        (["page.shape.name=[box]"], "page.shape.name: .* is none of circle, box"),
        (["page.shape.radus=3"], "unknown key 'page.shape.radus'; did you mean 'page.shape.radius'?"),
        (["page.shape.side=3"], "unknown key 'page.shape.side'; did you mean 'page.shape.sides'?"),
        (["page.shape.radius=x"], r"page\.shape\.radius: .*'x'"),
        (["page.shape.name=box", "page.shape.sides=1,x"], r"page\.shape\.sides\.1: .*'x'"),
        (["page.shape=box"], "page.shape: a section is expected, whose key name is one of circle, box"),
        (["page.shape=3"], r"page\.shape: .*3"),
    ],
)
def test_wrong_keys_and_names_are_named(given: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        shape(*given)


def test_without_files_the_same_is_refused() -> None:
    with pytest.raises(ValueError, match="sides is a key of box; name is circle, whose keys are radius, colour"):
        Page.model_validate({"shape": {"sides": (3,)}})
    with pytest.raises(ValueError, match="is none of circle, box"):
        Page.model_validate({"shape": {"name": "star"}})


def test_a_later_name_keeps_only_the_keys_that_both_have(tmp_path: Path) -> None:
    base = write(tmp_path / "a.yaml", "page: {title: t, shape: {radius: 5, colour: green}}\n")
    assert shape("page.shape.name=box", path=base) == Box(colour="green")
    assert shape("page.shape.name=circle", path=base) == Circle(radius=5, colour="green")
    child = write(tmp_path / "b.yaml", f"base: {base}\npage: {{shape: {{name: box, sides: [7]}}}}\n")
    assert shape(path=child) == Box(sides=(7,), colour="green")
    assert shape("page.shape.sides=8", path=child) == Box(sides=(8,), colour="green")
    back = write(tmp_path / "c.yaml", f"base: {child}\npage: {{shape: {{name: circle}}}}\n")
    assert shape(path=back) == Circle(colour="green")
    assert load_config(Book, back).page.title == "t"


def test_a_mistake_in_an_earlier_layer_is_not_lost(tmp_path: Path) -> None:
    base = write(tmp_path / "a.yaml", "page: {shape: {radus: 5}}\n")
    with pytest.raises(ConfigError, match="unknown key 'page.shape.radus'"):
        shape("page.shape.name=box", path=base)
    alone = write(tmp_path / "b.yaml", "page: {shape: {name: box, radius: 5}}\n")
    with pytest.raises(ConfigError, match="radius is a key of circle; page.shape.name is box"):
        shape(path=alone)
    unnamed = write(tmp_path / "c.yaml", "page: {shape: {sides: [5]}}\n")
    with pytest.raises(ConfigError, match="sides is a key of box; page.shape.name is circle"):
        shape("page.shape.radius=2", path=unnamed)
    assert shape("page.shape.name=box", path=unnamed) == Box(sides=(5,))


def test_sections_that_were_saved_with_the_keys_of_all(tmp_path: Path) -> None:
    saved = write(tmp_path / "config.yaml", "page: {shape: {name: box, radius: 9, sides: [3], colour: red}}\n")
    assert shape(path=saved) == Box(sides=(3,), colour="red")
    with pytest.raises(ConfigError, match="radius is a key of circle"):
        shape("page.shape.radius=4", path=saved)
    assert shape("page.shape.name=circle", "page.shape.radius=4", path=saved) == Circle(radius=4, colour="red")


def test_resolved_config_reads_back_the_same(tmp_path: Path) -> None:
    config = Book(page=Page(shape=Box(sides=(4,))))
    assert load_config(Book, write(tmp_path / "x.yaml", to_yaml(config))) == config


def test_help_lists_the_keys_of_every_class(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        config_from_cli(Book, ["--help"])
    lines = capsys.readouterr().out.splitlines()
    for line in (
        "page.shape.name = circle  (circle | box)",
        "page.shape.radius = 1.0  (number)  [circle]",
        "page.shape.colour = red  (text)",
        "page.shape.sides = [1, 2]  (list of int)  [box]",
        "page.shape.colour = blue  (text)",
    ):
        assert lines.count(line) == 1, line


def test_schema_offers_every_class() -> None:
    schema = Page.model_json_schema()
    offered = schema["properties"]["shape"]["anyOf"]
    assert [part["$ref"].rpartition("/")[2] for part in offered] == ["Circle", "Box"]
    assert schema["$defs"]["Box"]["properties"]["name"]["const"] == "box"
