"""Every command line of the READMEs reaches its program, dry: the script runs, the config resolves, nothing is started."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shared.config import REPO_ROOT, ConfigError
from tests.commands import check, commands_of, expand, start

DOCS = sorted((REPO_ROOT / "docs").glob("*.md"))
READMES = (
    "README.md",
    "st_mem_modified/README.md",
    "ecg_jepa_modified/README.md",
    *(f"docs/{path.name}" for path in DOCS),
)


def place_of(readme: str) -> str:
    """Where the commands of a page are called: a package's README in the package, all else from the root."""
    folder = Path(readme).parent.as_posix()
    return "." if folder == "docs" else folder


COMMANDS = [(readme, line) for readme in READMES for line in commands_of(REPO_ROOT / readme)]
CALLS = list(dict.fromkeys((place_of(readme), call) for readme, line in COMMANDS for call in expand(line)))


def test_there_are_commands_and_the_readers_of_them_find_them() -> None:
    lines = [line for _, line in COMMANDS]
    assert any(line.startswith("bash scripts/demo.sh ") for line in lines)  # of a block
    assert "bash scripts/make_schemas.sh" in lines  # between words
    assert any("mode=finetune|linear_probe|scratch" in line for line in lines)  # of a table
    assert "cd st_mem_modified/ && bash scripts/run_inference_clusters.sh" in lines


@pytest.mark.parametrize(
    ("line", "calls"),
    [
        ("bash a.sh x=1   # once", ["bash a.sh x=1"]),
        ("bash a.sh   (no arguments)", ["bash a.sh"]),
        ("python -m {a,b}_m.x CONFIG [key=value …]", ["python -m a_m.x CONFIG", "python -m b_m.x CONFIG"]),
        ("bash a.sh root=… [features=all]", ["bash a.sh root=runs/some features=all"]),
        ("bash a.sh mode=x|y w=RUN", ["bash a.sh mode=x w=runs/some", "bash a.sh mode=y w=runs/some"]),
        ("[GPUS=0,1] bash a.sh [out=runs/s] [slurm=\"--gres gpu:1\"]", ['GPUS=0,1 bash a.sh out=runs/s slurm="--gres gpu:1"']),
        ("bash a.sh [data st_mem]", ["bash a.sh data st_mem"]),
        ("bash a.sh quantizer.levels=[8,5,5]", ["bash a.sh quantizer.levels=[8,5,5]"]),
    ],
)  # fmt: skip
def test_schematic_commands_are_expanded(line: str, calls: list[str]) -> None:
    assert [re.sub(r"\s+$", "", call) for call in expand(line)] == calls


@pytest.mark.parametrize(("folder", "call"), CALLS)
def test_command_reaches_its_program(folder: str, call: str, tmp_path: Path) -> None:
    started = start(call if not call.startswith("-m") else f"python {call}", REPO_ROOT / folder, tmp_path)
    assert started, f"{call} starts nothing"
    for argv in started:
        check(argv)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ("bash scripts/st_mem/run_pretrain.sh configs/st_mem/pretrain.yaml optim.epocs=1", ConfigError, "unknown key"),
        ("bash scripts/st_mem/run_pretrain.sh configs/st_mem/pretrain2.yaml", ConfigError, "does not exist"),
        ("bash scripts/st_mem/run_pretrain.sh configs/st_mem/vqvae.yaml", ConfigError, "is for st_mem_modified.vqvae"),
        (
            "bash scripts/st_mem/run_pretrain.sh configs/ecg_jepa/pretrain.yaml",
            ConfigError,
            "is for ecg_jepa_modified.pretrain, not for st_mem_modified.pretrain",
        ),
        ("python -m st_mem_modified.pretrian CONFIG", AssertionError, "does not exist"),
        ("bash scripts/st_mem/run_pretraining.sh", AssertionError, "No such file"),
        ("bash scripts/run.sh configs/st_mem/no.yaml", AssertionError, "does not exist"),
    ],
)
def test_a_command_that_is_wrong_is_seen(call: str, error: type[Exception], message: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=message):
        for argv in start(call, REPO_ROOT, tmp_path):
            check(argv)


@pytest.mark.parametrize("readme", READMES)
def test_configs_that_a_readme_names_exist(readme: str) -> None:
    for path in re.findall(r"configs/[\w*{},/.]+\.yaml", (REPO_ROOT / readme).read_text()):
        for one in expand(path):
            assert list(REPO_ROOT.glob(one)), f"{readme} names {one}"
