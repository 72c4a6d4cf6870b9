"""Every YAML says its program and loads with its class, says what it is and how to run it, and names no place of one machine."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.config import REPO_ROOT, ConfigError, Section
from shared.programs import all_programs, program_of
from shared.schemas import main as write_schemas
from tests.commands import check, expand, load_program, start, yamls

CONFIGS = list(yamls())


def opening(name: str) -> str:
    """The comment lines a file begins with."""
    lines = (REPO_ROOT / name).read_text().splitlines()
    first = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "\n".join(lines[:first])


def command_of(name: str) -> str:
    """What a YAML says after `# Command:`."""
    found = re.search(r"^# Command: +(.+)$", opening(name), re.MULTILINE)
    return found[1] if found else ""


def test_there_are_configs() -> None:
    assert {"configs/data/ptbxl.yaml", "configs/demo/st_mem_pretrain.yaml"} <= set(CONFIGS)


def test_every_program_has_a_config() -> None:
    assert {program_of(name) for name in CONFIGS} == set(all_programs())


@pytest.mark.parametrize("name", CONFIGS)
def test_config_says_its_program_and_loads_with_its_class(name: str) -> None:
    config = load_program(program_of(name), name, [])
    assert isinstance(config, Section)
    with pytest.raises(ConfigError, match="unknown key 'no_such_key'"):
        load_program(program_of(name), name, ["no_such_key=1"])


@pytest.mark.parametrize("name", [name for name in CONFIGS if name.startswith("configs/ablations/")])
def test_ablation_is_a_base_and_what_differs_whatever_its_name(name: str, tmp_path: Path) -> None:
    values = yaml.safe_load((REPO_ROOT / name).read_text())
    assert values["run"] == {"out": f"runs/ablations/{Path(name).stem}"}
    copy = tmp_path / "anything at all.yaml"
    copy.write_text((REPO_ROOT / name).read_text())
    assert load_program(program_of(str(copy)), str(copy), []) == load_program(program_of(name), name, [])
    base = load_program(program_of(name), values["base"], []).model_dump()
    ours = load_program(program_of(name), name, []).model_dump()
    assert ours["run"].pop("out") != base["run"].pop("out")
    assert ours != base, f"{name} changes nothing of {values['base']}"


def test_an_old_yaml_without_program_still_loads(tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text("run:\n  out: runs/x\ndata:\n  store: data/x\n")
    load_program("st_mem_modified.pretrain", str(tmp_path / "old.yaml"), [])


def test_schemas_know_what_every_yaml_says(tmp_path: Path) -> None:
    """Also that the first line of each leads to its own."""
    write_schemas([str(tmp_path)])
    assert {path.stem for path in tmp_path.glob("*.json")} == set(all_programs())
    for name in CONFIGS:
        program, values = program_of(name), yaml.safe_load((REPO_ROOT / name).read_text())
        line = (REPO_ROOT / name).read_text().splitlines()[0]
        target = os.path.relpath(REPO_ROOT / "configs" / "schemas" / f"{program}.json", (REPO_ROOT / name).parent)
        assert line == f"# yaml-language-server: $schema={target}", name
        schema = json.loads((tmp_path / f"{program}.json").read_text())
        parts = schema.get("$defs", {})
        wholes = [parts[one["$ref"].split("/")[-1]] for one in schema["anyOf"]] if "anyOf" in schema else [schema]
        assert any(set(values) <= set(whole["properties"]) for whole in wholes), f"{name} has keys that no schema knows"
        for whole in (*wholes, *parts.values()):
            assert "required" not in whole  # a base may hold it
        for whole in wholes:
            assert whole["additionalProperties"] is False
            assert whole["properties"]["program"]["const"] == program
            assert "base" in whole["properties"]


@pytest.mark.parametrize("name", CONFIGS)
def test_config_opens_with_what_it_is_its_command_and_what_to_expect(name: str) -> None:
    text = opening(name)
    assert len(text.splitlines()) >= 2
    assert command_of(name), f"{name} names no command"
    for mentioned in re.findall(r"configs/\S+\.yaml", text):
        assert (REPO_ROOT / mentioned).is_file(), f"{name} names {mentioned}, which does not exist"


@pytest.mark.parametrize("command", sorted({command_of(name) for name in CONFIGS}))
def test_command_of_a_config_reads_that_config(command: str, tmp_path: Path) -> None:
    (call,) = expand(command)
    read = {check(argv) for argv in start(call, REPO_ROOT, tmp_path)}
    of = {name for name in CONFIGS if command_of(name) == command}
    assert of <= read, f"{call} does not read {of - read}"


@pytest.mark.parametrize("name", CONFIGS)
def test_config_has_no_absolute_path(name: str) -> None:
    def strings(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [s for key, child in value.items() for s in (*strings(key), *strings(child))]
        if isinstance(value, list):
            return [s for child in value for s in strings(child)]
        return [value] if isinstance(value, str) else []

    for text in strings(yaml.safe_load((REPO_ROOT / name).read_text())):
        assert not Path(text).is_absolute(), f"{name}: {text}"
        assert not text.startswith("~"), f"{name}: {text}"
