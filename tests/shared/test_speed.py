"""Precision and compilation are decided once, by the device and the run in the folder, and change no result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ecg_jepa_modified.config import MaskConfig
from ecg_jepa_modified.config import ModelConfig as JEPAConfig
from ecg_jepa_modified.masking import draw_mask
from ecg_jepa_modified.model import ECGJEPA
from shared import speed
from shared.config import ConfigError, Section, load_config
from shared.optim import OptimConfig, make_optimizer
from shared.run import Run, RunConfig
from st_mem_modified.config import ModelConfig, PretrainConfig
from st_mem_modified.model import STMEM, draw_noise


class Toy(Section):
    run: RunConfig


def make_run(out: Path, **values: Any) -> Run:
    config = RunConfig(out=out, device="cpu", **values)
    return Run(config, Toy(run=config), "toy")


def st_mem(**values: Any) -> tuple[nn.Module, list[Any]]:
    torch.manual_seed(0)
    config = ModelConfig.model_validate({"size": "tiny", "depth": 2, "input": {"seconds": 1.8}, **values})
    generator = torch.Generator().manual_seed(0)
    ecg = torch.randn(2, 12, 450, generator=generator)
    return STMEM(config), [ecg, draw_noise(2, 12, config.num_patches, generator)]


def ecg_jepa(**values: Any) -> tuple[nn.Module, list[Any]]:
    torch.manual_seed(0)
    config = JEPAConfig.model_validate({"size": "tiny", "depth": 2, "input": {"seconds": 2}, **values})
    generator = torch.Generator().manual_seed(0)
    ecg = torch.randn(2, 8, 500, generator=generator)
    return ECGJEPA(config), [ecg, draw_mask(MaskConfig(), config.num_patches, generator)]


MODELS = {"st_mem": st_mem, "ecg_jepa": ecg_jepa}

# ---------------------------------------------------------------- precision


def test_auto_is_written_as_what_it_became_and_kept(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        assert run.config.precision == "fp32" and run.amp_dtype is None
        assert run.resolved.run.precision == "fp32"  # type: ignore[attr-defined]
        run.save(nn.Linear(1, 1), 0)
    assert "precision: fp32" in (tmp_path / "config.yaml").read_text()


def test_a_run_goes_on_in_the_precision_it_was_begun_in(tmp_path: Path) -> None:
    with make_run(tmp_path, precision="bf16") as run:
        run.save(nn.Linear(1, 1), 0)
    with make_run(tmp_path) as run:
        assert run.amp_dtype is torch.bfloat16
    assert make_run(tmp_path, overwrite=True).amp_dtype is None
    assert make_run(tmp_path, precision="fp32").config.precision == "fp32"  # refused by the folder, once it is entered


def test_on_cuda_a_new_run_is_bf16_where_the_gpu_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for can, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, can=can: can)
        assert speed.default_precision(torch.device("cuda")) == expected
    assert speed.default_precision(torch.device("cpu")) == "fp32"


# ---------------------------------------------------------------- compilation


@pytest.mark.parametrize(
    ("how", "device", "lacking", "compiled"),
    [
        ("auto", "cpu", None, False),
        ("auto", "cuda", None, True),
        ("auto", "cuda", "there is no Triton", False),
        (True, "cpu", None, True),
        ("reduce-overhead", "cuda", "there is no Triton", True),
    ],
)
def test_what_is_compiled(
    how: Any, device: str, lacking: str | None, compiled: bool,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    model, _ = st_mem()
    called: list[Any] = []
    monkeypatch.setattr(speed, "lacks", lambda _: lacking)
    monkeypatch.setattr(STMEM, "compile", lambda _, mode: called.append(mode))
    speed.compile_model(model, how, torch.device(device))
    assert called == ([how if how == "reduce-overhead" else None] if compiled else [])
    assert ("not compiled, as there is no Triton" in capsys.readouterr().out) == (how == "auto" and lacking is not None)
    if how == "auto" and compiled:  # another model only where it is asked for
        speed.compile_model(nn.Linear(1, 1), how, torch.device(device))
        assert len(called) == 1


@pytest.mark.parametrize("name", MODELS)
def test_recomputed_gradients_are_the_same_to_the_bit(name: str) -> None:
    found = []
    for recompute in (False, True):
        model, inputs = MODELS[name](recompute=recompute, drop_path=0.5)
        model.train()
        torch.manual_seed(1)  # drop path is drawn
        terms = model(*inputs)
        terms.loss.backward()
        found.append([terms.loss, *(p.grad for p in model.parameters() if p.grad is not None)])
    assert len(found[0]) > 20
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


# ---------------------------------------------------------------- nothing waits for the device


class Reads(TorchDispatchMode):
    """Operations whose result the host must wait for on a GPU: a number read, or a size that depends on values."""

    WAITING = ("_local_scalar_dense", "nonzero", "item", "masked_select", "unique", "equal")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().split("::")[1].split(".")[0]
        indices = args[1] if name.startswith("index") and isinstance(args[1], list) else []
        chosen = any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)
        if chosen or any(name.startswith(one) for one in self.WAITING):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("clip_grad", [None, 1.0])
@pytest.mark.parametrize("name", MODELS)
def test_a_step_reads_nothing_of_the_device(name: str, clip_grad: float | None, tmp_path: Path) -> None:
    """Forward, backward, norm, clipping and the teacher; ECG-JEPA's mask is read, on the CPU, where it was drawn."""
    model, inputs = MODELS[name]()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)  # on a CPU AdamW reads its own step, fused on CUDA it does not
    with make_run(tmp_path) as run, Reads() as reads:
        loss = model(*inputs).loss
        loss.backward()
        norm = run.update(model, optimizer, clip_grad)
        if isinstance(model, ECGJEPA):
            model.update_target(0.9)
    of_the_mask = ["_local_scalar_dense"] if name == "ecg_jepa" else []
    assert reads.found == of_the_mask * len(reads.found) and len(reads.found) <= 3
    assert norm.ndim == 0 and loss.isfinite()


def test_the_norm_is_the_one_before_clipping(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        for clip in (None, 1.0):
            layer = nn.Linear(3, 1, bias=False)
            before = layer.weight.detach().clone()
            layer(torch.full((1, 3), 2.0)).sum().backward()
            norm = run.update(layer, torch.optim.SGD(layer.parameters(), 1.0), clip)
            assert float(norm) == pytest.approx(12**0.5)
            assert float((before - layer.weight.detach()).norm()) == pytest.approx(
                12**0.5 if clip is None else 1.0, rel=1e-5
            )


# ---------------------------------------------------------------- optimizer and its bad input


def test_a_checkpoint_does_not_bring_another_devices_way_of_computing() -> None:
    layer = nn.Linear(2, 2)
    mine = make_optimizer(layer, OptimConfig())
    layer(torch.ones(1, 2)).sum().backward()
    mine.step()
    saved = mine.state_dict()
    mine.load_state_dict({**saved, "param_groups": [{**group, "fused": True} for group in saved["param_groups"]]})
    assert [group["fused"] for group in mine.param_groups] == [None] * len(mine.param_groups)


def test_micro_batch_above_the_batch_is_refused(tmp_path: Path) -> None:
    settings = [f"run.out={tmp_path}", "data.store=nowhere", "optim.batch_size=8", "optim.micro_batch=9"]
    with pytest.raises(ConfigError, match="micro_batch 9 is above batch_size 8, of which it is a part"):
        load_config(PretrainConfig, None, settings)
