"""The table of runs says what state each is in; the best weights of a pretraining are kept where a monitor says so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ecg_jepa_modified.config import PretrainConfig as JEPAConfig
from ecg_jepa_modified.loading import load_encoder
from ecg_jepa_modified.pretrain import pretrain as pretrain_jepa
from shared.checkpoints import find_weights, newest_checkpoint
from shared.config import REPO_ROOT, load_config
from shared.errors import UserError
from shared.evaluation.evaluate import evaluation_folder
from shared.files import hold
from shared.runs import main, summarise
from st_mem_modified.config import PretrainConfig as STMEMConfig
from st_mem_modified.pretrain import pretrain as pretrain_stmem

COMMON = ("optim.epochs=3", "optim.batch_size=80", "optim.warmup_epochs=0", "run.checkpoint_every=1")
MONITOR = ("monitor.every=1", "monitor.records=20")
JEPA = ("model.size=tiny", "model.depth=1", "model.input.seconds=2")
STMEM = (
    *("model.embed_dim=8", "model.depth=1", "model.num_heads=1", "model.head_dim=8", "model.decoder_dim=8"),
    *("model.decoder_depth=1", "model.decoder_heads=1", "model.input.seconds=1.8"),
)


def jepa(store: Path, out: Path, *settings: str) -> Path:
    overrides = (*COMMON, *MONITOR, *JEPA, f"data.store={store}", f"run.out={out}", *settings)
    return pretrain_jepa(load_config(JEPAConfig, None, overrides))


def stmem(store: Path, out: Path, *settings: str) -> Path:
    overrides = (*COMMON, *MONITOR, *STMEM, f"data.store={store}", f"run.out={out}", *settings)
    return pretrain_stmem(load_config(STMEMConfig, None, overrides))


def looks(run: Path, name: str) -> dict[int, float]:
    """Epoch to a figure of the monitor."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return {line["epoch"]: line[name] for line in lines if name in line and "epoch" in line}


@pytest.mark.parametrize(("train", "metric"), [(jepa, "knn_auroc"), (stmem, "val_loss"), (stmem, "rank")])
def test_the_best_look_keeps_its_weights(
    train: Callable[..., Path], metric: str, synthetic_store: Path, tmp_path: Path
) -> None:
    run = train(synthetic_store, tmp_path / "run", f"monitor.keep_best={metric}")
    kept = json.loads((run / "best" / "best.json").read_text())
    found = looks(run, metric)
    wanted = (min if metric == "val_loss" else max)(found.values())
    assert kept["value"] == wanted and found[kept["epoch"]] == wanted and kept["metric"] == metric
    assert find_weights(run / "best") == run / "best" / "model.safetensors"
    assert evaluation_folder(run / "best") == run / "best" / "evaluation"
    assert evaluation_folder(run) == run / "evaluation"


def test_the_best_survives_a_resume(synthetic_store: Path, tmp_path: Path) -> None:
    run = jepa(synthetic_store, tmp_path / "run", "monitor.keep_best=knn_auroc")
    expected = (run / "best" / "model.safetensors").read_bytes(), (run / "best" / "best.json").read_text()
    first = sorted((run / "checkpoints").iterdir())[0]
    for newer in sorted((run / "checkpoints").iterdir())[1:]:
        shutil.rmtree(newer)  # as if killed within the last epoch, whatever epoch the best came from
    assert newest_checkpoint(run) == first
    jepa(synthetic_store, run, "monitor.keep_best=knn_auroc")
    assert ((run / "best" / "model.safetensors").read_bytes(), (run / "best" / "best.json").read_text()) == expected
    load_encoder(run / "best")


def test_a_figure_that_there_will_not_be_is_refused_before_the_first_step(
    synthetic_store: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"keep_best=val_loss needs data\.val_folds"):
        stmem(synthetic_store, tmp_path / "run", "monitor.keep_best=val_loss", "data.val_folds=null")


def test_training_starts_from_the_weights_of_another_run(synthetic_store: Path, tmp_path: Path) -> None:
    first = stmem(synthetic_store, tmp_path / "first")
    again = stmem(synthetic_store, tmp_path / "again", f"start_from={first}", "optim.lr=1e-9")
    losses = looks(first, "val_loss"), looks(again, "val_loss")
    assert abs(losses[1][1] - losses[0][3]) < 1e-4 < abs(losses[0][1] - losses[0][3])
    with pytest.raises(UserError, match="is a run of st_mem, not of ecg_jepa"):
        jepa(synthetic_store, tmp_path / "other", f"start_from={first}")


def test_the_table_says_the_state_of_each_run(
    synthetic_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = jepa(synthetic_store, tmp_path / "runs" / "done")
    for name, ended in (("killed", None), ("stopped", "stopped: Stop: SIGTERM"), ("old", "")):
        shutil.copytree(run, run.parent / name)
        record = run.parent / name / "provenance.json"
        record.write_text(json.dumps([{"ended": ended}])) if ended != "" else record.unlink()
    (run.parent / "no run").mkdir()
    (run.parent / "loop").symlink_to(run.parent)
    capsys.readouterr()
    with hold(run.parent / "old"):
        main([str(tmp_path / "runs")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["run", "state", "step", "epoch", "best", "age", "speed"]
    states = {Path(line.split()[0]).name: line for line in lines[1:]}
    assert states.keys() == {"done", "killed", "stopped", "old"}
    for name, state in (("done", "done"), ("killed", "killed"), ("stopped", "Stop: SIGTERM"), ("old", "running")):
        assert state in states[name].split("  ", 1)[1], states[name]
    best = max(looks(run, "knn_auroc").values())
    assert f"knn_auroc {best:.4g}" in states["done"] and "3/3" in states["done"] and "ECG/s" in states["done"]
    assert summarise(run, "x").step == newest_checkpoint(run).name.removeprefix("step-").lstrip("0")  # type: ignore[union-attr]


def test_info_names_damage_and_provenance(
    synthetic_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = jepa(synthetic_store, tmp_path / "run")
    newest = newest_checkpoint(run)
    assert newest is not None
    (newest / "state.pt").write_bytes(b"")
    capsys.readouterr()
    main(["info", str(run)])
    said = capsys.readouterr().out
    assert "state.pt has other bytes than were written" in said and " whole" in said
    assert '"timm": "' in said and "start 1:" in said and "last epoch: {" in said
    for wrong, message in ((["info", str(tmp_path)], "no run folder"), (["info"], "takes one run folder")):
        with pytest.raises(UserError, match=message):
            main(wrong)
    with pytest.raises(UserError, match="is no folder"):
        main([str(tmp_path / "gone")])
    main([str(REPO_ROOT / "shared")])
    assert "no run folder" in capsys.readouterr().out
