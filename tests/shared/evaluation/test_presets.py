"""Protocol presets: every setting against its source's facts, keys that win, refusals, and one small run of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import st_mem_modified.finetune
from shared.config import ConfigError, Section, load_config
from shared.data.prepare import choose_config, prepare
from shared.data.spec import InputSpec
from shared.evaluation.config import EvaluateConfig, EvaluatedConfig
from shared.evaluation.evaluate import evaluate
from shared.evaluation.following import followed
from shared.evaluation.presets import EVALUATION, PRESETS
from shared.evaluation.report.compare import compare
from shared.evaluation.rows import Rows
from tests.golden import real_data
from tests.shared.evaluation.contexts import Powers
from tests.shared.finetune.test_finetune import METHODS

TUNING = st_mem_modified.finetune.FinetuneConfig
MODES = [(name, part) for name, preset in PRESETS.items() for part in preset.parts if part != EVALUATION]


def evaluation(name: str, *more: str) -> EvaluateConfig:
    return load_config(EvaluateConfig, None, ["store=x", f"protocol={name}", *more])


def tuning(name: str, mode: str, *more: str) -> Any:
    return load_config(TUNING, None, ["data.store=x", "run.out=y", f"mode={mode}", f"protocol={name}", *more])


def values_of(config: Section, *keys: str) -> tuple[Any, ...]:
    """Values below dotted keys."""
    found = []
    for key in keys:
        value: Any = config
        for part in key.split("."):
            value = getattr(value, part)
        found.append(value)
    return tuple(found)


# ---------------------------------------------------------------- facts of the sources, written out


@pytest.mark.parametrize("name", PRESETS)
def test_folds_are_those_of_the_data_set(name: str) -> None:
    """Train 1-8, select 9, test 10: all of the sources, but J and S, which have no such split and say so."""
    config = evaluation(name)
    assert (config.train_folds, config.val_folds, config.test_folds) == ((1, 2, 3, 4, 5, 6, 7, 8), (9,), (10,))
    for mode in PRESETS[name].parts.keys() - {EVALUATION}:
        tuned = tuning(name, mode)
        assert (tuned.data.folds, tuned.data.val_folds, tuned.test_folds) == ((1, 2, 3, 4, 5, 6, 7, 8), (9,), (10,))
    if name in ("ecg_jepa", "st_mem"):
        said = " ".join(PRESETS[name].parts[EVALUATION].apart)
        assert "folds 1-9" in said or "split of PTB-XL was not published" in said


def test_strodthoff2021() -> None:
    """Section 1: 50 epochs, lr 1e-2, wd 1e-2, batch 128, no augmentation, last epoch; 7 windows, element-wise max."""
    config = tuning("strodthoff2021", "scratch")
    keys = ("epochs", "lr", "weight_decay", "batch_size", "lr_reference_batch", "schedule", "warmup_epochs")
    assert values_of(config.optim, *keys) == (50, 1e-2, 1e-2, 128, None, "cosine", 15.0)  # pct 0.3 of 50 epochs
    assert values_of(config, "num_crops", "pool", "keep", "patience") == (7, "max", "last", None)
    assert values_of(config, "augment.num_operations", "single_label", "keep_unlabelled") == (0, False, False)
    tuned = tuning("strodthoff2021", "finetune")  # its second stage: 30 epochs up to 1e-3
    assert values_of(tuned.optim, "epochs", "lr", "weight_decay", "batch_size") == (30, 1e-3, 1e-2, 128)
    six = {"statements", "diagnostic", "subclass", "superclass", "form", "rhythm"}
    assert set(PRESETS["strodthoff2021"].tasks) == six and PRESETS["strodthoff2021"].headline == "auroc_all_macro"


@pytest.mark.parametrize("mode", ["finetune", "linear_probe", "scratch"])
def test_st_mem(mode: str) -> None:
    """Section 2: 10 epochs, 3 warm-up, wd 0.05, betas (0.9, 0.999), batch 16, blr 1e-3 of 256, 2 operations at level 10,
    no layer-wise decay, no clipping; 3 crops, probabilities averaged; one label a record."""
    config = tuning("st_mem", mode)
    keys = ("epochs", "warmup_epochs", "weight_decay", "betas", "batch_size", "lr", "lr_reference_batch")
    assert values_of(config.optim, *keys) == (10, 3.0, 0.05, (0.9, 0.999), 16, 1e-3, 256)
    assert config.optim.peak_lr == pytest.approx(6.25e-5)
    assert values_of(config.optim, "layer_decay", "clip_grad", "schedule", "min_lr") == (1.0, None, "cosine", 0.0)
    assert values_of(config, "augment.num_operations", "augment.level") == (2, 10.0)
    assert values_of(config, "num_crops", "pool", "single_label") == (3, "mean_probabilities", True)
    frozen = evaluation("st_mem")
    assert (frozen.num_crops, frozen.single_label, frozen.task) == (3, True, "ptbxl_superclass")
    assert PRESETS["st_mem"].tasks == ("superclass",)


def test_ecg_jepa() -> None:
    """Section 3. Linear: 10 epochs, batch 16, AdamW lr 0.01 wd 0.01, cosine to lr/10, last epoch, no augmentation.
    Fine-tuned: blr 1e-4 of 256 (6.25e-6), betas (0.9, 0.95), wd 0.05, 3 warm-up. 1 % and 10 %: 3 draws. Leads II, II+V1."""
    linear = tuning("ecg_jepa", "linear_probe")
    keys = ("epochs", "batch_size", "lr", "weight_decay", "min_lr", "lr_reference_batch", "schedule")
    assert values_of(linear.optim, *keys) == (10, 16, 0.01, 0.01, 0.001, None, "cosine")
    assert values_of(linear, "keep", "num_crops", "head_norm", "augment.num_operations") == ("last", 1, "none", 0)
    steps_an_epoch = 17_084 / 16  # the superclass task's training folds 1-8
    assert round(linear.optim.warmup_epochs * steps_an_epoch) in (10, 11)
    tuned = tuning("ecg_jepa", "finetune")
    assert values_of(tuned.optim, "epochs", "warmup_epochs", "betas", "weight_decay") == (10, 3.0, (0.9, 0.95), 0.05)
    assert tuned.optim.peak_lr == pytest.approx(6.25e-6) and tuned.augment.num_operations == 2
    frozen = evaluation("ecg_jepa")
    assert (frozen.label_fractions, frozen.label_draws) == ((0.01, 0.1, 1.0), 3)
    assert {"II", "II+V1"} <= set(frozen.lead_subsets) and frozen.num_crops == 1


@pytest.mark.parametrize("mode", ["finetune", "linear_probe", "scratch"])
def test_reality_check(mode: str) -> None:
    """Section 5: 100 epochs, batch 64, lr 1e-3 constant, AdamW wd 1e-3, no augmentation, mean of probabilities, records
    without a label kept; best validation AUROC; all, sub and super alone are trained."""
    config = tuning("reality_check", mode)
    keys = ("epochs", "batch_size", "lr", "lr_reference_batch", "schedule", "weight_decay", "warmup_epochs")
    assert values_of(config.optim, *keys) == (100, 64, 1e-3, None, "constant", 1e-3, 0.0)
    found = values_of(config, "augment.num_operations", "pool", "keep_unlabelled", "keep", "single_label")
    assert found == (0, "mean_probabilities", True, "best", False)
    frozen = evaluation("reality_check")
    assert frozen.keep_unlabelled and frozen.protocols == ("linear_probe", "attentive_probe")
    assert values_of(frozen, "probe.attentive_epochs", "probe.attentive_lr") == (100, (1e-3,))  # type: ignore[arg-type]
    assert PRESETS["reality_check"].tasks == ("statements", "subclass", "superclass")


def test_l2_logistic() -> None:
    """Section 8: C of 0.01, 0.1, 1, 10 chosen on validation; classes with fewer than 10 test positives are noise."""
    config = evaluation("l2_logistic")
    assert config.probe.c == (0.01, 0.1, 1.0, 10.0) and config.protocols == ("linear_probe",)  # type: ignore[attr-defined]
    assert config.min_positives == 10 and not config.keep_unlabelled
    np.testing.assert_allclose(config.probe.strengths(17_084), [1 / (17_084 * c) for c in (0.01, 0.1, 1, 10)])  # type: ignore[attr-defined]


def test_seed() -> None:
    """One superclass per record, k = 20 Euclidean neighbours, labels as clusters."""
    config = evaluation("seed")
    assert config.single_label and config.knn.k == 20 and config.protocols == ("knn", "clusters")  # type: ignore[attr-defined]
    assert PRESETS["seed"].headline == "auroc_macro"


# ---------------------------------------------------------------- keys, deviations, refusals


def test_a_preset_as_it_is_has_no_deviation() -> None:
    for name in PRESETS:
        found = followed(evaluation(name), EVALUATION)
        assert found is not None and found.deviations == () and found.notes[0].endswith(", every setting as it says")
    for name, mode in MODES:
        tuned = followed(tuning(name, mode), mode)
        assert tuned is not None and tuned.deviations == ()
    assert followed(load_config(EvaluateConfig, None, ["store=x"]), EVALUATION) is None


def test_keys_that_are_written_out_win_and_are_named() -> None:
    config = tuning("st_mem", "finetune", "optim.epochs=2", "num_crops=1", "optim.batch_size=16", "resamples=10")
    found = followed(config, "finetune")
    assert config.optim.epochs == 2 and config.optim.weight_decay == 0.05 and found is not None
    assert found.deviations == ("num_crops = 1 (protocol: 3)", "optim.epochs = 2 (protocol: 10)")
    assert ", but for num_crops = 1 (protocol: 3); optim.epochs = 2 (protocol: 10)" in found.notes[0]
    other = followed(evaluation("ecg_jepa", "val_folds=8", "train_folds=1,2"), EVALUATION)
    assert other is not None and other.deviations[0] == "train_folds = 1,2 (protocol: 1,2,3,4,5,6,7,8)"


def test_a_saved_config_is_read_as_it_was() -> None:
    config = evaluation("l2_logistic", "probe.c=1")
    assert EvaluateConfig.model_validate(config.model_dump(mode="json")) == config


def test_at_the_end_of_a_training_the_preset_decides_what_it_sets() -> None:
    class Trained(EvaluatedConfig):
        single_label: bool = False
        task: str = "ptbxl_superclass"

    given = {"evaluate": {"protocol": "st_mem", "store": "x"}}
    found = Trained.model_validate(given).evaluate
    assert found is not None and found.single_label
    plain = Trained.model_validate({"evaluate": {"store": "x"}}).evaluate
    assert plain is not None and not plain.single_label


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["protocol=strodthof2021"], "'strodthof2021' is no preset; did you mean 'strodthoff2021'"),
        (["protocol=reality_check", "task=ptbxl_form"], "reality_check does not define the task 'ptbxl_form', only"),
        (["protocol=seed", "task=labels.csv"], "seed does not define the task 'labels.csv'"),
        (["protocol=3"], "3 is no preset"),
    ],
)
def test_presets_that_cannot_be(more: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(EvaluateConfig, None, ["store=x", *more])


def test_a_preset_without_this_kind_of_training() -> None:
    with pytest.raises(ConfigError, match="l2_logistic says nothing of 'finetune'; it has evaluation"):
        tuning("l2_logistic", "finetune")
    with pytest.raises(ConfigError, match="pool=max is for several labels"):
        tuning("strodthoff2021", "scratch", "single_label=true")
    with pytest.raises(ConfigError, match="set patience=null"):
        tuning("strodthoff2021", "scratch", "patience=3")


# ---------------------------------------------------------------- a run of each


class Sized(nn.Module):
    """Deviation and mean step of each lead, and as tokens; untrained rows are another mixture."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.powers = Powers(2500)
        self.input_spec = InputSpec(seconds=10.0)
        self.embed_dim = 32
        self.mix = nn.Parameter(torch.randn(36, 32, generator=torch.Generator().manual_seed(seed)))

    def embed(self, ecg: torch.Tensor, leads: Any = None) -> torch.Tensor:
        return self.powers.embed(ecg, leads) @ self.mix

    def tokens(self, ecg: torch.Tensor, leads: Any = None) -> torch.Tensor:
        return self.embed(ecg, leads).view(len(ecg), 1, 4, 8)


@pytest.fixture
def few_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures have tests of their own; here they would take most of the time."""
    for name in ("draw_predictions", "draw_mistakes", "draw_embeddings"):
        monkeypatch.setattr(f"shared.evaluation.report.results.{name}", lambda *_: [])


@pytest.fixture(scope="module")
def ptbxl_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ptbxl") / "store"
    overrides = [f"root={real_data('ptb-xl')}", f"out={out}", "backend=sequential"]
    prepare(load_config(choose_config, "configs/data/ptbxl.yaml", overrides))
    return out


def run_preset(name: str, store: Path, out: Path, seed: int = 0, *more: str) -> Path:
    small = [f"store={store}", f"protocol={name}", "resamples=20", "label_draws=1", "probe.attentive_epochs=1", *more]
    small += ["probe.attentive_steps=20", "device=cpu", "min_positives=3"]
    return evaluate(Rows("Sized", Sized(seed), Sized(1)), load_config(EvaluateConfig, None, small), out)


@pytest.mark.usefixtures("few_figures")
@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_on_records_of_ptbxl(name: str, ptbxl_store: Path, tmp_path: Path) -> None:
    text = run_preset(name, ptbxl_store, tmp_path / "a").read_text()
    metrics = json.loads((tmp_path / "a" / "metrics.json").read_text())
    config = evaluation(name)
    assert all(protocol in metrics for protocol in config.protocols)
    summary = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert summary["protocol"]["name"] == name and summary["single_label"] == config.single_label
    headline = {"auroc_all_macro": "AUROC macro, every class", "auroc_macro": "AUROC macro"}[PRESETS[name].headline]
    assert f": {headline} 0." in text and f"{name} (evaluation)" in text
    num = len(pd.read_parquet(tmp_path / "a" / "predictions.parquet"))
    assert num == {"reality_check": 66}.get(name, num) and num <= 66  # all of fold 10, or those with a label
    assert (name == "reality_check") == any("have no label of it and are negatives" in n for n in summary["notes"])
    beside = "Beside published figures" in text
    assert beside == bool(PRESETS[name].parts[EVALUATION].published)
    if name == "ecg_jepa":
        assert all(f"<h3>ECG-JEPA linear, {x}</h3>" in text for x in ("1% labels", "10% labels", "lead II only"))
        run_preset(name, ptbxl_store, tmp_path / "b", 7)
        both = compare([tmp_path / "a", tmp_path / "b"], tmp_path / "both").read_text()
        assert "<h3>ECG-JEPA linear</h3>" in both and "<th>Sized (b) − published</th>" in both
        assert '<tr class="apart"><td>ECG-JEPA multi-block (Chapman+Ningbo+CODE-15)</td>' in both


TUNED = [
    ("st_mem", "strodthoff2021", "scratch"),
    ("st_mem", "st_mem", "scratch"),
    ("ecg_jepa", "ecg_jepa", "linear_probe"),
    ("ecg_jepa", "reality_check", "linear_probe"),
]


@pytest.mark.usefixtures("few_figures")
@pytest.mark.parametrize(("method", "name", "mode"), TUNED)
def test_fine_tuning_under_each_preset(
    method: str, name: str, mode: str, synthetic_store: Path, tmp_path: Path
) -> None:
    config_class, run, model = METHODS[method]
    sizes = [f"model.{k}={v}" for k, v in model.items() if k != "input"]
    sizes += [f"model.input.num_samples={model['input']['num_samples']}", "task=superclass", "control=false"]
    more = ["optim.epochs=2", "optim.warmup_epochs=0", "resamples=20", "min_positives=1"]
    settings = [f"data.store={synthetic_store}", *sizes, *more]
    protocol = [f"run.out={tmp_path / 'run'}", f"protocol={name}", f"mode={mode}"]
    if mode == "linear_probe":  # a head needs something to stand on
        first = load_config(config_class, None, [*settings, f"run.out={tmp_path / 'first'}", "mode=scratch"])
        protocol.append(f"encoder.weights={run(first)}")
    text = (run(load_config(config_class, None, [*settings, *protocol])) / "evaluation" / "report.html").read_text()
    assert f"{name} ({mode}); other than it:" in text and "optim.epochs = 2 (protocol:" in text
    assert "Beside published figures" not in text  # synthetic records are not PTB-XL
    log = (tmp_path / "run" / "log.jsonl").read_text()
    assert log.count("val_auroc") == 2
