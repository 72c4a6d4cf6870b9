"""Every script is short, valid bash, says how it is called, and is reached from the root and from its package."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from shared.config import REPO_ROOT

SCRIPTS = sorted((REPO_ROOT / "scripts").rglob("*.sh"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.relative_to(REPO_ROOT).as_posix())
def test_script_is_short_and_valid(script: Path) -> None:
    lines = [line for line in script.read_text().splitlines() if line.strip()]
    assert len(lines) <= 20, "a script starts programs; what is longer belongs into Python"
    assert any(line.startswith("# ") for line in lines[:3])
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert os.access(script, os.X_OK) or script.name == "launch.sh"


@pytest.mark.parametrize("package", ["st_mem_modified", "ecg_jepa_modified"])
def test_package_leads_to_the_same_scripts(package: str) -> None:
    own = (REPO_ROOT / package / "scripts").resolve()
    assert own == REPO_ROOT / "scripts" / package.removesuffix("_modified")
    assert {"run_pretrain.sh", "run_inference_clusters.sh"} <= {path.name for path in own.iterdir()}


@pytest.mark.parametrize("folder", [".", "st_mem_modified"])
def test_scripts_run_from_both_places_and_fail_well(folder: str) -> None:
    """Reaches the program from either folder: a wrong key is named, with exit code 2."""
    script = "scripts/st_mem/run_pretrain.sh" if folder == "." else "scripts/run_pretrain.sh"
    result = subprocess.run(
        ["bash", script, "optim.epocs=3"], cwd=REPO_ROOT / folder, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2, result.stderr
    assert "unknown key 'optim.epocs'; did you mean 'optim.epochs'?" in result.stderr


def test_config_given_relative_to_the_callers_folder() -> None:
    result = subprocess.run(
        ["bash", "scripts/run_pretrain.sh", "../configs/st_mem/pretrain.yaml", "data.store=nowhere", "run.device=cpu"],
        cwd=REPO_ROOT / "st_mem_modified",
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert f"{REPO_ROOT / 'nowhere'} is not a store" in result.stderr
