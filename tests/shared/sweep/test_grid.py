"""The grid of a sweep: values, names, which program runs the points, and command lines that are no sweep."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import UserError
from shared.sweep.__main__ import main
from shared.sweep.grid import OWN, parse, split_values


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


def test_bad_sweeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # a machine without Slurm
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
        (["optim.lr=1,2", "show_test=yes"], "show_test=yes: expected true or false"),
        (["optim.lr=1,2", "table=1"], "table=1: expected true or false"),
        (["optim.lr=" + ",".join(["1" * 300, "2"])], "Vary fewer keys"),
        ([f"k{i}=1,2" for i in range(64)], "more than 1000: give fewer values"),
        (["optim.lr=1,2", "out=" + "x" * 300], "is no path"),
    ],
)
def test_broken_arguments(argv: list[str], message: str, tmp_path: Path) -> None:
    out = [] if argv[-1].startswith("out=") else [f"out={tmp_path}"]
    with pytest.raises(UserError, match=message):
        main(["configs/st_mem/pretrain.yaml", *argv, *out])


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    shown = capsys.readouterr().out
    assert {"choose", "show_test", "slurm", "point", "table", "out", "evaluate"} == set(OWN)
    assert all(f"\n{name}=…  " in shown for name in OWN)
