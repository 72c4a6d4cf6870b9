"""A compiled training is the eager one, in a handful of graphs, and goes on exactly where it stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch._dynamo.utils import counters

import ecg_jepa_modified.config
import ecg_jepa_modified.pretrain
from ecg_jepa_modified.config import MaskConfig
from ecg_jepa_modified.masking import draw_mask
from ecg_jepa_modified.model import ECGJEPA
from shared import speed
from shared.benchmark.workload import all_models
from shared.checkpoints import WEIGHTS, newest_checkpoint, read_weights
from shared.config import load_config
from shared.epochs import Stop
from shared.run import Run

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")]
"""The warnings are the compiler's own."""


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def compiled_with(counter: CompileCounter, monkeypatch: pytest.MonkeyPatch) -> None:
    """`run.compile` with a backend that counts graphs and runs them as they are."""
    plain = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self, mode=None: plain(self, backend=counter, mode=mode))


@pytest.mark.parametrize("name", ["ecg_jepa", "ecg_jepa_hybrid"])
def test_all_lengths_of_masks_are_two_graphs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The teacher, and student with predictor: 25 masks of many lengths add none; validation has its own."""
    counter = CompileCounter()
    compiled_with(counter, monkeypatch)
    values = {"size": "tiny", "depth": 1, "predictor_depth": 1, "drop_path": 0}
    model, eager = (all_models()[name](values).model.train() for _ in range(2))
    eager.load_state_dict(model.state_dict())
    assert isinstance(model, ECGJEPA)
    config = model.config
    speed.compile_model(model, True, torch.device("cpu"))
    generator, lengths = torch.Generator().manual_seed(0), set()
    ecg = torch.randn(3, len(config.rows), 2500, generator=generator)
    for step in range(25):
        mask = draw_mask(MaskConfig(), config.num_patches, generator)
        lengths.add(int(mask.sum()))
        loss = model(ecg, mask).loss
        loss.backward()
        if step % 8 == 0:
            torch.testing.assert_close(loss, eager(ecg, mask).loss)
    assert len(lengths) > 5
    assert counter.frame_count <= 3, counter.frame_count
    trained = counter.frame_count
    model.eval()
    for batch in (4, 4, 2):  # validation: another size, and a smaller last part
        with torch.no_grad():
            model(torch.randn(batch, len(config.rows), 2500, generator=generator), mask)
    model.train()
    model(ecg, draw_mask(MaskConfig(), config.num_patches, generator)).loss.backward()
    assert counter.frame_count <= trained + 5, counter.frame_count


def train(store: Path, out: Path, how: str, stop_after: int | None = None) -> list[float]:
    """The demo's training at its smallest; weights of its last checkpoint as one list of numbers."""
    config = load_config(ecg_jepa_modified.config.PretrainConfig, "configs/test/ecg_jepa_pretrain.yaml", [
        f"run.out={out}", f"data.store={store}", "run.device=cpu", f"run.compile={how}", "model.input.seconds=2",
        "optim.batch_size=40", "model.depth=1", "model.predictor_depth=1",
    ])  # fmt: skip
    update = Run.update

    def counted(self: Run, *args: Any) -> Any:
        norm = update(self, *args)
        if self.step == stop_after:
            self._signal = 15
        return norm

    Run.update = counted  # type: ignore[method-assign]
    try:
        ecg_jepa_modified.pretrain.pretrain(config)
    except Stop:
        assert stop_after is not None
    finally:
        Run.update = update  # type: ignore[method-assign]
    newest = newest_checkpoint(out)
    assert newest is not None
    weights = read_weights(newest / WEIGHTS)[0]
    return torch.cat([weights[name].flatten().double() for name in sorted(weights)]).tolist()


def test_a_compiled_run_goes_on_exactly_and_an_eager_one_goes_on_compiled(
    synthetic_store: Path, tmp_path: Path
) -> None:
    whole = train(synthetic_store, tmp_path / "whole", "true")
    torch._dynamo.reset()  # as a new process would have nothing compiled
    train(synthetic_store, tmp_path / "cut", "true", stop_after=2)
    torch._dynamo.reset()
    assert train(synthetic_store, tmp_path / "cut", "true") == whole
    eager = train(synthetic_store, tmp_path / "mixed", "false", stop_after=2)
    assert eager != whole
    assert train(synthetic_store, tmp_path / "mixed", "true") == pytest.approx(whole, abs=1e-4)
