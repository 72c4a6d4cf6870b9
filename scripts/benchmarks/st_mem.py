"""An ST-MEM `base` training step against the machine's own float32 matrix-product rate (bf16 on a GPU).

FLOPs are counted by torch; the step and the plain product are timed in turn, several times, and medians are compared.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from shared.optim import make_optimizer
from st_mem_modified.config import ModelConfig, Optim
from st_mem_modified.model import STMEM, draw_noise


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call, the device drained before and after."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    """Print FLOPs, both rates, their ratio and peak memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="base")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    torch.manual_seed(0)
    config = ModelConfig.model_validate({"size": options.size})
    model = STMEM(config).to(device)
    optimizer = make_optimizer(model, Optim())
    ecg = torch.randn(options.batch, 12, config.input.num_samples, device=device)
    generator = torch.Generator(device).manual_seed(0)

    def step() -> None:
        noise = draw_noise(options.batch, 12, config.num_patches, generator)
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            loss = model(ecg, noise).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    # Counted with the plain attention kernel, whose two products the counter sees.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        step()
    flops = counter.get_total_flops()
    side = 2048 if device.type == "cpu" else 8192
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    timed(lambda: left @ right, device)
    timed(step, device)
    products, steps = [], []
    for _ in range(options.rounds):
        products.append(statistics.median(timed(lambda: left @ right, device) for _ in range(5)))
        steps.append(timed(step, device))
    plain = 2 * side**3 / statistics.median(products)
    achieved = flops / statistics.median(steps)
    peak = (
        torch.cuda.max_memory_allocated()
        if device.type == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    print(f"{options.size}, batch {options.batch}, {dtype}, {device}: {flops / 1e9:.1f} GFLOP a step (counted)")
    print(
        f"step {statistics.median(steps):.3f} s -> {achieved / 1e9:.1f} GFLOP/s; plain {side}^3 product {plain / 1e9:.1f} GFLOP/s"
    )
    print(f"ratio {achieved / plain:.1%} (target >= 75 % on a CPU); peak memory {peak / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()
