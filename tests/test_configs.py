"""Every YAML loads with its class, says what it is and how to run it, and names no place of one machine."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

import ecg_jepa_modified.config
import ecg_jepa_modified.finetune
import ecg_jepa_modified.triplet
import st_mem_modified.config
import st_mem_modified.finetune
import st_mem_modified.triplet
from shared.config import REPO_ROOT, ConfigError, Section, load_config
from shared.data.prepare import choose_config
from shared.evaluation.config import EvaluateConfig
from st_mem_modified.vqvae.config import VQTrainConfig

CLASSES: dict[str, type[Section] | Callable[[Mapping[str, Any]], type[Section]]] = {
    "configs/data/*.yaml": choose_config,
    "configs/[dt]e[ms][ot]/synthetic*.yaml": choose_config,
    "configs/st_mem/pretrain*.yaml": st_mem_modified.config.PretrainConfig,
    "configs/[dt]e[ms][ot]/st_mem_pretrain*.yaml": st_mem_modified.config.PretrainConfig,
    "configs/st_mem/inference*.yaml": EvaluateConfig,
    "configs/st_mem/finetune*.yaml": st_mem_modified.finetune.FinetuneConfig,
    "configs/st_mem/linear_probe*.yaml": st_mem_modified.finetune.FinetuneConfig,
    "configs/[dt]e[ms][ot]/st_mem_finetune*.yaml": st_mem_modified.finetune.FinetuneConfig,
    "configs/[dt]e[ms][ot]/st_mem_inference*.yaml": EvaluateConfig,
    "configs/st_mem/triplet*.yaml": st_mem_modified.triplet.TripletConfig,
    "configs/[dt]e[ms][ot]/st_mem_triplet*.yaml": st_mem_modified.triplet.TripletConfig,
    "configs/st_mem/vqvae*.yaml": VQTrainConfig,
    "configs/[dt]e[ms][ot]/st_mem_vqvae*.yaml": VQTrainConfig,
    "configs/st_mem/masked_tokens*.yaml": st_mem_modified.config.PretrainConfig,
    "configs/[dt]e[ms][ot]/st_mem_masked_tokens*.yaml": st_mem_modified.config.PretrainConfig,
    "configs/ecg_jepa/pretrain*.yaml": ecg_jepa_modified.config.PretrainConfig,
    "configs/[dt]e[ms][ot]/ecg_jepa_pretrain*.yaml": ecg_jepa_modified.config.PretrainConfig,
    "configs/ecg_jepa/inference*.yaml": EvaluateConfig,
    "configs/ecg_jepa/finetune*.yaml": ecg_jepa_modified.finetune.FinetuneConfig,
    "configs/ecg_jepa/linear_probe*.yaml": ecg_jepa_modified.finetune.FinetuneConfig,
    "configs/[dt]e[ms][ot]/ecg_jepa_finetune*.yaml": ecg_jepa_modified.finetune.FinetuneConfig,
    "configs/[dt]e[ms][ot]/ecg_jepa_inference*.yaml": EvaluateConfig,
    "configs/ecg_jepa/triplet*.yaml": ecg_jepa_modified.triplet.TripletConfig,
    "configs/[dt]e[ms][ot]/ecg_jepa_triplet*.yaml": ecg_jepa_modified.triplet.TripletConfig,
    "configs/ablations/hybrid_*.yaml": ecg_jepa_modified.config.PretrainConfig,
    "configs/[dt]e[ms][ot]/ecg_jepa_hybrid_pretrain*.yaml": ecg_jepa_modified.config.PretrainConfig,
    "configs/[dt]e[ms][ot]/ecg_jepa_hybrid_inference*.yaml": EvaluateConfig,
}
"""File-name pattern → the class that reads it; a new kind of YAML gets its line here."""

CONFIGS = sorted(path.relative_to(REPO_ROOT).as_posix() for path in (REPO_ROOT / "configs").rglob("*.y*ml"))


def class_of(name: str) -> type[Section] | Callable[[Mapping[str, Any]], type[Section]]:
    found = [config_class for pattern, config_class in CLASSES.items() if fnmatch.fnmatchcase(name, pattern)]
    assert len(found) == 1, f"{name} matches {len(found)} patterns of CLASSES"
    return found[0]


def opening(name: str) -> str:
    """The comment lines a file begins with."""
    lines = (REPO_ROOT / name).read_text().splitlines()
    first = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "\n".join(lines[:first])


def test_there_are_configs() -> None:
    assert {"configs/data/ptbxl.yaml", "configs/demo/st_mem_pretrain.yaml"} <= set(CONFIGS)


@pytest.mark.parametrize("pattern", CLASSES)
def test_every_pattern_is_used(pattern: str) -> None:
    assert fnmatch.filter(CONFIGS, pattern)


@pytest.mark.parametrize("name", CONFIGS)
def test_config_loads_with_its_class(name: str) -> None:
    config = load_config(class_of(name), name)
    assert isinstance(config, Section)


@pytest.mark.parametrize("name", CONFIGS)
def test_config_refuses_an_unknown_key(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown key 'no_such_key'"):
        load_config(class_of(name), name, ["no_such_key=1"])


@pytest.mark.parametrize("name", CONFIGS)
def test_config_opens_with_what_it_is_its_command_and_what_to_expect(name: str) -> None:
    text = opening(name)
    assert len(text.splitlines()) >= 2
    command = re.search(r"^# Command: +(.+)$", text, re.MULTILINE)
    assert command, f"{name} names no command"
    script = re.search(r"bash (\S+\.sh)", command[1])
    if script:
        assert (REPO_ROOT / script[1]).is_file(), f"{name} names {script[1]}, which does not exist"
    else:
        module = re.search(r"python -m (\S+)", command[1])
        assert module, f"{name}: {command[1]!r} is neither a script nor a module"
        assert (REPO_ROOT / module[1].replace(".", "/")).with_suffix(".py").is_file()
    for mentioned in re.findall(r"configs/\S+\.yaml", text):
        assert (REPO_ROOT / mentioned).is_file(), f"{name} names {mentioned}, which does not exist"


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
