"""Time CroPA over the grid against a dense mask with an explicit softmax, in the model of the published size.

    python scripts/benchmarks/ecg_jepa.py [--batch 8] [--repeats 5] [--size base]

Both versions run the same weights through the same code; only the encoders' attention differs (the predictor's does
not), so the ratios are CroPA's alone. They take turns, so that other load on the machine falls on both. Seconds and the
first ratio are medians over the turns; the second ratio is between the fastest turns, as other load only ever adds
time. On CUDA both run under bf16 autocast. Score memory is that of CroPA's reference path; the fused path of the CPU
holds no scores at all. The last table is a training step of the hybrid model, 19 rows, against the plain one's 8.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ecg_jepa_modified.config import MaskConfig, ModelConfig
from ecg_jepa_modified.cropa import cropa_reference
from ecg_jepa_modified.masking import draw_mask
from ecg_jepa_modified.model import ECGJEPA
from shared.measurements.catalog import FEATURES
from shared.nn import Attend

TARGETS = {"training step": 1.25, "encoding": 1.4, "score memory": 6.0}
HYBRID_TARGET = 19 / 8


class PlainECGJEPA(ECGJEPA):
    """The same model with dense attention in both encoders: all S × S scores, those outside the pattern masked away."""

    def use_plain_attention(self) -> None:
        """Attend densely from now on."""
        for encoder in (self.encoder, self.target_encoder):
            encoder.attend = self.plain_attend  # type: ignore[method-assign]

    def use_cropa(self) -> None:
        """Attend over the grid from now on."""
        for encoder in (self.encoder, self.target_encoder):
            encoder.__dict__.pop("attend", None)

    def plain_attend(self, num_leads: int) -> Attend:
        """Dense attention for a flat sequence `[B, H, S, head_dim]` of `num_leads` rows."""
        masks: dict[int, Tensor] = {}  # one per forward pass, not one per block

        def over_all(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            tokens = torch.arange(q.shape[2], device=q.device)
            num_times = len(tokens) // num_leads
            if num_times not in masks:
                lead, moment = tokens // num_times, tokens % num_times
                masks[num_times] = (lead[:, None] == lead) | (moment[:, None] == moment)  # [S, S]
            scores = (q @ k.transpose(-2, -1)) / math.sqrt(q.shape[-1])
            weights = scores.masked_fill(~masks[num_times], -math.inf).softmax(-1)
            return weights.to(v.dtype) @ v

        return over_all


class ScoreBytes(TorchDispatchMode):
    """Counts the bytes of the attention probabilities that the softmax calls materialise."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation; count a softmax's output."""
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._softmax.default:
            self.total += out.numel() * out.element_size()
        return out


def main() -> None:
    """Print the table; the last column says what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--size", default="base", choices=["base", "small", "tiny"])
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    model = PlainECGJEPA(ModelConfig(size=args.size))
    model.to(device).train()
    generator = torch.Generator().manual_seed(0)
    ecg = torch.randn(args.batch, 8, 2500, generator=generator).to(device)
    # Multi-block masks hide about 59 % of the times; both versions of a turn see the same one.
    masks = [draw_mask(MaskConfig(), 50, generator) for _ in range(args.repeats + 1)]

    train = trainer(model, ecg, masks)

    def encode(_: int) -> Tensor:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            return model.target_encoder.embed(ecg)

    print(f"ECG-JEPA {args.size}, batch {args.batch}, {describe(device)}, torch {torch.__version__}")
    print(f"largest difference of the two encodings: {check_equal(model, encode):.1e}")
    rows = {name: compare(run, model, args.repeats) for name, run in (("training step", train), ("encoding", encode))}
    dense = model.plain_attend(len(model.config.input.leads))
    plain_mib = score_bytes(lambda *qkv: dense(*(t.flatten(2, 3) for t in qkv)), model.config, args.batch)
    grid_mib = score_bytes(cropa_reference, model.config, args.batch)
    print(f"{'':16}{'dense mask':>14}{'CroPA grid':>14}{'ratio':>9}{'fastest':>9}{'asked':>9}")
    for name, (plain, ours) in rows.items():
        ratios = [a / b for a, b in zip(plain, ours, strict=True)]
        seconds = f"{statistics.median(plain):12.3f} s{statistics.median(ours):12.3f} s"
        both = f"{statistics.median(ratios):8.2f}×{min(plain) / min(ours):8.2f}×"
        print(f"{name:16}{seconds}{both}{TARGETS[name]:8.2f}×   turns: {', '.join(f'{r:.2f}' for r in ratios)}")
    sizes = f"{plain_mib:10.1f} MiB{grid_mib:10.1f} MiB{plain_mib / grid_mib:8.2f}×"
    print(f"{'score memory':16}{sizes}{'':9}{TARGETS['score memory']:8.2f}×")
    print(f"{'':16}{'plain, 8 rows':>14}{'hybrid, 19':>14}{'ratio':>9}{'fastest':>9}{'at most':>9}")
    plain, ours = compare_hybrid(args.size, ecg, masks)
    ratios = [b / a for a, b in zip(plain, ours, strict=True)]
    seconds = f"{statistics.median(plain):12.3f} s{statistics.median(ours):12.3f} s"
    both = f"{statistics.median(ratios):8.2f}×{min(ours) / min(plain):8.2f}×"
    print(f"{'training step':16}{seconds}{both}{HYBRID_TARGET:8.2f}×   turns: {', '.join(f'{r:.2f}' for r in ratios)}")


def trainer(model: ECGJEPA, ecg: Tensor, masks: list[Tensor]) -> Callable[[int], None]:
    """A function of the turn that makes one optimizer step."""
    students = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(students, lr=1e-5, weight_decay=0.05, fused=True)

    def train(turn: int) -> None:
        with torch.autocast(ecg.device.type, torch.bfloat16, enabled=ecg.device.type == "cuda"):
            loss = model(ecg, masks[turn])["loss"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        model.update_target(0.996)

    return train


def compare_hybrid(size: str, ecg: Tensor, masks: list[Tensor]) -> tuple[list[float], list[float]]:
    """Seconds of a training step of the plain and of the hybrid model, in turns; every twentieth measurement is missing."""
    plain = ECGJEPA(ModelConfig.model_validate({"size": size})).to(ecg.device).train()
    hybrid = ECGJEPA(ModelConfig.model_validate({"size": size, "input": {"features": "all"}}))
    features = torch.rand(len(ecg), len(FEATURES), ecg.shape[2])
    features.masked_fill_(torch.rand(features.shape[:2])[..., None] < 0.05, torch.nan)
    for encoder in (hybrid.encoder, hybrid.target_encoder):
        encoder.get_submodule("feature_embed.scaler").fit([features.numpy()])  # type: ignore[operator]
    runs = [
        trainer(plain, ecg, masks),
        trainer(hybrid.to(ecg.device).train(), torch.cat([ecg, features.to(ecg.device)], dim=1), masks),
    ]
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(len(masks)):
        for which in (0, 1) if turn % 2 else (1, 0):
            seconds[which].append(timed(runs[which], turn))
    return seconds[0][1:], seconds[1][1:]


def compare(run: Callable[[int], Any], model: PlainECGJEPA, repeats: int) -> tuple[list[float], list[float]]:
    """Seconds of every turn of the plain version and of ours; turn 0 warms up and is left out."""
    plain: list[float] = []
    ours: list[float] = []
    versions = [(model.use_plain_attention, plain), (model.use_cropa, ours)]
    for turn in range(repeats + 1):
        # The order alternates, so that neither version always finds the other's caches.
        for use, seconds in versions if turn % 2 else versions[::-1]:
            use()
            seconds.append(timed(run, turn))
    return plain[1:], ours[1:]


def timed(run: Callable[[int], Any], turn: int) -> float:
    """Seconds of one run, the device's queue included."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    run(turn)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def check_equal(model: PlainECGJEPA, encode: Callable[[int], Tensor]) -> float:
    """Largest difference between the embeddings of the two versions."""
    model.use_plain_attention()
    plain = encode(0)
    model.use_cropa()
    return (plain - encode(0)).abs().max().item()


def score_bytes(attend: Callable[[Tensor, Tensor, Tensor], Tensor], config: ModelConfig, batch: int) -> float:
    """MiB of attention probabilities in one block of an encoder that sees every patch, float32."""
    shape = (batch, config.num_heads, len(config.input.leads), config.num_patches, config.embed_dim // config.num_heads)
    q = torch.randn(shape)
    with ScoreBytes() as count:
        attend(q, q, q)
    return count.total / 2**20


def describe(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name()}, bf16 autocast"
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "CPU")
    return f"{name}, {torch.get_num_threads()} threads, float32"


if __name__ == "__main__":
    main()
