"""Tune an encoder by a metric-learning loss: draw a batch of classes, project, compare, step; evaluate.

Both methods' `triplet.py` bring their encoder here, and their evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from shared.data.store import ECGStore, open_store
from shared.data.tasks import Task, make_task
from shared.data.transforms import Preprocess
from shared.embeddings import embed_cached, embed_store
from shared.epochs import Epoch, require_finite
from shared.errors import UserError
from shared.evaluation.config import EvaluateConfig
from shared.optim import make_optimizer, make_schedule
from shared.plots.charts import plot_log
from shared.run import Run
from shared.selection import Best
from shared.statistics.knn import knn_scores
from shared.statistics.metrics import scored_auroc
from shared.triplet.batches import check_classes, draw_batches
from shared.triplet.config import TripletConfig
from shared.triplet.losses import make_loss
from shared.triplet.model import TripletModel

CURVES = {
    "loss": ("epoch_loss",),
    "active triplets": ("active",),
    "validation kNN AUROC": ("val_auroc",),
    "lr": ("lr",),
}


@dataclass(frozen=True)
class Method:
    """What a method package brings.

    Attributes:
        name: in messages.
        checkpoint: the name in checkpoints.
        load: weights to the encoder.
        evaluate: evaluates the finished run.
    """

    name: str
    checkpoint: str
    load: Callable[[Path], nn.Module]
    evaluate: Callable[[EvaluateConfig], object]


class Inputs:
    """What the model sees of records: features computed once for a frozen encoder, else signals of random windows.

    Args:
        run: device and precision.
        model: on the device.
        store: the records.
        indices: store rows; positions below count among these.
        frozen: whether the encoder never changes.
    """

    def __init__(self, run: Run, model: TripletModel, store: ECGStore, indices: np.ndarray, frozen: bool) -> None:
        self.run, self.model, self.store, self.indices = run, model, store, indices
        self.spec = model.input_spec
        self.rows = store.rows_for(self.spec)
        self.preprocess = Preprocess(self.spec, store.scale).to(run.device)
        self.options: dict[str, Any] = {"device": run.device, "dtype": run.amp_dtype}
        self.features: Tensor | None = None
        if frozen:
            features = embed_cached(
                run.out / "cache", model.encoder, store, indices, name=f"features-{run.rank}", **self.options
            )
            self.features = torch.from_numpy(features).to(run.device)

    def batch(self, positions: np.ndarray, rng: np.random.Generator) -> Tensor:
        """This rank's part of a batch of all ranks: `[B, D]` features, or `[B, L, T]` preprocessed windows."""
        own = self.run.own(len(positions))
        if self.features is not None:
            return self.features[torch.from_numpy(positions[own])]
        chosen = self.indices[positions]
        starts = rng.integers(0, self.store.lengths(chosen) - self.spec.num_samples + 1, len(positions))[own]
        signals = self.store.read_windows(chosen[own], starts, self.spec.num_samples, self.rows)
        return self.preprocess(torch.from_numpy(signals).to(self.run.device))

    @torch.no_grad()
    def embeddings(self) -> np.ndarray:
        """What is evaluated, of all records: `[n, embed_dim]`."""
        if self.features is not None:
            return self.model.project(self.features).cpu().numpy()
        return embed_store(self.model, self.store, self.indices, name="validation", ranks=True, **self.options)


def train(config: TripletConfig, method: Method) -> Path:
    """Train, choose the epoch by validation kNN, save that one; continues where the run folder left off.

    Returns:
        The run folder.
    """
    encoder, config = start_from(config, method)
    store, optim = open_store(config.data, encoder.input_spec), config.optim
    task = make_task(store, config.task, config.single_label)
    indices, num_train = choose_records(store, task, config)
    labels = task.labels[indices]
    frozen = config.encoder.train == "none"
    with Run(config.run, config, method.checkpoint) as run:
        run.share_of(optim.batch_size // max(config.per_class, 1) * max(config.per_class, 1))
        model = TripletModel(encoder, config.head)
        model.let_learn(config.encoder.train, config.encoder.last_blocks)
        wrapped, loss = run.wrap(model), make_loss(config.loss)
        inputs = Inputs(run, model, store, indices, frozen)
        truth = torch.from_numpy(labels).to(run.device)

        def batches(epoch: int, first: int) -> list[np.ndarray]:
            rng = np.random.default_rng([config.run.seed, epoch, 0])
            return draw_batches(labels[:num_train], optim.batch_size, config.per_class, rng)[first:]

        steps = len(batches(0, 0))
        optimizer = _optimizer(model, config)
        schedule = make_schedule(optimizer, optim, steps)
        best = Best()
        run.resume(model, optimizer=optimizer, best=best)
        for epoch in run.epochs(optim.epochs, steps, batches):
            model.train()
            for positions in epoch:
                windows = np.random.default_rng([config.run.seed, epoch.number, 0, epoch.position])
                run.begin_step()
                schedule.step_update(run.step)
                with run.autocast():
                    out = of_all_ranks(wrapped(inputs.batch(positions, windows)))
                terms = loss(out, truth[torch.from_numpy(positions)])
                run.scaler.scale(terms.loss).backward()
                run.update(model, optimizer, optim.clip_grad)
                shares = {"epoch_loss": terms.loss.detach(), "active": terms.get("active", float("nan"))}
                epoch.add(**{name: float(value) / steps for name, value in shares.items()})
            score = finish_epoch(run, config, inputs, labels, num_train, epoch)
            best.offer(score, epoch.number + 1, model)
        best.restore(run, model)
        if run.is_main:
            plot_log(run.out / "figures" / "training.png", run.out / "log.jsonl", CURVES)
        main_rank = run.is_main
    if config.evaluate is not None and main_rank:
        section = config.evaluate.encoder.model_copy(update={"weights": config.run.out})
        method.evaluate(config.evaluate.model_copy(update={"encoder": section}))
    return config.run.out


class _OfAllRanks(torch.autograd.Function):
    """All ranks' rows in order; a row's gradient is the sum of what the ranks have for it."""

    @staticmethod
    def forward(_: Any, own: Tensor) -> Tensor:
        parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, own.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(_: Any, *grads: Tensor) -> Tensor:
        summed = grads[0].contiguous()
        dist.all_reduce(summed)
        return summed.chunk(dist.get_world_size())[dist.get_rank()]


def of_all_ranks(embeddings: Tensor) -> Tensor:
    """The embeddings of the whole batch, in order: pairs and triplets are looked for across ranks.

    Every rank computes the same loss of all; gradients of its own part come back summed over ranks, and are then averaged.
    """
    gathered: Tensor = _OfAllRanks.apply(embeddings) if dist.is_initialized() else embeddings
    return gathered


def start_from(config: TripletConfig, method: Method) -> tuple[Any, TripletConfig]:
    """The encoder that is tuned, and the config with its sizes and input.

    Raises:
        UserError: no weights were named.
    """
    if config.encoder.weights is None:
        raise UserError(
            f"encoder.weights is not set: give a run folder, a model.safetensors or a released .pth of {method.name}."
        )
    encoder: Any = method.load(config.encoder.weights)
    return encoder, config.model_copy(update={"model": encoder.config})


def choose_records(store: ECGStore, task: Task, config: TripletConfig) -> tuple[np.ndarray, int]:
    """Rows of the labelled records, those of the training folds first, and how many these are.

    Raises:
        UserError: labels that the loss cannot use, or none to choose the epoch by.
    """
    parts = []
    for folds in (config.data.folds, config.data.val_folds):
        inside = np.ones(len(store), dtype=bool) if folds is None else store.records.fold.isin(list(folds)).to_numpy()
        parts.append(np.flatnonzero(inside & task.usable))
    train, val = parts
    check_classes(task.labels[train], task.classes, config.loss)
    if config.data.val_folds is None or len(np.unique(np.where(task.labels[val])[1])) < 2:
        raise UserError(
            "data.val_folds must hold labelled records of two classes or more: validation chooses the epoch."
        )
    return np.concatenate(parts), len(train)


def finish_epoch(
    run: Run,
    config: TripletConfig,
    inputs: Inputs,
    labels: np.ndarray,
    num_train: int,
    epoch: Epoch[Any],
) -> float:
    """Log the epoch and return its validation score: macro AUROC of kNN, training records voting on validation records."""
    require_finite(epoch.sums["epoch_loss"], run.step)
    inputs.model.eval()
    embeddings = inputs.embeddings()
    k = min(config.choose_k, num_train)
    votes = knn_scores(embeddings[:num_train], labels[:num_train], embeddings[num_train:], k, device=run.device)
    score = scored_auroc(labels[num_train:], votes)
    values = {name: value for name, value in epoch.sums.items() if np.isfinite(value)} | {"val_auroc": score}
    number = epoch.number + 1
    run.log(run.step, epoch=number, **values)
    if run.is_main and (number <= 3 or number % max(1, epoch.of // 10) == 0):
        print(f"epoch {number}/{epoch.of}: " + ", ".join(f"{name} {value:.4f}" for name, value in values.items()))
    return score


def _optimizer(model: TripletModel, config: TripletConfig) -> torch.optim.Optimizer:
    """The configured optimizer; the encoder's groups get `lr_scale`, which the schedule applies."""
    optimizer = make_optimizer(model, config.optim)
    if config.encoder.train == "none":
        return optimizer
    encoder = {id(parameter) for parameter in model.encoder.parameters()}
    groups = []
    for group in optimizer.param_groups:
        for inside, scale in ((False, 1.0), (True, config.encoder.lr_scale)):
            params = [p for p in group["params"] if (id(p) in encoder) == inside]
            if params:
                groups.append({**group, "params": params, "lr": config.optim.peak_lr * scale, "lr_scale": scale})
    import timm.optim

    options = {name: value for name, value in optimizer.defaults.items() if name in ("betas", "eps")}
    return timm.optim.create_optimizer_v2(groups, opt=config.optim.optimizer, lr=config.optim.peak_lr, **options)
