"""Sweeps: the grid and its names, which program runs the points, running points, what fails, Slurm, and the table at the end."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pandas as pd
import pytest

import shared.sweep
from shared.errors import UserError
from shared.sweep import execute, main, parse, run_here, split_values


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1,2", ["1", "2"]),
        ("[0.1,0.2]", ["[0.1,0.2]"]),
        ("[1,2],[3]", ["[1,2]", "[3]"]),
        ("{a: 1, b: 2},null", ["{a: 1, b: 2}", "null"]),
        ("a, b,", ["a", "b"]),
    ],
)
def test_values(text: str, values: list[str]) -> None:
    assert split_values(text) == values


def test_grid_and_names() -> None:
    sweep = parse(["configs/st_mem/pretrain.yaml", "optim.lr=1e-3,1e-4", "model.mask_ratio=0.5,0.75", "optim.epochs=2"])
    assert [sweep.name(point) for point in sweep.points] == [
        "lr=1e-3,mask_ratio=0.5", "lr=1e-3,mask_ratio=0.75", "lr=1e-4,mask_ratio=0.5", "lr=1e-4,mask_ratio=0.75",
    ]  # fmt: skip
    assert all(point["optim.epochs"] == "2" for point in sweep.points)
    assert sweep.program == "st_mem_modified.pretrain"
    assert sweep.evaluate == "configs/st_mem/inference_clusters.yaml"
    twins = parse(["configs/st_mem/pretrain.yaml", "a.x=1,2", "b.x=3,4"])
    assert twins.name(twins.points[0]) == "a.x=1,b.x=3"


def test_program_comes_from_the_yaml_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "triplet_vqvae.yaml").write_text("base: configs/ecg_jepa/pretrain.yaml\noptim:\n  epochs: 2\n")
    sweep = parse([str(tmp_path / "triplet_vqvae.yaml"), "optim.lr=1,2"])
    assert (sweep.program, sweep.scorer) == ("ecg_jepa_modified.pretrain", "ecg_jepa_modified.evaluate")
    assert sweep.evaluate == "configs/ecg_jepa/inference_clusters.yaml"
    assert parse(["configs/st_mem/vqvae_finetune.yaml", "optim.lr=1,2"]).program == "st_mem_modified.vqvae"


def test_a_yaml_without_program_is_refused_or_told_one(tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text("optim:\n  epochs: 2\n")
    argv = [str(tmp_path / "old.yaml"), "optim.lr=1,2"]
    with pytest.raises(
        UserError, match=r"old\.yaml does not say which program .*`program: NAME`.*st_mem_modified\.vqvae"
    ):
        parse(argv)
    told = parse([*argv, "program=st_mem_modified.pretrain"])
    assert told.program == "st_mem_modified.pretrain"
    assert all(point["program"] == told.program for point in told.points)  # the points are told as well


def test_bad_sweeps(tmp_path: Path) -> None:
    cases = {
        "one config is expected, 0 given": ["optim.lr=1,2"],
        "one config is expected, 2 given": ["a.yaml", "b.yaml", "x=1,2"],
        "does not exist": ["configs/st_mem/no.yaml", "x=1,2"],
        "two points or more": ["configs/st_mem/pretrain.yaml", "optim.lr=1"],
        "give each value once": ["configs/st_mem/pretrain.yaml", "optim.lr=1,1"],
        "has no value": ["configs/st_mem/pretrain.yaml", "optim.lr=", "x=1,2"],
        "no shared.evaluate to give them": ["configs/data/synthetic.yaml", "fs=250,500"],
        "unknown program 'st_mem_modified.pretrian'; did you mean 'st_mem_modified.pretrain'": [
            "configs/st_mem/pretrain.yaml",
            "program=st_mem_modified.pretrian",
            "x=1,2",
        ],
    }
    for message, argv in cases.items():
        with pytest.raises(UserError, match=message):
            parse(argv)
    with pytest.raises(UserError, match="no sbatch on this machine"):
        main(["configs/st_mem/pretrain.yaml", "optim.lr=1,2", f"out={tmp_path}", "slurm=--gres gpu:1"])
    with pytest.raises(UserError, match="point 5 of a sweep of 2"):
        main(["configs/st_mem/pretrain.yaml", "optim.lr=1,2", f"out={tmp_path}", "point=5"])


def test_each_point_gets_one_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []

    def note(_command: object, _log: Path, gpu: str | None) -> bool:
        seen.append(gpu)
        return False

    monkeypatch.setenv("GPUS", "0,3")
    monkeypatch.setattr(shared.sweep, "execute", note)
    sweep = parse(["configs/st_mem/pretrain.yaml", "optim.lr=1,2,3,4", f"out={tmp_path}"])
    for name in map(sweep.name, sweep.points):
        (tmp_path / "logs").mkdir(exist_ok=True)
        (tmp_path / "logs" / f"{name}.txt").write_text("broken\n")
    assert not run_here(sweep)
    assert len(seen) == 4 and set(seen) <= {"0", "3"}


def test_the_gpu_reaches_the_process(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    assert execute(["bash", "-c", "echo gpu=$CUDA_VISIBLE_DEVICES"], log, "3")
    assert "gpu=3" in log.read_text()
    assert not execute(["false"], log, None)


def test_slurm_gets_an_array_and_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "bin" / "sbatch"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" "--" >> {tmp_path}/calls\necho 77\n')
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    main(["configs/st_mem/pretrain.yaml", "optim.lr=1,2,3", f"out={tmp_path / 'sweep'}", "slurm=--gres gpu:1"])
    array, table, _ = (tmp_path / "calls").read_text().split("--\n")
    assert "--array=0-2" in array.splitlines() and {"--gres", "gpu:1"} <= set(array.splitlines())
    assert "optim.lr=1,2,3" in array and "point=$SLURM_ARRAY_TASK_ID" in array and "slurm=" not in array
    assert "--dependency=afterany:77" in table.splitlines() and "table=true" in table


def test_sweep_of_a_pretraining_ends_in_a_table(
    synthetic_store: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two settings train and are evaluated, a third fails by its value; the same command does not train again."""
    config, evaluation = tmp_path / "mine.yaml", tmp_path / "inference.yaml"
    config.write_text(
        f"program: st_mem_modified.pretrain\nrun: {{out: unused}}\ndata: {{store: {synthetic_store}}}\n"
        "model: {size: tiny, embed_dim: 16, depth: 1, num_heads: 1, head_dim: 16, decoder_dim: 16, decoder_heads: 1,\n"
        "  input: {num_samples: 450}}\noptim: {epochs: 1, batch_size: 80, warmup_epochs: 0}\n"
    )
    evaluation.write_text(
        f"store: {synthetic_store}\ntask: superclass\nresamples: 20\nmin_positives: 1\nknn: {{k: 5}}\n"
    )
    argv = [str(config), "model.mask_ratio=0.5,0.7,7", f"evaluate={evaluation}", f"out={tmp_path / 'sweep'}"]
    with pytest.raises(SystemExit) as exit_info:
        main(argv)
    assert exit_info.value.code == 1
    text = capfd.readouterr().out
    assert "mask_ratio=7: FAILED" in text and "less than 1" in text
    table = pd.read_csv(tmp_path / "sweep" / "compare" / "comparison.csv")
    assert {"ST-MEM (mask_ratio=0.5)", "ST-MEM (mask_ratio=0.7)"} <= set(table.row)
    assert json.loads((tmp_path / "sweep" / "sweep.json").read_text())["axes"]["model.mask_ratio"] == [
        "0.5",
        "0.7",
        "7",
    ]
    trained = (tmp_path / "sweep" / "mask_ratio=0.5" / "log.jsonl").read_text()
    with pytest.raises(SystemExit):
        main(argv)
    assert (tmp_path / "sweep" / "mask_ratio=0.5" / "log.jsonl").read_text() == trained


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["=1,2"], "'=1,2': no key"),
        (["optim.lr=1,2", "optim.lr=3"], "'optim.lr=3': the key stands twice"),
        (["optim.betas=[1,2"], "bracket without its partner"),
        (["optim.lr=1]],2"], "bracket without its partner"),
        (["optim.lr=1,2", "point=one"], "point one of a sweep of 2 points"),
        (["optim.lr=1,2", "point=2"], "point 2 of a sweep of 2 points"),
        (["optim.lr=1,2", "slurm='"], "slurm=.*No closing quotation"),
        (["optim.lr=" + ",".join(["1" * 300, "2"])], "Vary fewer keys"),
        ([f"k{i}=1,2" for i in range(64)], "more than 1000: give fewer values"),
        (["optim.lr=1,2", "out=" + "x" * 300], "is no path"),
    ],
)
def test_broken_arguments(argv: list[str], message: str, tmp_path: Path) -> None:
    out = [] if argv[-1].startswith("out=") else [f"out={tmp_path}"]
    with pytest.raises(UserError, match=message):
        main(["configs/st_mem/pretrain.yaml", *argv, *out])
