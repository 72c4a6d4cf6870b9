"""Fine-tune an encoder for a task: read a batch, augment, classify, step; the validation fold chooses the epoch.

Both methods' `finetune.py` bring their encoder here, and have the predictions scored once, at the end, beside a control's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.data.augment import OPERATIONS, rand_augment
from shared.data.loader import TrainingBatches
from shared.data.splits import Labelled, Split, draw_patients
from shared.data.tasks import Task
from shared.data.transforms import Preprocess
from shared.epochs import require_finite
from shared.errors import UserError
from shared.finetune.classifier import Classifier, predict_store, with_drop_path
from shared.finetune.config import AugmentConfig, FinetuneConfig, Mode
from shared.leads import subset_leads
from shared.optim import make_optimizer, make_schedule
from shared.plots.charts import plot_log
from shared.run import Run
from shared.selection import Best
from shared.statistics.metrics import scored_auroc

CURVES = {"loss": ("epoch_loss",), "validation AUROC": ("val_auroc",), "learning rate": ("lr",)}
CONTROL_MODE: dict[str, Mode] = {"finetune": "scratch", "linear_probe": "linear_probe", "scratch": "linear_probe"}
"""What the control trains, from random weights: the same, or a head alone where the run itself starts from random."""


@dataclass(frozen=True)
class Method:
    """What a method package brings.

    Attributes:
        name: in tables.
        checkpoint: the name in checkpoints.
        load: weights to the encoder, and the `data` section of its pretraining where it is known.
        random: a seed to an untrained encoder, of the given one's architecture or the config's `model`.
    """

    name: str
    checkpoint: str
    load: Callable[[Path], tuple[nn.Module, Mapping[str, Any] | None]]
    random: Callable[[nn.Module | None, int], nn.Module]


Predictions = tuple[np.ndarray, np.ndarray]
"""Probabilities `[n_val, C]` and `[n_test, C]`."""


@dataclass(frozen=True)
class Finetuned:
    """What fine-tuning leaves to be scored.

    Attributes:
        name: of the model.
        split: as used: the training records cut to the labelled share.
        predictions: of the model.
        control: the mode that the control was trained in, and its predictions; None without one.
        trained_on: the `data` section of the pretraining, where it is known.
        notes: what a reader must know of the training.
        is_main: whether this process reports.
    """

    name: str
    split: Split
    predictions: Predictions
    control: tuple[str, Predictions] | None
    trained_on: Mapping[str, Any] | None
    notes: list[str]
    is_main: bool


def finetune(config: FinetuneConfig, method: Method, data: Labelled) -> Finetuned:
    """Train, choose the epoch by validation AUROC, predict validation and test; continues where the run folder left off.

    Args:
        config: the run, the mode, the weights.
        method: the encoders.
        data: labelled records and their splits, as the config names them.

    Raises:
        UserError: no weights where the mode needs them, no usable labels, a validation fold with one class only.
    """
    if config.encoder.module is not None:
        raise UserError(
            "encoder.module is for evaluation; fine-tuning knows its own method's weights (encoder.weights)."
        )
    pretrained, trained_on = None, None
    if config.encoder.weights is not None:
        pretrained, trained_on = method.load(config.encoder.weights)
    elif config.mode != "scratch":
        raise UserError(
            f"encoder.weights is not set: mode={config.mode} needs a run folder, a model.safetensors or a released .pth. "
            "mode=scratch trains from random weights."
        )
    untrained = method.random(pretrained, config.run.seed)
    start = untrained if config.mode == "scratch" or pretrained is None else pretrained
    config = config.model_copy(update={"model": start.config})
    data, notes = take_share(config, data)
    control = None
    with Run(config.run, config, method.checkpoint) as run:
        predictions = fit(run, config, start, data)
        if run.check_signal():
            raise run.stop()
        if config.control:
            out = config.run.model_copy(update={"out": config.run.out / "control"})
            mode = CONTROL_MODE[config.mode]
            other = config.model_copy(update={"run": out, "mode": mode})
            with Run(other.run, other, method.checkpoint) as inner:
                control = mode, fit(inner, other, untrained, data)
        is_main = run.is_main
    name = f"{method.name}, {config.mode}"
    return Finetuned(name, data.split, predictions, control, trained_on, notes, is_main)


def take_share(config: FinetuneConfig, data: Labelled) -> tuple[Labelled, list[str]]:
    """The training split cut to the labelled share, and notes for the report."""
    notes, split = [], data.split
    if config.fraction < 1:
        chosen = draw_patients(split.train, data.patients, data.labels, config.fraction, (config.run.seed, 0))
        split = replace(split, train=chosen)
        notes.append(f"{len(chosen)} training records: {100 * config.fraction:g} % of the patients, one draw")
    there = data.labels[split.train].any(axis=0)
    never = [c for c, found in zip(data.task.classes, there, strict=True) if not found]
    if never:
        notes.append(f"no training record has {', '.join(never)}")
    return replace(data, split=split), notes


def fit(run: Run, config: FinetuneConfig, start: nn.Module, data: Labelled) -> Predictions:
    """Train a classifier on the encoder `start`; the best epoch on validation is the run's last checkpoint.

    Returns:
        Its probabilities `[n, C]` for the validation and the test records.
    """
    store, task, optim = data.store, data.task, config.optim
    train, val, test = (data.indices[rows] for rows in (data.split.train, data.split.val, data.split.test))
    truth = torch.from_numpy(task.labels).to(run.device)
    leads = None
    if config.encoder.leads is not None:
        leads = subset_leads(config.encoder.leads, start.input_spec.leads)  # type: ignore[union-attr, arg-type]
    encoder, frozen = with_drop_path(start, config.drop_path), config.mode == "linear_probe"
    model = Classifier(encoder, len(task.classes), frozen, config.head_norm)
    spec = model.input_spec.with_leads(leads)
    wrapped, preprocess = run.wrap(model), Preprocess(spec, store.scale).to(run.device)
    batches = TrainingBatches(store, train, spec, run.share_of(min(optim.batch_size, len(train))), **run.loading)
    optimizer = make_optimizer(model, optim, optim.layer_decay)
    schedule = make_schedule(optimizer, optim, batches.steps)
    pooled = partial(predict_store, pool=config.pool, softmax=config.single_label, num_crops=config.num_crops)
    predict = partial(pooled, model, store, leads=leads, device=run.device, ranks=True)
    best = Best(config.keep == "last")
    run.resume(model, optimizer=optimizer, best=best)

    for epoch in run.epochs(optim.epochs, batches.steps, batches):
        if best.stale(epoch.number, config.patience):
            break
        for signals, indices in epoch:
            generator = run.begin_step()
            schedule.step_update(run.step)
            model.train()
            ecg = preprocess(signals.to(run.device, non_blocking=True))
            ecg = augment(ecg, config.augment, generator, len(spec.leads), run.own, run.world_size)
            with run.autocast():
                loss = classification_loss(wrapped(ecg, leads), truth[indices.to(run.device)], config.single_label)
            run.scaler.scale(loss).backward()
            run.update(model, optimizer, optim.clip_grad)
            epoch.add(epoch_loss=loss)
        values = run.mean_over_ranks(epoch.means())
        require_finite(values["epoch_loss"], run.step)
        # The ranks must agree to the bit on when to stop.
        score = validation_auroc(task, task.labels[val], predict(val, dtype=run.amp_dtype))
        values |= run.mean_over_ranks({"val_auroc": score})
        best.offer(values["val_auroc"], epoch.number + 1, model)
        run.log(run.step, epoch=epoch.number + 1, **values, lr=optimizer.param_groups[-1]["lr"])
        if run.is_main:
            shown = f"loss {values['epoch_loss']:.4f}, validation AUROC {values['val_auroc']:.4f}"
            print(f"epoch {epoch.number + 1}/{epoch.of}: {shown}")

    best.restore(run, model)
    if run.is_main:
        plot_log(run.out / "figures" / "training.png", run.out / "log.jsonl", CURVES)
    val_scores, test_scores = (to_probabilities(predict(rows, dtype=run.amp_dtype), config) for rows in (val, test))
    return val_scores, test_scores


def to_probabilities(outputs: np.ndarray, config: FinetuneConfig) -> np.ndarray:
    """Probabilities `[n, C]` of pooled outputs, which are logits where logits are pooled."""
    if config.pool != "mean_logits":
        return outputs
    logits = torch.from_numpy(outputs)
    return (logits.softmax(1) if config.single_label else logits.sigmoid()).numpy()


def augment(
    ecg: Tensor,
    config: AugmentConfig,
    generator: torch.Generator,
    num_leads: int,
    own: Callable[[int], slice] = slice,
    world_size: int = 1,
) -> Tensor:
    """RandAugment as configured on the first `num_leads` rows of `ecg [B, R, T]`; features below them stay as measured.

    Args:
        ecg: this rank's records.
        config: which operations.
        generator: the same on all ranks.
        num_leads: rows that are leads.
        own: size of the batch of all ranks to the rows of this one: what is drawn for a record depends on its place there.
        world_size: number of ranks.
    """
    if not config.num_operations or not num_leads:
        return ecg
    chosen = {name: OPERATIONS[name] for name in config.operations}
    mine = own(len(ecg) * world_size)
    signals = ecg.new_zeros(len(ecg) * world_size, num_leads, ecg.shape[2])
    signals[mine] = ecg[:, :num_leads]
    leads = rand_augment(signals, config.level, generator, config.num_operations, chosen)[mine]
    return leads if num_leads == ecg.shape[1] else torch.cat([leads, ecg[:, num_leads:]], dim=1)


def classification_loss(logits: Tensor, labels: Tensor, single_label: bool) -> Tensor:
    """Cross-entropy of the one class, or the mean binary one over all; `logits [B, C]`, `labels [B, C]` bool."""
    if single_label:
        return F.cross_entropy(logits.float(), labels.int().argmax(1))
    return F.binary_cross_entropy_with_logits(logits.float(), labels.float())


def validation_auroc(task: Task, truth: np.ndarray, logits: np.ndarray) -> float:
    """Macro AUROC over the classes that validation has with and without.

    Raises:
        UserError: no such class.
    """
    both = truth.any(axis=0) & ~truth.all(axis=0)
    if not both.any():
        raise UserError(
            f"the validation records are all alike in task {task.name!r} ({', '.join(task.classes[:8])}): the epoch cannot "
            "be chosen. Name other data.val_folds."
        )
    return scored_auroc(truth, logits)
