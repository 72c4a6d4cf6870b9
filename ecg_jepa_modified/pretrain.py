"""Pretrain ECG-JEPA: read a batch, mask times, predict the teacher's tokens, step, move the teacher.

python -m ecg_jepa_modified.pretrain configs/ecg_jepa/pretrain.yaml optim.lr=1e-4 mask.kind=random
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ecg_jepa_modified.config import PretrainConfig
from ecg_jepa_modified.masking import draw_mask, masks_of
from ecg_jepa_modified.model import ECGJEPA
from shared.checkpoints import start_from
from shared.config import config_from_cli, entry_point
from shared.data.loader import TrainingBatches
from shared.data.store import open_store
from shared.data.transforms import Preprocess
from shared.epochs import Epoch, exit_on_stop, require_finite
from shared.monitors import BATCH, Monitor
from shared.optim import make_optimizer, make_schedule
from shared.run import Run

CURVES = {
    "loss": ("epoch_loss", "val_loss"),
    "feature deviation": ("target_std", "pred_std"),
    "effective rank (RankMe)": ("rank",),
    "mean cosine between records": ("cosine",),
    "kNN macro AUROC": ("knn_auroc",),
}


def pretrain(config: PretrainConfig) -> Path:
    """Train, log, watch for collapse and save; continues where the run folder left off.

    Returns:
        The run folder.
    """
    store, spec, optim = open_store(config.data, config.model.input), config.model.input, config.optim
    train = store.select(config.data.folds)
    with Run(config.run, config, "ecg_jepa") as run:
        batch_size = run.share_of(optim.batch_size)
        micro = min(optim.micro_batch or batch_size, batch_size)
        data = TrainingBatches(store, train, spec, batch_size, **run.loading)
        total_steps = optim.epochs * data.steps
        model = ECGJEPA(config.model)
        start_from(model, config.start_from, "ecg_jepa")
        wrapped = run.wrap(model)
        preprocess = Preprocess(spec, store.scale).to(run.device)
        optimizer = make_optimizer(model, optim)
        schedule = make_schedule(optimizer, optim, data.steps)
        begun = run.resume(model, optimizer=optimizer)
        if not begun and spec.features and config.start_from is None:  # else a checkpoint has the scales
            from ecg_jepa_modified.hybrid import fit_features

            fit_features([model.encoder, model.target_encoder], store, train)
        monitor = Monitor(config.monitor, store, config.data, preprocess, run)

        for epoch in run.epochs(optim.epochs, data.steps, data):
            for signals, indices in epoch:
                generator = run.begin_step(torch.device("cpu"))
                schedule.step_update(run.step)
                model.train()
                ecg = preprocess(signals.to(run.device, non_blocking=True))
                mask = draw_mask(config.mask, config.model.num_patches, generator)
                begin = run.own(optim.batch_size).start
                sums = dict.fromkeys(("loss", "pred_std", "target_std"), torch.zeros((), device=run.device))
                of_records = []
                for first in range(0, batch_size, micro):
                    part = ecg[first : first + micro]
                    share = len(part) / batch_size
                    masks = masks_of(mask, optim.batch_size, begin + first, len(part))
                    with run.accumulating(wrapped, last=first + micro >= batch_size):
                        with run.autocast():
                            terms = wrapped(part, masks)
                        run.scaler.scale(terms.loss * share).backward()
                    of_records.append(terms.record_loss)
                    sums = {name: value + terms[name].detach() * share for name, value in sums.items()}
                momentum = model.ema_momentum(run.step, total_steps)
                grad_norm = run.update(model, optimizer, optim.clip_grad)
                model.update_target(momentum)
                epoch.add(epoch_loss=sums["loss"], **store.loss_by_store(indices, of_records))
                if run.step % config.log_every == 0:
                    values = run.mean_over_ranks({**sums, "grad_norm": grad_norm})
                    require_finite(values["loss"], run.step)
                    run.log(run.step, **values, lr=optimizer.param_groups[0]["lr"])
                    epoch.show(loss=values["loss"])
            finish_epoch(run, config, run.whole(model), monitor, epoch)
    return config.run.out


@torch.no_grad()
def finish_epoch(run: Run, config: PretrainConfig, model: ECGJEPA, monitor: Monitor, epoch: Epoch[Any]) -> None:
    """Log the epoch; every few, look at the validation records: loss under one fixed mask, spread of features, collapse."""
    values = epoch.over_ranks()
    require_finite(values["epoch_loss"], run.step)
    if not run.is_main:
        return
    if monitor.due(epoch):
        model.eval()
        mask = draw_mask(config.mask, config.model.num_patches, torch.Generator().manual_seed(0), groups=1)
        sums = dict.fromkeys(("loss", "pred_std", "target_std"), 0.0)
        for part in monitor.validation.split(BATCH):
            with run.autocast():
                terms = model(monitor.preprocess(part.to(run.device)), mask)
            sums = {name: total + float(terms[name]) * len(part) for name, total in sums.items()}
        means = {name: total / len(monitor.validation) for name, total in sums.items()}
        values |= {"val_loss": means["loss"], "pred_std": means["pred_std"], "target_std": means["target_std"]}
        values |= monitor.look(model.encoder)
        monitor.alarm(values)
        monitor.keep(values, model, epoch)
    run.log(run.step, epoch=epoch.number + 1, **values)
    print(f"epoch {epoch.number + 1}/{epoch.of}: " + ", ".join(f"{name} {value:.4g}" for name, value in values.items()))
    if epoch.last:
        from shared.plots.charts import plot_log

        plot_log(run.out / "figures" / "training.png", run.out / "log.jsonl", CURVES)


def main(argv: Sequence[str]) -> None:
    """Entry point."""
    out = pretrain(config_from_cli(PretrainConfig, argv, "ecg_jepa_modified.pretrain"))
    print(f"pretrained: {out}")


if __name__ == "__main__":
    entry_point(exit_on_stop(main))
