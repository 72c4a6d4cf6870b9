"""What a resumed run is told before it trains: of changed models, other versions of the code, and folders it may not write."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from shared.checkpoints import WEIGHTS, CheckpointError, newest_checkpoint, read_weights
from shared.config import Section
from shared.errors import UserError
from shared.run import Run, RunConfig


class Toy(Section):
    run: RunConfig


def begin(out: Path, model: nn.Module, order: int = 1, **values: Any) -> Run:
    """One step and a checkpoint, or what is left of it after resuming; `order` -1 turns the optimizer's parameters round."""
    config = RunConfig(out=out, device="cpu", **values)
    with Run(config, Toy(run=config), "toy") as run:
        wrapped = run.wrap(model)
        optimizer = torch.optim.AdamW(list(model.parameters())[::order], 0.1)
        if run.resume(model, optimizer=optimizer) == 0:
            if not values.get("compile"):
                wrapped(torch.randn(8, 4)).square().mean().backward()
            run.update(model, optimizer, None)
            run.checkpoint()
    return run


def other_commit(out: Path) -> None:
    """Have the last start of a run be that of another version."""
    entries = json.loads((out / "provenance.json").read_text())
    entries[-1] |= {"commit": "f00dbabe" * 5, "packages": {**entries[-1]["packages"], "torch": "1.0"}}
    (out / "provenance.json").write_text(json.dumps(entries))


def test_another_version_of_the_code_is_said_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begin(tmp_path, nn.Linear(4, 2))
    begin(tmp_path, nn.Linear(4, 2))
    assert "commit" not in capsys.readouterr().out
    other_commit(tmp_path)
    assert begin(tmp_path, nn.Linear(4, 2)).step == 1
    said = capsys.readouterr().out
    assert "It was written by commit f00dbabef0 with torch 1.0; this is " in said and "Steps from here on" in said


def test_a_changed_model_is_refused_with_the_versions(tmp_path: Path) -> None:
    begin(tmp_path, nn.Linear(4, 2))
    other_commit(tmp_path)
    told = (
        r"(?s)does not fit Sequential.*missing: 0\.weight.*The model has changed since\. It was written by commit f00d"
    )
    with pytest.raises(CheckpointError, match=told + ".*start_from=RUN"):
        begin(tmp_path, nn.Sequential(nn.Linear(4, 2)))


@pytest.mark.parametrize("parameters", ["fewer", "another order"])
def test_an_optimizer_of_other_parameters_is_refused(tmp_path: Path, parameters: str) -> None:
    begin(tmp_path, nn.Linear(4, 2))
    model = nn.Linear(4, 2)
    if parameters == "fewer":
        model.bias.requires_grad_(False)
        config = RunConfig(out=tmp_path, device="cpu")
        with (
            pytest.raises(CheckpointError, match="state of optimizer does not fit"),
            Run(config, Toy(run=config), "toy") as run,
        ):
            run.resume(model, optimizer=torch.optim.AdamW([model.weight], 0.1))
    else:
        with pytest.raises(CheckpointError, match=r"exp_avg of parameter 0 has shape \(2, 4\) for \(2,\)"):
            begin(tmp_path, model, order=-1)


def test_a_compiled_model_writes_plain_names(tmp_path: Path) -> None:
    begin(tmp_path, nn.Sequential(nn.Linear(4, 2)), compile=True)
    newest = newest_checkpoint(tmp_path)
    assert newest is not None and set(read_weights(newest / WEIGHTS)[0]) == {"0.weight", "0.bias"}
    assert begin(tmp_path, nn.Sequential(nn.Linear(4, 2))).step == 1


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user may write, which `tmp_path` is not where root runs the tests."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    for path in folder.rglob("*"):
        path.chmod(0o700)
    shutil.rmtree(folder)


@pytest.mark.parametrize("what", ["", "checkpoints", "figures", "log.jsonl"])
def test_a_folder_without_permission_is_refused_before_training(open_folder: Path, what: str) -> None:
    out = open_folder / "run"
    begin(out, nn.Linear(4, 2))
    (out / "figures").mkdir()
    for path in (out, *out.rglob("*")):
        path.chmod(0o777)
    (out / what).chmod(0o555)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads; nothing here waits for one
        child = os.fork()
    if child == 0:  # root may write anywhere: be someone else
        code = 1
        try:
            if os.getuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            begin(out, nn.Linear(4, 2))
        except UserError as error:
            told = str(error)
            code = 7 if told.startswith(f"{out / what} cannot be written: ") and "another run.out" in told else 8
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert len(json.loads((out / "provenance.json").read_text())) == 1
