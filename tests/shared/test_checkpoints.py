"""Weights come back exactly, with their config; anything else is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import shared.checkpoints
from shared.checkpoints import (
    WEIGHTS,
    CheckpointError,
    find_weights,
    load_state,
    newest_checkpoint,
    read_released,
    read_weights,
    save_weights,
)

CONFIG = {"model": {"depth": 2, "lr": 5e-4, "leads": ["I", "II"], "none": None}}


def model(width: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_weights(tmp_path / WEIGHTS, model().state_dict(), "toy", CONFIG)
    return tmp_path / WEIGHTS


def test_round_trip_is_exact(tmp_path: Path) -> None:
    state = {**model().state_dict(), "half": torch.randn(3).bfloat16(), "transposed": torch.randn(3, 5).T}
    save_weights(tmp_path / WEIGHTS, state, "toy", CONFIG)
    got, method, config = read_weights(tmp_path / WEIGHTS)
    assert (method, config) == ("toy", CONFIG)
    assert got.keys() == state.keys()
    for name, value in state.items():
        assert got[name].dtype == value.dtype
        assert torch.equal(got[name], value)


def test_failure_while_writing_leaves_the_former_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full(_tensors: object, path: Path, **_: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shared.checkpoints, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        save_weights(saved, model().state_dict(), "toy", CONFIG)
    assert saved.read_bytes() == before


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda _: b"", lambda _: b"not safetensors at all"])
def test_damaged_file_is_refused(saved: Path, damage: object) -> None:
    saved.write_bytes(damage(saved.read_bytes()))  # type: ignore[operator]
    with pytest.raises(CheckpointError, match=r"model\.safetensors is not a readable safetensors file"):
        read_weights(saved)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="gone"):
        read_weights(tmp_path / "gone.safetensors")


def test_foreign_safetensors_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match="carries no config"):
        read_weights(tmp_path / "foreign.safetensors")


def checkpoint(run: Path, step: int) -> Path:
    folder = run / "checkpoints" / f"step-{step:08d}"
    folder.mkdir(parents=True)
    save_weights(folder / WEIGHTS, model().state_dict(), "toy", CONFIG)
    return folder


def test_weights_are_found_from_run_checkpoint_or_file(tmp_path: Path) -> None:
    checkpoint(tmp_path, 9)
    newest = checkpoint(tmp_path, 100)
    for given in (tmp_path, str(tmp_path), newest, newest / WEIGHTS):
        assert find_weights(given) == newest / WEIGHTS


def test_newest_is_by_number_not_by_name(tmp_path: Path) -> None:
    checkpoint(tmp_path, 99_999_999)
    newest = checkpoint(tmp_path, 100_000_000)
    assert newest_checkpoint(tmp_path) == newest


def test_half_written_checkpoint_is_never_taken(tmp_path: Path) -> None:
    whole = checkpoint(tmp_path, 1)
    partial = whole.with_name(".step-00000002.partial")
    partial.mkdir()
    (partial / WEIGHTS).write_bytes(b"half")
    assert newest_checkpoint(tmp_path) == whole
    assert find_weights(tmp_path) == whole / WEIGHTS


def test_nothing_there_says_what_was_looked_for(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(CheckpointError, match=r"holds no weights.*model\.safetensors"):
            find_weights(place)


def test_complete_match_loads(capsys: pytest.CaptureFixture[str]) -> None:
    source, target = model(), model()
    load_state(target, source.state_dict(), "file.pth", verbose=True)
    assert all(
        torch.equal(a, b) for a, b in zip(source.state_dict().values(), target.state_dict().values(), strict=True)
    )
    total = len(source.state_dict())
    assert f"file.pth: {total} matched, 0 missing, 0 unexpected, 0 wrong shape" in capsys.readouterr().out


def broken(state: dict[str, Tensor]) -> dict[str, Tensor]:
    del state["0.bias"]
    return {**state, "0.weight": torch.zeros(9, 9), "extra": torch.zeros(1)}


def test_anything_less_is_refused_and_nothing_is_loaded() -> None:
    target = model()
    before = {name: value.clone() for name, value in target.state_dict().items()}
    with pytest.raises(CheckpointError) as error:
        load_state(target, broken(model().state_dict()), "file.pth")
    text = str(error.value)
    assert "file.pth does not fit Sequential: 5 matched, 1 missing, 1 unexpected, 1 wrong shape" in text
    for said in ("missing: 0.bias", "unexpected: extra", "wrong shape: 0.weight (file (9, 9), model (3, 4))"):
        assert said in text
    assert all(torch.equal(before[name], value) for name, value in target.state_dict().items())


def test_long_lists_are_cut_and_counted() -> None:
    with pytest.raises(CheckpointError, match=r"k0, .*k7, … 4 more"):
        load_state(nn.Identity(), {f"k{i}": torch.zeros(1) for i in range(12)}, "file.pth")


@pytest.mark.parametrize("nest", [lambda s: {"model": s, "epoch": 3}, lambda s: {"encoder": s}, lambda s: s])
def test_released_file_nested_or_bare(tmp_path: Path, nest: object) -> None:
    state = dict(model().state_dict())
    torch.save(nest(state), tmp_path / "released.pth")  # type: ignore[operator]
    got = read_released(tmp_path / "released.pth")
    assert all(torch.equal(got[name], value) for name, value in state.items())


class Unsafe:
    """Stands for any pickled object."""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"model": {}, "epoch": 3}, "neither under 'model' or 'encoder'"),
        ([1, 2], "no state dict"),
        ({"model": Unsafe()}, "weights_only=True"),
        (b"damaged", "weights_only=True"),
        (b"", "weights_only=True: EOFError"),
        ({1: torch.zeros(2)}, r"no state dict \(names to tensors\)"),
    ],
)
def test_released_file_that_is_no_state_dict(tmp_path: Path, content: object, said: str) -> None:
    path = tmp_path / "released.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match=rf"released\.pth.*{said}"):
        read_released(path)


def test_released_file_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.pth does not exist"):
        read_released(tmp_path / "gone.pth")
