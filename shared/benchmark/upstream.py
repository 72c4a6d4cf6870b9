"""The published implementations, imported from folders that the user gives and timed in turns with ours.

Nothing of them is in this project. What is called is written down here and checked before anything is timed; a version with
another face is refused. The published recipes are kept: eager mode and AdamW, under the same autocast as ours.
"""

from __future__ import annotations

import importlib
import inspect
import statistics
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shared.benchmark.config import BenchmarkConfig
from shared.benchmark.steps import Case, Trainer
from shared.benchmark.timing import repeats, timed
from shared.benchmark.workload import Maker
from shared.config import repo_path
from shared.errors import UserError

EXPECTED = {
    "st_mem": ("models.st_mem", "st_mem_vit_base_dec256d4b", ("kwargs",)),
    "ecg_jepa": ("ecg_jepa", "ecg_jepa", ("encoder_embed_dim", "encoder_depth", "encoder_num_heads", "mask_type")),
}
"""Method → module, function that makes the `base` model, and arguments that it must have."""
SETTINGS: dict[str, dict[str, Any]] = {
    "st_mem": {"seq_len": 2250, "patch_size": 75, "num_leads": 12, "norm_pix_loss": True},
    "ecg_jepa": {
        "encoder_embed_dim": 768, "encoder_depth": 12, "encoder_num_heads": 16, "predictor_embed_dim": 384,
        "predictor_depth": 6, "predictor_num_heads": 12, "drop_path_rate": 0.1, "mask_scale": (0.175, 0.225),
        "mask_type": "block", "pos_type": "sincos", "c": 8, "p": 50, "t": 50,
    },
}  # fmt: skip


@contextmanager
def importing_from(folder: Path, top: str) -> Iterator[None]:
    """Its modules come first, for so long; what it imported is forgotten, so that `models` of another folder can follow."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            found = getattr(sys.modules[name], "__file__", None)
            if name.split(".")[0] == top or (found and Path(found).is_relative_to(folder)):
                del sys.modules[name]


def load_published(method: str, given: Path) -> nn.Module:
    """The published `base` model.

    Raises:
        UserError: no such folder, or not the module or function that is expected there.
    """
    folder = repo_path(given)
    module, name, needed = EXPECTED[method]
    place = f"{folder / (module.replace('.', '/') + '.py')}"
    expected = f"upstream_{method}={given}: expected a checkout of the published code, with {name}(…) in {place}"
    if not Path(place).is_file():
        raise UserError(f"{expected}; there is no such file.")
    with importing_from(folder, module.split(".")[0]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        try:
            make = getattr(importlib.import_module(module), name)
        except Exception as error:  # whatever their code raises while it is imported
            raise UserError(f"{expected}; importing it failed: {type(error).__name__}: {error}") from None
        lacking = [one for one in needed if one not in inspect.signature(make).parameters]
        if lacking and "kwargs" not in inspect.signature(make).parameters:
            raise UserError(f"{expected}; it takes no {', '.join(lacking)}, so it is another version.")
        try:
            model = make(**SETTINGS[method])
        except Exception as error:
            raise UserError(f"{expected}; calling it failed: {type(error).__name__}: {error}") from None
    if not isinstance(model, nn.Module):
        raise UserError(f"{expected}; it made a {type(model).__name__}, not a torch module.")
    return model


def published_step(method: str, model: nn.Module, batch: int, ours: Trainer) -> Callable[[], float]:
    """One step of the published training; its loss is checked once.

    Raises:
        UserError: it gives no loss.
    """
    device = ours.run.device
    model = model.to(device).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, weight_decay=0.05)
    ecg = (
        torch.rand(batch, 12, 2250, device=device) if method == "st_mem" else torch.rand(batch, 8, 2500, device=device)
    )

    def loss_of() -> Tensor:
        out = model(ecg)
        return out["loss"] if isinstance(out, dict) else out

    def step() -> float:
        optimizer.zero_grad()
        with ours.run.autocast():
            loss = loss_of()
        loss.backward()
        optimizer.step()
        if method == "ecg_jepa":
            with torch.no_grad():
                for student, teacher in zip(model.encoder.parameters(), model.target_encoder.parameters(), strict=True):  # type: ignore[union-attr]
                    teacher.mul_(0.996).add_(0.004 * student)
        return 0.0

    try:
        first = loss_of()
        fine = isinstance(first, Tensor) and first.ndim == 0 and first.requires_grad
    except Exception as error:
        raise UserError(f"upstream_{method}: a training step failed: {type(error).__name__}: {error}") from None
    if not fine:
        raise UserError(f"upstream_{method}: calling the model on {list(ecg.shape)} gave no scalar loss to train on.")
    return step


def measure_upstream(config: BenchmarkConfig, models: dict[str, Maker]) -> list[dict[str, Any]]:
    """Rows: ours and theirs at `base` in turns, ECG/s of both and their ratio."""
    assert config.batches and config.precisions and config.modes
    rows = []
    for method, folder in (("st_mem", config.upstream_st_mem), ("ecg_jepa", config.upstream_ecg_jepa)):
        if folder is None:
            continue
        theirs_model = load_published(method, folder)
        for batch in config.batches:
            case = Case("step", method, "base", None, batch, config.precisions[0], config.modes[-1] == "compiled")
            try:
                ours = Trainer(case, config, models[method])
                theirs = published_step(method, theirs_model, batch, ours)
                device, least = ours.run.device, config.min_seconds
                times = [(work, repeats(work, least, device)) for work in (ours.step, theirs)]
                turns = [[timed(work, n, device) for work, n in times] for _ in range(config.rounds)]
            except torch.OutOfMemoryError:
                break
            own, published = (statistics.median(column) for column in zip(*turns, strict=True))
            ratio = statistics.median(b / a for a, b in turns)
            found = {"ecg_per_s": batch / own, "published_ecg_per_s": batch / published, "times_published": ratio}
            rows.append({"part": "upstream", "model": method, "size": "base", "batch": batch,
                         "precision": case.precision, "compiled": case.compiled, **found})  # fmt: skip
    return rows
