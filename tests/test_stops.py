"""A signal in any step of any loop changes nothing: weights, log, codebook, chosen epoch and figures of the run that went on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ecg_jepa_modified.config
import ecg_jepa_modified.pretrain
import st_mem_modified.config
import st_mem_modified.finetune
import st_mem_modified.pretrain
import st_mem_modified.triplet
import st_mem_modified.vqvae.config
import st_mem_modified.vqvae.train
from shared.checkpoints import WEIGHTS, newest_checkpoint, read_weights
from shared.config import load_config
from shared.epochs import Stop
from shared.run import Run
from shared.selection import Best

TRAINING = ("optim.epochs=2", "optim.batch_size=80", "optim.warmup_epochs=0", "run.checkpoint_every=1")
SMALL = (
    *("model.embed_dim=8", "model.depth=1", "model.num_heads=1", "model.head_dim=8", "model.decoder_dim=8"),
    *("model.decoder_depth=1", "model.decoder_heads=1", "model.input.seconds=1.8"),
)
QUANTIZER = ("quantizer.codebook_size=16", "quantizer.code_dim=4", "evaluate=null")
JEPA = ("model.size=tiny", "model.depth=1", "model.input.seconds=2", "monitor.records=20", "monitor.every=1")


def pretrain_stmem(*settings: str) -> Path:
    config = load_config(st_mem_modified.config.PretrainConfig, None, settings)
    return st_mem_modified.pretrain.pretrain(config)


def pretrain_jepa(*settings: str) -> Path:
    config = load_config(ecg_jepa_modified.config.PretrainConfig, None, settings)
    return ecg_jepa_modified.pretrain.pretrain(config)


def train_vqvae(*settings: str) -> Path:
    config = load_config(st_mem_modified.vqvae.config.VQTrainConfig, None, settings)
    return st_mem_modified.vqvae.train.train(config)


def train_triplet(*settings: str) -> Path:
    return st_mem_modified.triplet.train(load_config(st_mem_modified.triplet.TripletConfig, None, settings))


def finetune(*settings: str) -> Path:
    return st_mem_modified.finetune.run(load_config(st_mem_modified.finetune.FinetuneConfig, None, settings))


LOOPS: dict[str, tuple[Callable[..., Path], tuple[str, ...]]] = {
    "st_mem": (pretrain_stmem, (*SMALL, "log_every=1", "figure_every=1", "monitor.every=1", "monitor.records=20")),
    "ecg_jepa": (pretrain_jepa, (*JEPA, "log_every=1")),
    "vqvae": (train_vqvae, (*SMALL, *QUANTIZER, "log_every=1")),
    "masked_tokens": (pretrain_stmem, (*SMALL, "log_every=1", "objective=masked_tokens", "tokenizer={vqvae}")),
    "triplet": (
        train_triplet,
        ("task=superclass", "per_class=0", "optim.batch_size=40", "encoder.weights={st_mem}", "encoder.train=all"),
    ),
    "finetune": (
        finetune,
        (
            "task=superclass",
            "optim.batch_size=60",
            "encoder.weights={st_mem}",
            "resamples=5",
            "min_positives=1",
            "num_crops=1",
        ),
    ),
}
"""Loop → how it is trained, and its settings; what is in braces is another loop's run."""


class Runs:
    """Runs of each loop that nothing interrupted, made when they are first asked for."""

    def __init__(self, folder: Path, store: Path) -> None:
        self.folder, self.store = folder, store

    def settings(self, loop: str, out: Path) -> tuple[str, ...]:
        others = {name: self.whole(name) for name in ("st_mem", "vqvae") if f"{{{name}}}" in str(LOOPS[loop][1])}
        return (
            *TRAINING,
            f"data.store={self.store}",
            f"run.out={out}",
            *(text.format(**others) for text in LOOPS[loop][1]),
        )

    def whole(self, loop: str) -> Path:
        out = self.folder / loop
        if not out.exists():
            LOOPS[loop][0](*self.settings(loop, out))
        return out


@pytest.fixture(scope="module")
def runs(synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("whole"), synthetic_store)


def content(out: Path) -> dict[str, Any]:
    """What a run leaves: bytes of the weights, numbers of the log and the JSON files, names of the figures."""
    newest = newest_checkpoint(out)
    assert newest is not None
    weights, _, _ = read_weights(newest / WEIGHTS)
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    found = {
        "step": newest.name,
        "weights": {name: value.numpy().tobytes() for name, value in weights.items()},
        "log": [{key: value for key, value in line.items() if key != "time"} for line in lines],
        "figures": sorted(path.name for path in (out / "figures").iterdir()),
    }
    for name in ("codebook.json", "evaluation/metrics.json"):
        if (out / name).is_file():
            found[name] = json.loads((out / name).read_text())
    return found | ({"control": content(out / "control")} if (out / "control").is_dir() else {})


@pytest.mark.slow
@pytest.mark.parametrize("loop", LOOPS)
def test_a_signal_in_any_step_changes_nothing(
    loop: str, runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = content(runs.whole(loop))
    steps = int(expected["step"].removeprefix("step-"))
    assert steps >= 4  # two epochs of two steps or more
    train, original = LOOPS[loop][0], Run.check_signal
    folders = ("cut", "control") if loop == "finetune" else ("cut",)
    for folder in folders:
        for stop in range(1, steps + 1):

            def check_signal(run: Run, stop: int = stop, folder: str = folder) -> bool:
                if run.step == stop and run.out.name == folder:
                    run._signal = signal.SIGTERM
                return original(run)

            out = tmp_path / "cut"
            shutil.rmtree(out, ignore_errors=True)
            with monkeypatch.context() as patch:
                patch.setattr(Run, "check_signal", check_signal)
                with pytest.raises(Stop):
                    train(*runs.settings(loop, out))
            train(*runs.settings(loop, out))
            found = content(out)
            assert found.keys() == expected.keys()
            for part, value in expected.items():
                assert found[part] == value, f"{part} after a stop in step {stop} of {folder}"


def kill_at(step: int, train: Callable[..., Path], settings: tuple[str, ...]) -> None:
    """Train in a process of its own, which is killed (`kill -9`) in that step."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads; nothing here waits for one
        child = os.fork()
    if child == 0:
        original = Run.update

        def update(run: Run, *args: Any) -> Any:
            norm = original(run, *args)
            if run.step == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return norm

        Run.update = update  # type: ignore[method-assign]
        try:
            train(*settings)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("loop", LOOPS)
def test_a_kill_changes_nothing(loop: str, runs: Runs, tmp_path: Path) -> None:
    """Nothing was written for it, and the lock of the dead is no lock."""
    expected = content(runs.whole(loop))
    settings = (*runs.settings(loop, tmp_path / "cut"), "run.checkpoint_minutes=1e-9")  # one in each step
    steps = int(expected["step"].removeprefix("step-"))
    for step in {1, steps // 2 + 1, steps}:
        shutil.rmtree(tmp_path / "cut", ignore_errors=True)
        kill_at(step, LOOPS[loop][0], settings)
        LOOPS[loop][0](*settings)
        assert content(tmp_path / "cut") == expected, f"after a kill in step {step}"


def test_a_signal_between_finetuning_and_its_control_is_honoured(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that comes after the last step, while the test records are predicted."""
    expected, restored = content(runs.whole("finetune")), Best.restore

    def restore(best: Best, run: Run, model: Any) -> None:
        restored(best, run, model)
        if run.out.name == told:
            os.kill(os.getpid(), signal.SIGTERM)

    settings = runs.settings("finetune", tmp_path / "cut")
    monkeypatch.setattr(Best, "restore", restore)
    for told in ("cut", "control"):
        with pytest.raises(Stop) as stop:
            finetune(*settings)
        assert stop.value.exit_code == 143
        assert not (tmp_path / "cut" / "evaluation").exists()
        assert (tmp_path / "cut" / "control").exists() == (told == "control")
    monkeypatch.undo()
    finetune(*settings)
    assert content(tmp_path / "cut") == expected
