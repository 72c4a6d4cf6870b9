"""Every script is run to its end, from the root and from its package, on a copy of the checkout and a few records.

Parsing a script proves nothing: the first command of the README once failed while every test of this file passed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from shared.config import REPO_ROOT

SCRIPTS = sorted(path.relative_to(REPO_ROOT).as_posix() for path in (REPO_ROOT / "scripts").rglob("*.sh"))
SOURCED = {"scripts/launch.sh", "scripts/setup.sh"}
"""Read by the others, not called."""
METHODS = sorted(path.name for path in (REPO_ROOT / "scripts").iterdir() if (path / "run_pretrain.sh").is_file())
ARGUMENTS: dict[str, list[str]] = {
    "scripts/compare.sh": ["runs/test/st_mem", "runs/test/ecg_jepa", "out=runs/test/compared"],
    "scripts/sweep.sh": [
        "configs/test/st_mem_inference.yaml",
        "knn.k=3,5",
        "out=runs/test/sweep",
    ],
    "scripts/study.sh": ["configs/test/study.yaml"],
    "scripts/run.sh": ["configs/test/synthetic.yaml"],
    "scripts/prepare_data.sh": ["configs/test/synthetic.yaml"],
    "scripts/test.sh": ["-q", "-p", "no:cacheprovider", "tests/shared/test_leads.py"],
}
"""Of the scripts that need some; the others are called bare."""


def copy_checkout(to: Path) -> Path:
    """What a clone would hold, with the uncommitted changes; what scripts write stays in it."""
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=REPO_ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, names):
        source, target = REPO_ROOT / name, to / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink() or source.is_file():
            shutil.copy2(source, target, follow_symlinks=False)
    return to


def call(tree: Path, script: str, *arguments: str, folder: str = ".", gpus: str | None = None) -> str:
    """Run a script of the copy with SETTING=test; its output, once it ended well."""
    env = {name: value for name, value in os.environ.items() if name not in ("GPUS", "PYTHONPATH")}
    env |= {"SETTING": "test", "OMP_NUM_THREADS": "1", **({} if gpus is None else {"GPUS": gpus})}
    done = subprocess.run(
        ["bash", script, *arguments],
        cwd=tree / folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{script} in {folder} with GPUS={gpus} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_scripts_of_a_method_run_to_their_end(method: str, tmp_path: Path) -> None:
    """Bare, from the root without GPUS and from the package with it; the second finds what the first made."""
    tree = copy_checkout(tmp_path / "clone")
    scripts = [name for name in SCRIPTS if name.startswith(f"scripts/{method}/")]
    assert {"run_pretrain.sh", "run_finetune.sh", "run_inference_clusters.sh"} <= {Path(name).name for name in scripts}
    for script in scripts:
        call(tree, script)
        again = call(tree, f"scripts/{Path(script).name}", folder=f"{method}_modified", gpus="0")
        assert str(tree / "runs" / "test") in again, again
    pages = {path.parent.parent.name for path in (tree / "runs" / "test").rglob("report.html")}
    assert {method, f"{method}_finetune"} <= pages
    call(tree, f"scripts/{method}/run_inference_clusters.sh", gpus="1,0")  # evaluation takes the first of several


@pytest.mark.slow
def test_demo_and_the_scripts_that_build_on_it_run_to_their_end(tmp_path: Path) -> None:
    tree = copy_checkout(tmp_path / "clone")
    shown = call(tree, "scripts/demo.sh", "all", gpus="0")
    assert "stage 1 of 9" in shown and "stage 9 of 9: compare" in shown
    assert (tree / "runs" / "test" / "compare" / "report.html").is_file()
    for script in SCRIPTS:
        if script not in SOURCED and script.count("/") == 1 and script != "scripts/demo.sh":
            call(tree, script, *ARGUMENTS.get(script, []))
    assert (tree / "runs" / "test" / "compared" / "comparison.csv").is_file()
    assert (tree / "runs" / "test" / "sweep" / "report.html").is_file()
    assert (tree / "runs" / "test" / "study" / "report.html").is_file()
    assert list((tree / "configs" / "schemas").glob("*.json"))


@pytest.mark.slow
def test_demo_on_a_ptbxl_folder(tmp_path: Path) -> None:
    root = REPO_ROOT.parent / "shared" / "data" / "ptb-xl"
    if not root.is_dir():
        pytest.skip("the sample of PTB-XL is not beside the project")
    tree, small = copy_checkout(tmp_path / "clone"), tmp_path / "ptb-xl"
    small.mkdir()
    lines = (root / "ptbxl_database.csv").read_text().splitlines(keepends=True)
    (small / "ptbxl_database.csv").write_text("".join(lines[:151]))
    for name in ("scp_statements.csv", "records500"):
        (small / name).symlink_to(root / name)
    shown = call(tree, "../scripts/demo.sh", "ptbxl", "../../ptb-xl", folder="st_mem_modified")
    assert "stage 4 of 4: compare" in shown
    assert (tree / "runs" / "test_ptbxl" / "compare" / "report.html").is_file()


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_is_short_and_says_how_it_is_called(name: str) -> None:
    lines = [line for line in (REPO_ROOT / name).read_text().splitlines() if line.strip()]
    assert len(lines) <= 15, "a script starts programs; what is longer belongs into Python"
    assert any(line.startswith("# ") for line in lines[:3])
    assert os.access(REPO_ROOT / name, os.X_OK) or name in SOURCED


@pytest.mark.parametrize("method", METHODS)
def test_package_leads_to_the_same_scripts(method: str) -> None:
    assert (REPO_ROOT / f"{method}_modified" / "scripts").resolve() == REPO_ROOT / "scripts" / method


@pytest.mark.parametrize("folder", [".", "st_mem_modified"])
def test_scripts_fail_well_from_both_places(folder: str) -> None:
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


def test_demo_names_what_it_does_not_know() -> None:
    done = subprocess.run(
        ["bash", "scripts/demo.sh", "ptb"], cwd=REPO_ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "ptb was given; expected demo.sh [all] [ptbxl FOLDER_OF_PTB_XL]" in done.stderr
