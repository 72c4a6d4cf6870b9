"""Fine-tuning: layers and their rates, modes, augmentation, early stopping, resume, and what it says of bad input."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import ecg_jepa_modified.config
import ecg_jepa_modified.finetune
import st_mem_modified.config
import st_mem_modified.finetune
from ecg_jepa_modified.evaluate import run_evaluation as evaluate_jepa
from ecg_jepa_modified.loading import untrained as random_jepa
from shared.checkpoints import newest_checkpoint, read_weights
from shared.config import ConfigError, load_config
from shared.data.store import ECGStore
from shared.data.tasks import make_task
from shared.data.transforms import Preprocess
from shared.epochs import Stop
from shared.errors import UserError
from shared.evaluation.config import EvaluateConfig
from shared.evaluation.context import RANDOM
from shared.evaluation.report.compare import compare
from shared.finetune.classifier import Classifier, predict_store, with_drop_path
from shared.finetune.config import FinetuneConfig
from shared.finetune.train import AugmentConfig, augment, classification_loss, validation_auroc
from shared.nn import Block
from shared.optim import make_optimizer, make_schedule
from shared.run import Run
from st_mem_modified.evaluate import run_evaluation as evaluate_stmem
from st_mem_modified.loading import random_encoder as random_stmem

STMEM = {"size": "tiny", "embed_dim": 16, "depth": 2, "num_heads": 1, "head_dim": 16, "input": {"num_samples": 450}}
JEPA = {"size": "tiny", "embed_dim": 16, "depth": 2, "num_heads": 2, "input": {"num_samples": 1250}}
METHODS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "st_mem": (st_mem_modified.finetune.FinetuneConfig, st_mem_modified.finetune.run, STMEM),
    "ecg_jepa": (ecg_jepa_modified.finetune.FinetuneConfig, ecg_jepa_modified.finetune.run, JEPA),
}
SETTINGS = [
    "task=superclass",
    "optim.epochs=2",
    "optim.batch_size=40",
    "optim.warmup_epochs=0.5",
    "optim.lr=1e-2",
    "optim.lr_reference_batch=null",
    "num_crops=2",
    "resamples=40",
    "min_positives=1",
]


def make_config(name: str, store: Path, out: Path, *more: str) -> FinetuneConfig:
    config_class, _, model = METHODS[name]
    sizes = [f"model.{k}={v}" for k, v in model.items() if k != "input"]
    sizes.append(f"model.input.num_samples={model['input']['num_samples']}")
    return load_config(config_class, None, [f"data.store={store}", f"run.out={out}", *sizes, *SETTINGS, *more])


def run(name: str, store: Path, out: Path, *more: str) -> Path:
    return METHODS[name][1](make_config(name, store, out, *more))


def weights_of(run_folder: Path) -> dict[str, torch.Tensor]:
    newest = newest_checkpoint(run_folder)
    assert newest is not None
    return read_weights(newest / "model.safetensors")[0]


@pytest.fixture(scope="module")
def scratch(synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("scratch")
    return {name: run(name, synthetic_store, folder / name, "mode=scratch") for name in METHODS}


def encoder_of(name: str) -> Any:
    config = METHODS[name][0].model_fields["model"].annotation.model_validate(METHODS[name][2])
    return (random_stmem if name == "st_mem" else random_jepa)(config, 0)


@pytest.mark.parametrize("name", METHODS)
def test_layers_get_their_learning_rates(name: str) -> None:
    model = Classifier(encoder_of(name), 5)
    config = load_config(st_mem_modified.finetune.FinetuneConfig, None, ["run.out=x", "data.store=x"]).optim
    optimizer = make_optimizer(model, config, layer_decay=0.5)
    names = {id(p): n for n, p in model.named_parameters()}
    scales = {names[id(p)]: group["lr_scale"] for group in optimizer.param_groups for p in group["params"]}
    assert set(scales) == {n for n, p in model.named_parameters() if p.requires_grad}
    for parameter, scale in scales.items():
        # Two blocks: the stem is layer 0, the blocks 1 and 2, the norm with the last of them, the head alone on top.
        rest = 3 * parameter.startswith("head") + 2 * parameter.startswith("encoder.norm")
        block = parameter.startswith("encoder.blocks.")
        layer = 1 + int(parameter.split(".")[2]) if block else rest
        assert scale == pytest.approx(0.5 ** (3 - layer)), parameter
    schedule = make_schedule(optimizer, config.model_copy(update={"warmup_epochs": 0.0}), 10)
    schedule.step_update(0)
    for group in optimizer.param_groups:
        assert group["lr"] == pytest.approx(config.peak_lr * group["lr_scale"])


@pytest.mark.parametrize("name", METHODS)
def test_drop_path_keeps_the_weights(name: str) -> None:
    encoder = encoder_of(name)
    dropped = with_drop_path(encoder, 0.3)
    assert all(
        torch.equal(a, b) for a, b in zip(encoder.state_dict().values(), dropped.state_dict().values(), strict=True)
    )
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for block in dropped.blocks if isinstance(block, Block)]
    assert rates == pytest.approx([0.0, 0.3])


def test_a_frozen_encoder_learns_nothing_and_draws_nothing() -> None:
    model = Classifier(with_drop_path(encoder_of("ecg_jepa"), 0.5), 3, frozen=True).train()
    ecg = torch.randn(4, 8, 1250)
    first, second = model(ecg), model(ecg)
    assert torch.equal(first, second)  # no drop-path in a frozen encoder
    first.sum().backward()
    assert model.head.weight.grad is not None
    assert all(p.grad is None for p in model.encoder.parameters())


def test_batch_norm_before_the_head() -> None:
    """The head sees standardised features in training, and the running statistics in evaluation."""
    encoder = encoder_of("ecg_jepa")
    model = Classifier(encoder, 3, frozen=True, head_norm="batch").train()
    ecg = torch.randn(32, 8, 1250) * torch.linspace(0.5, 2, 32)[:, None, None]
    embedded = encoder.embed(ecg).detach()
    standard = (embedded - embedded.mean(0)) / (embedded.var(0, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(model(ecg), model.head(standard), rtol=1e-3, atol=1e-5)
    for _ in range(300):  # the running variance starts at 1, far above these features
        model(ecg)
    torch.testing.assert_close(model.eval()(ecg), model.head(standard), rtol=0.1, atol=1e-2)
    names = {name for name, _ in model.named_parameters()}
    assert not any(name.startswith("head_norm") for name in names)


def test_logits_are_averaged_over_even_crops(synthetic_store: Path) -> None:
    store, model = ECGStore(synthetic_store), Classifier(encoder_of("st_mem"), 4)
    torch.nn.init.normal_(model.head.weight)
    rows = np.array([3, 8])
    found = predict_store(model, store, rows, num_crops=3, device=torch.device("cpu"))
    spec = model.input_spec
    expected = []
    for row in rows:  # windows at the beginning, the middle and the end of 5 s
        windows = [store.read_windows(np.array([row]), np.array([s]), 450, store.rows_for(spec)) for s in (0, 400, 800)]
        logits = [model(Preprocess(spec)(torch.from_numpy(window))) for window in windows]
        expected.append(torch.cat(logits).mean(0).detach().numpy())
    np.testing.assert_allclose(found, np.stack(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_results_of_a_run(name: str, scratch: dict[str, Path]) -> None:
    folder = scratch[name] / "evaluation"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert {"finetune", f"{RANDOM}/finetune", f"finetune minus {RANDOM}"} <= set(metrics)
    assert {"value", "low", "high", "n"} <= set(metrics["finetune"]["auroc_macro"])
    assert (
        "head trained" in (folder / "report.html").read_text()
        or "linear_probe from random" in (folder / "report.html").read_text()
    )
    assert (scratch[name] / "figures" / "training.png").is_file()


@pytest.mark.parametrize(("name", "evaluate"), [("st_mem", evaluate_stmem), ("ecg_jepa", evaluate_jepa)])
def test_modes_train_what_they_say(
    name: str, evaluate: Any, scratch: dict[str, Path], synthetic_store: Path, tmp_path: Path
) -> None:
    start = weights_of(scratch[name])
    more = [f"encoder.weights={scratch[name]}", "control=false"]
    probe = weights_of(run(name, synthetic_store, tmp_path / "probe", "mode=linear_probe", *more))
    tuned = weights_of(run(name, synthetic_store, tmp_path / "tuned", "mode=finetune", "optim.layer_decay=0.9", *more))
    encoder = [key for key in start if key.startswith("encoder.") and start[key].is_floating_point()]
    assert all(torch.equal(start[key], probe[key]) for key in encoder)
    changed = [key for key in encoder if not torch.equal(start[key], tuned[key])]
    assert "encoder.blocks.0.attn.qkv.weight" in changed and any("patch_embed" in key for key in changed)
    # The tuned encoder is evaluated like any other, and the runs compare.
    config = [
        f"encoder.weights={tmp_path / 'tuned'}",
        f"store={synthetic_store}",
        "task=superclass",
        f"out={tmp_path / 'e'}",
    ]
    page = evaluate(load_config(EvaluateConfig, None, [*config, "knn.k=5", "resamples=20", "min_positives=1"]))
    assert "finetune" in page.read_text()
    compare([tmp_path / "tuned", tmp_path / "probe"], tmp_path / "compare")
    assert (tmp_path / "compare" / "figures" / "roc_finetune.png").is_file()


def test_resume_equals_the_uninterrupted_run(
    scratch: dict[str, Path], synthetic_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Run.check_signal
    with monkeypatch.context() as patch:
        patch.setattr(Run, "check_signal", lambda self: self.step == 5 or original(self))
        with pytest.raises(Stop):
            run("st_mem", synthetic_store, tmp_path / "cut", "mode=scratch")
    run("st_mem", synthetic_store, tmp_path / "cut", "mode=scratch")
    whole, resumed = weights_of(scratch["st_mem"]), weights_of(tmp_path / "cut")
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_early_stopping_keeps_the_best_epoch(synthetic_store: Path, tmp_path: Path) -> None:
    """A learning rate of nearly nothing cannot improve: the run ends `patience` epochs after its best."""
    out = run(
        "st_mem", synthetic_store, tmp_path / "r", "mode=scratch", "optim.epochs=12", "optim.lr=1e-12", "patience=2",
        "control=false", "augment.num_operations=0",
    )  # fmt: skip
    epochs = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    best = int(np.argmax([line["val_auroc"] for line in epochs])) + 1
    assert len(epochs) == best + 2 < 12
    validation = json.loads((out / "evaluation" / "metrics_val.json").read_text())["finetune"]["auroc_macro"]
    assert (
        validation["value"] == pytest.approx(epochs[best - 1]["val_auroc"]) and validation["optimistic"] == "the epoch"
    )


def test_overwriting_a_run_reports_anew(synthetic_store: Path, tmp_path: Path) -> None:
    for _ in range(2):
        out = run(
            "st_mem", synthetic_store, tmp_path / "r", "mode=scratch", "optim.epochs=1", "control=false",
            "run.overwrite=true",
        )  # fmt: skip
    assert (out / "evaluation" / "report.html").is_file()
    assert len((out / "log.jsonl").read_text().splitlines()) == 1


def test_copies_between_its_splits_are_reported_whatever_it_started_from(synthetic_store: Path, tmp_path: Path) -> None:
    store = shutil.copytree(synthetic_store, tmp_path / "store")
    records = pd.read_parquet(store / "records.parquet")
    train, test = records.index[records.fold == 1][0], records.index[records.fold == 10][0]
    records.loc[test, "digest"] = records.digest[train]
    records.to_parquet(store / "records.parquet", index=False)
    folder = run("st_mem", store, tmp_path / "run", "mode=scratch", "optim.epochs=1", "control=false")
    notes = json.loads((folder / "evaluation" / "summary.json").read_text())["notes"]
    copies = [note for note in notes if "sample-identical to a training record" in note]
    assert copies == [
        "LEAK: 1 test records are sample-identical to a training record "
        f"(e.g. {records.record[test]} = {records.record[train]})"
    ]


def test_label_share_and_single_label(synthetic_store: Path, tmp_path: Path) -> None:
    out = run(
        "st_mem", synthetic_store, tmp_path / "r", "mode=scratch", "fraction=0.2", "single_label=true",
        "optim.batch_size=8", "optim.epochs=1", "control=false",
    )  # fmt: skip
    summary = json.loads((out / "evaluation" / "summary.json").read_text())
    assert any("20 % of the patients" in note for note in summary["notes"])
    assert any("control=false" in note for note in summary["notes"])


def test_augment_draws_from_the_generator() -> None:
    ecg = torch.randn(16, 3, 200)

    def twice(config: AugmentConfig) -> tuple[torch.Tensor, torch.Tensor]:
        first, second = (augment(ecg, config, torch.Generator().manual_seed(seed), 3) for seed in (1, 1))
        return first, second

    first, second = twice(AugmentConfig(level=5))
    assert torch.equal(first, second) and not torch.equal(first, ecg)
    assert augment(ecg, AugmentConfig(num_operations=0), torch.Generator(), 3) is ecg
    flipped, _ = twice(AugmentConfig(num_operations=1, operations=("flip",)))
    signs = {round(float((a / b).mean()), 3) for a, b in zip(flipped, ecg, strict=True)}
    assert signs == {-1.0, 1.0}
    some = augment(ecg, AugmentConfig(operations=("flip", "erase")), torch.Generator().manual_seed(1), 2)
    assert torch.equal(some[:, 2], ecg[:, 2]) and not torch.equal(some, ecg)


def test_loss_is_the_textbooks() -> None:
    logits, labels = torch.randn(5, 3), torch.eye(3, dtype=torch.bool)[[0, 1, 2, 1, 0]]
    p = logits.sigmoid()
    expected = -torch.where(labels, p, 1 - p).log().mean()
    assert classification_loss(logits, labels, single_label=False) == pytest.approx(float(expected), rel=1e-5)
    expected = -logits.softmax(1)[labels].log().mean()
    assert classification_loss(logits, labels, single_label=True) == pytest.approx(float(expected), rel=1e-5)


def test_bad_input(synthetic_store: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="encoder.weights is not set: mode=finetune needs"):
        run("st_mem", synthetic_store, tmp_path / "a")
    with pytest.raises(ConfigError, match="validation chooses the epoch"):
        make_config("st_mem", synthetic_store, tmp_path / "a", "data.val_folds=null")
    with pytest.raises(ConfigError, match="unknown operation wobble"):
        make_config("st_mem", synthetic_store, tmp_path / "a", "augment.operations=wobble")
    with pytest.raises(ConfigError, match="micro_batch is not read"):
        make_config("st_mem", synthetic_store, tmp_path / "a", "optim.micro_batch=4")
    with pytest.raises(UserError, match="stand in more than one"):
        run("st_mem", synthetic_store, tmp_path / "a", "mode=scratch", "test_folds=9")
    with pytest.raises(UserError, match="encoder.module is for evaluation"):
        run("st_mem", synthetic_store, tmp_path / "a", "encoder.module=a:b")
    task = make_task(ECGStore(synthetic_store), "superclass")
    with pytest.raises(UserError, match="validation records are all alike"):
        validation_auroc(task, np.ones((4, 5), dtype=bool), np.zeros((4, 5)))
