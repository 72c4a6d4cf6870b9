"""Running the points of a sweep: GPUs, failures, Slurm, and a sweep of a pretraining from its start to its table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

import shared.evaluation.study.job
from shared.data.store import ECGStore
from shared.errors import UserError
from shared.evaluation.study.job import is_done
from shared.jobs import execute
from shared.sweep.__main__ import main
from shared.sweep.check import check_points, resolve
from shared.sweep.grid import parse
from shared.sweep.running import run_here
from tests.shared.sweep.planted import in_process, run_in_process, stand_in_sbatch, sweep_of


def test_each_point_gets_one_gpu_and_one_that_fails_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []

    def note(_command: object, log: Path, gpu: str | None) -> bool:
        seen.append(gpu)
        if log.stem == "k=2":
            raise PermissionError("no such program may be started")
        log.write_text("broken\n")
        (tmp_path / "sweep" / log.stem).mkdir()
        (tmp_path / "sweep" / log.stem / "summary.json").write_text("{}")
        return log.stem != "k=3"

    monkeypatch.setenv("GPUS", "0,3")
    monkeypatch.setattr(shared.evaluation.study.job, "execute", note)
    sweep = parse(sweep_of(tmp_path, "knn.k=1,2,3,4"))
    checked, _ = check_points(sweep, sweep.points)
    assert run_here(sweep, checked) == ["k=2", "k=3"]
    assert len(seen) == 4 and set(seen) <= {"0", "3"}


def test_the_gpu_reaches_the_process(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    assert execute(["bash", "-c", "echo gpu=$CUDA_VISIBLE_DEVICES"], log, "3")
    assert "gpu=3" in log.read_text()
    assert not execute(["false"], log, None)


def test_slurm_gets_an_array_and_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = stand_in_sbatch(tmp_path, monkeypatch)
    with pytest.raises(UserError, match="k=0: "):
        main(sweep_of(tmp_path, "knn.k=1,2,0", "slurm=--gres gpu:1"))
    assert not calls.exists()  # a bad point is found before anything is submitted
    main(sweep_of(tmp_path, "knn.k=1,2,3", "choose=knn/auroc/A", "slurm=--gres gpu:1"))
    array, table, _ = calls.read_text().split("--\n")
    assert "--array=0-2" in array.splitlines() and {"--gres", "gpu:1"} <= set(array.splitlines())
    assert (
        "knn.k=1,2,3" in array
        and "choose=knn/auroc/A" in array
        and "point=$SLURM_ARRAY_TASK_ID" in array
        and "slurm=" not in array
    )
    assert "--dependency=afterany:77" in table.splitlines() and "table=true" in table


def test_points_of_an_array_and_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the jobs of the array run, in turn: each one point, the last the table."""
    run_in_process(monkeypatch)
    argv, out = sweep_of(tmp_path, "encoder.leads=I,V1"), tmp_path / "sweep"
    with pytest.raises(UserError, match="no point below .* has scores yet: no table"):
        main([*argv, "table=true"])
    for number, name in enumerate(("leads=I", "leads=V1")):
        with pytest.raises(SystemExit) as end:
            main([*argv, f"point={number}"])
        assert end.value.code == 0 and (out / name / "report.html").is_file()
        assert (out / "leads=V1").exists() == bool(number) and not (out / "report.html").exists()
    (tmp_path / "store").rename(tmp_path / "moved")  # a table needs the scores alone
    with pytest.raises(SystemExit) as end:
        main([*argv, "table=true"])
    assert end.value.code == 0
    assert list(pd.read_csv(out / "sweep.csv")["encoder.leads"]) == ["I", "V1"]


def test_sweep_of_a_pretraining_from_start_to_table(
    synthetic_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two settings train and are evaluated, a third breaks on its way; the same command does not train again."""
    config, evaluation = tmp_path / "mine.yaml", tmp_path / "inference.yaml"
    config.write_text(
        f"program: st_mem_modified.pretrain\nrun: {{out: unused}}\ndata: {{store: {synthetic_store}}}\n"
        "model: {size: tiny, embed_dim: 16, depth: 1, num_heads: 1, head_dim: 16, decoder_dim: 16, decoder_heads: 1,\n"
        "  input: {num_samples: 450}}\noptim: {epochs: 1, batch_size: 80, warmup_epochs: 0}\n"
    )
    evaluation.write_text(
        f"store: {synthetic_store}\ntask: superclass\nresamples: 20\nmin_positives: 1\nprotocols: [knn]\nknn: {{k: 5}}\n"
    )
    commands: list[Sequence[str]] = []

    def run(command: Sequence[str], log: Path, gpu: str | None) -> bool:
        commands.append(command)
        return log.stem != "mask_ratio=0.6" and in_process(command, log, gpu)

    run_in_process(monkeypatch)
    monkeypatch.setattr(shared.evaluation.study.job, "execute", run)
    argv = [str(config), "model.mask_ratio=0.5,0.6,0.7", f"evaluate={evaluation}", f"out={tmp_path / 'sweep'}"]
    (tmp_path / "sweep" / "logs").mkdir(parents=True)
    (tmp_path / "sweep" / "logs" / "mask_ratio=0.6.txt").write_text("out of memory\n")
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 1
    shown = capsys.readouterr().out
    assert "mask_ratio=0.6: FAILED" in shown and "out of memory" in shown
    assert "1 of 3 points failed: mask_ratio=0.6" in shown
    table = pd.read_csv(tmp_path / "sweep" / "sweep.csv").set_index("model.mask_ratio")
    assert table.loc[[0.5, 0.7], "validation_value"].notna().all() and "no scores, see" in table.state[0.6]
    about = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert about["axes"]["model.mask_ratio"] == ["0.5", "0.6", "0.7"] and about["choose"] == "knn/auroc_macro"
    assert [command[2] for command in commands].count("st_mem_modified.evaluate") == 2
    trained = (tmp_path / "sweep" / "mask_ratio=0.5" / "log.jsonl").read_text()
    with pytest.raises(SystemExit):
        main(argv)
    assert (tmp_path / "sweep" / "mask_ratio=0.5" / "log.jsonl").read_text() == trained
    assert [command[2] for command in commands].count("st_mem_modified.evaluate") == 2
    sweep, store = parse(argv), ECGStore(synthetic_store).fingerprint
    assert is_done(resolve(sweep, sweep.points[0]), store)
    evaluation.write_text(evaluation.read_text().replace("k: 5", "k: 7"))  # other scores are asked for: they are made
    assert not is_done(resolve(sweep, sweep.points[0]), store)
