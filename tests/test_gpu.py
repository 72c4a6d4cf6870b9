"""What only a GPU can show: nothing waits within a step, kernels agree, runs resume exactly. Skipped without one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from ecg_jepa_modified.cropa import cropa_attention, cropa_reference
from shared.benchmark.config import BenchmarkConfig
from shared.benchmark.steps import Case, Trainer
from shared.benchmark.workload import all_models
from shared.data.spec import InputSpec
from shared.data.transforms import Preprocess, butterworth
from shared.nn import full_products
from shared.optim import OptimConfig, make_optimizer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.filterwarnings("default"),
]


@contextmanager
def no_waiting() -> Iterator[None]:
    """An error where the host waits for the device."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def trainer(name: str, tmp_path: Path, compiled: bool = False, variant: str = "plain") -> Trainer:
    case = Case("step", name, "tiny", None, 8, "bf16", compiled, variant)
    return Trainer(case, BenchmarkConfig(out=tmp_path, device="cuda"), all_models()[name])


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", ["st_mem", "ecg_jepa", "ecg_jepa_hybrid"])
def test_a_step_never_waits(name: str, compiled: bool, tmp_path: Path) -> None:
    train = trainer(name, tmp_path, compiled)
    for _ in range(8):  # every mask: what is to be compiled is
        train.step()
    with no_waiting():
        for _ in range(8):
            train.step()


@pytest.mark.parametrize("variant", ["plain", "recompute=true", "cropa=flex", "cropa=masked"])
@pytest.mark.parametrize("compiled", [False, True])
def test_every_variant_trains(compiled: bool, variant: str, tmp_path: Path) -> None:
    train = trainer("ecg_jepa", tmp_path, compiled, variant)
    for _ in range(3):
        train.step()
    assert all(p.isfinite().all() for p in train.model.parameters())


def test_the_optimizer_is_one_kernel_and_takes_a_cpus_state(tmp_path: Path) -> None:
    assert all(group["fused"] for group in trainer("st_mem", tmp_path).optimizer.param_groups)
    on_cpu, on_gpu = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4).cuda()
    on_gpu.load_state_dict(on_cpu.state_dict())
    first, second = make_optimizer(on_cpu, OptimConfig()), make_optimizer(on_gpu, OptimConfig())
    for _ in range(2):
        for model, optimizer in ((on_cpu, first), (on_gpu, second)):
            model(torch.ones(2, 4, device=next(model.parameters()).device)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        second.load_state_dict(first.state_dict())
    torch.testing.assert_close(on_gpu.weight.cpu(), on_cpu.weight, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("how", ["grid", "flex", "masked"])
@pytest.mark.parametrize("times", [50, 17, 3])
def test_kernels_of_cropa_agree(how: str, times: int) -> None:
    generator = torch.Generator("cuda").manual_seed(0)
    draw = {"generator": generator, "device": "cuda", "dtype": torch.float64}
    exact = [torch.randn(2, 4, 8, times, 48, **draw).requires_grad_() for _ in range(3)]  # type: ignore[arg-type]
    ours = [tokens.detach().float().requires_grad_() for tokens in exact]
    with full_products():
        out, expected = cropa_attention(*ours, how), cropa_reference(*exact)
        out.square().sum().backward()
        expected.square().sum().backward()
    torch.testing.assert_close(out.double(), expected, rtol=1e-2, atol=1e-2)
    for a, b in zip(ours, exact, strict=True):
        assert a.grad is not None and b.grad is not None
        torch.testing.assert_close(a.grad.double(), b.grad, rtol=2e-2, atol=2e-2)


def test_the_filter_is_scipys_also_where_training_takes_tf32() -> None:
    torch.set_float32_matmul_precision("high")
    spec = InputSpec(seconds=9.0, highpass=0.67, lowpass=40.0)
    ecg = torch.randn(4, 12, spec.num_samples, generator=torch.Generator().manual_seed(0)) * 2
    with torch.autocast("cuda", torch.bfloat16):
        ours: Any = Preprocess(spec).cuda()(ecg.cuda())
    torch.testing.assert_close(
        ours.cpu().double(), torch.from_numpy(butterworth(ecg.double().numpy(), spec)), rtol=0, atol=1e-4
    )
    assert torch.get_float32_matmul_precision() == "high"
