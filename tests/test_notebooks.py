"""Notebooks are kept without outputs (so that a diff shows what changed, and no page shows numbers of another day) and run here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from shared.config import REPO_ROOT
from tests.commands import check, commands_of, expand, start

NOTEBOOKS = sorted((REPO_ROOT / "notebooks").glob("*.ipynb"))
FOUND = """
import json
paths = [str(path) for path in (store.path, run, page)]
print(json.dumps({"paths": paths, "shape": embeddings.shape, "finite": bool(np.isfinite(embeddings).all()),
    "apart": float(np.abs(embeddings[0] - embeddings[1]).max()), "off": float(np.abs(again - embeddings).max()),
    "rows": len(scores), "ordered": bool((scores.low <= scores.value).all() and (scores.value <= scores.high).all())}))
"""
"""A cell after the last one: what the notebook found."""


def read(path: Path) -> Any:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def text_of(cell: Any) -> str:
    return "".join(output.get("text", "") for output in cell.outputs if output.get("name") == "stdout")


def test_there_is_a_notebook() -> None:
    assert REPO_ROOT / "notebooks" / "first_steps.ipynb" in NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_kept_without_outputs(path: Path) -> None:
    notebook = read(path)
    for cell in notebook.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None and not cell.metadata, cell.id
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert notebook.metadata == {"kernelspec": kernel, "language_info": {"name": "python"}}


def test_outputs_are_seen_before_a_commit(tmp_path: Path) -> None:
    """The hook's own command, on a notebook as it is and on one that ran."""
    hooks = (REPO_ROOT / ".pre-commit-config.yaml").read_text()
    command = re.search(r"id: notebooks\n.*?entry: (python -c .*?)\n", hooks, re.DOTALL)
    assert command is not None
    notebook = read(NOTEBOOKS[0])
    for count, expected in ((None, 0), (3, 1)):
        next(cell for cell in notebook.cells if cell.cell_type == "code").execution_count = count
        nbformat.write(notebook, tmp_path / "x.ipynb")
        done = subprocess.run(["bash", "-c", f"{command[1]} x.ipynb"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == expected, done.stderr
    assert "x.ipynb holds outputs" in done.stderr


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_commands_it_names_reach_their_programs(path: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("\n\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown"))
    calls = [call for line in commands_of(page) for call in expand(line)]
    calls = [call for call in calls if "setup.sh" not in call]
    assert len(calls) > 3
    for i, call in enumerate(calls):
        (tmp_path / str(i)).mkdir()
        started = start(call, REPO_ROOT, tmp_path / str(i))
        assert started, f"{call} starts nothing"
        for argv in started:
            check(argv)


@pytest.mark.slow
def test_first_steps_run_from_top_to_bottom(tmp_path: Path) -> None:
    notebook = read(REPO_ROOT / "notebooks" / "first_steps.ipynb")
    notebook.cells.append(nbformat.v4.new_code_cell(FOUND))
    nbformat.write(notebook, tmp_path / "with_found.ipynb")
    before = written()
    # Whatever a kernel, IPython or the notebook writes goes below the test's folder.
    env = {name: str(tmp_path) for name in ("TMPDIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR")}
    env |= {"PYTHONPATH": str(REPO_ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(REPO_ROOT / "tests" / "run_notebook.py"), "with_found.ipynb", "out.ipynb"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | env, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]

    cells = {cell.id: cell for cell in read(tmp_path / "out.ipynb").cells if cell.cell_type == "code"}
    *_, last = cells.values()
    found = json.loads(text_of(last))
    assert found["shape"] == [6, 64] and found["finite"] and found["apart"] > 0.01
    assert found["off"] < 0.01  # the same ECG in another unit and order
    assert found["rows"] == 6 and found["ordered"]
    assert all(Path(path).is_relative_to(tmp_path) for path in found["paths"])
    refusals = text_of(cells["check"])
    for refused in ("it is transposed", "as uV they would be", "did you mean 'aVR'"):
        assert refused in refusals
    verdicts = re.findall(r"differs from random by .*: (.*)", text_of(cells["verdict"]))
    assert len(verdicts) == 2 and set(verdicts) <= {"better than random", "worse than random", "no difference is shown"}
    assert any("image/png" in output.get("data", {}) for output in cells["ecg"].outputs)
    loud = [out.text for cell in cells.values() for out in cell.outputs if out.get("name") == "stderr"]
    assert loud == []
    assert written() == before


def written() -> set[Path]:
    """What lies beside the notebooks, and beside the YAMLs that this one reads."""
    return {path for folder in ("notebooks", "configs") for path in (REPO_ROOT / folder).rglob("*")}
