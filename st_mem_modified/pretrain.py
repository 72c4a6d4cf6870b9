"""Pretrain ST-MEM: read a batch, mask, reconstruct (or name the codes of what is masked), step.

python -m st_mem_modified.pretrain configs/st_mem/pretrain.yaml optim.lr=3e-4 model.mask_ratio=0.6
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shared.checkpoints import start_from
from shared.config import config_from_cli, entry_point
from shared.data.loader import TrainingBatches, read_validation
from shared.data.store import open_store
from shared.data.transforms import Preprocess
from shared.epochs import Epoch, exit_on_stop, require_finite
from shared.monitors import Monitor
from shared.optim import make_optimizer, make_schedule
from shared.run import Run
from st_mem_modified.config import PretrainConfig
from st_mem_modified.model import STMEM, draw_noise

CURVES = {
    "loss": ("epoch_loss", "val_loss"),
    "learning rate": ("lr",),
    "gradient norm": ("grad_norm",),
    "effective rank (RankMe)": ("rank",),
    "kNN macro AUROC": ("knn_auroc",),
}


def _reconstruct(config: PretrainConfig) -> STMEM:
    return STMEM(config.model)


def _masked_tokens(config: PretrainConfig) -> nn.Module:
    from st_mem_modified.vqvae.masked_tokens import make_masked_tokens  # with the VQ-VAE and its libraries

    assert config.tokenizer is not None
    return make_masked_tokens(config.model, config.tokenizer)


OBJECTIVES: dict[str, tuple[str, Callable[[PretrainConfig], nn.Module]]] = {
    "reconstruct": ("st_mem", _reconstruct),
    "masked_tokens": ("st_mem_masked_tokens", _masked_tokens),
}
"""Objective → the method name in checkpoints, and the model."""


def pretrain(config: PretrainConfig) -> Path:
    """Train, log, draw and save; continues where the run folder left off.

    Returns:
        The run folder.
    """
    store, spec, optim = open_store(config.data, config.model.input), config.model.input, config.optim
    train = store.select(config.data.folds)
    method, make_model = OBJECTIVES[config.objective]
    with Run(config.run, config, method) as run:
        batch_size = run.share_of(optim.batch_size)
        micro = min(optim.micro_batch or batch_size, batch_size)
        data = TrainingBatches(store, train, spec, batch_size, **run.loading)
        model = make_model(config)
        start_from(model, config.start_from, method)
        wrapped = run.wrap(model)
        preprocess = Preprocess(spec, store.scale).to(run.device)
        optimizer = make_optimizer(model, optim)
        schedule = make_schedule(optimizer, optim, data.steps)
        run.resume(model, optimizer=optimizer)
        validation = read_validation(store, spec, config.data.val_folds).to(run.device)
        monitor = Monitor(config.monitor, store, config.data, preprocess, run) if config.monitor else None

        for epoch in run.epochs(optim.epochs, data.steps, data):
            for signals, indices in epoch:
                generator = run.begin_step()
                schedule.step_update(run.step)
                model.train()
                ecg = preprocess(signals.to(run.device, non_blocking=True))
                noise = draw_noise(optim.batch_size, len(spec.leads), config.model.num_patches, generator)
                noise = noise[run.own(optim.batch_size)]
                loss, of_records = torch.zeros((), device=run.device), []
                for first in range(0, batch_size, micro):
                    part = slice(first, first + micro)
                    share = len(ecg[part]) / batch_size
                    with run.accumulating(wrapped, last=first + micro >= batch_size):
                        with run.autocast():
                            terms = wrapped(ecg[part], noise[part])
                            part_loss = terms.loss * share
                        run.scaler.scale(part_loss).backward()
                    loss += part_loss.detach()
                    of_records.append(terms.get("record_loss"))
                grad_norm = run.update(model, optimizer, optim.clip_grad)
                epoch.add(epoch_loss=loss, **store.loss_by_store(indices, of_records))
                if run.step % config.log_every == 0:
                    values = run.mean_over_ranks({"loss": loss, "grad_norm": grad_norm})
                    require_finite(values["loss"], run.step)
                    run.log(run.step, **values, lr=optimizer.param_groups[0]["lr"])
                    epoch.show(loss=values["loss"])
            finish_epoch(run, config, run.whole(model), preprocess, validation, monitor, epoch)
    return config.run.out


@torch.no_grad()
def finish_epoch(
    run: Run,
    config: PretrainConfig,
    model: nn.Module,
    preprocess: Preprocess,
    validation: Tensor,
    monitor: Monitor | None,
    epoch: Epoch[Any],
) -> None:
    """Validation loss under one fixed mask, and every few epochs a picture of what is reconstructed."""
    values = epoch.over_ranks()
    require_finite(values["epoch_loss"], run.step)
    if not run.is_main:
        return
    if len(validation):
        model.eval()
        generator = torch.Generator(run.device).manual_seed(0)
        total = torch.zeros((), device=run.device)
        for part in validation.split(64):
            noise = draw_noise(len(part), part.shape[1], config.model.num_patches, generator)
            with run.autocast():
                total += model(preprocess(part), noise).loss * len(part)
        values["val_loss"] = float(total) / len(validation)
        drawn = (epoch.number + 1) % config.figure_every == 0 or epoch.last
        if drawn and isinstance(model, STMEM):
            from st_mem_modified.figures import draw_reconstruction  # plotting is loaded where something is drawn

            path = run.out / "figures" / "reconstruction.png"
            draw_reconstruction(path, model, preprocess, validation[:1], f"epoch {epoch.number + 1}")
    if monitor is not None and monitor.due(epoch):
        model.eval()
        values |= monitor.look(model.encoder)  # type: ignore[arg-type]
        monitor.alarm(values)
        monitor.keep(values, model, epoch)
    run.log(run.step, epoch=epoch.number + 1, **values)
    if epoch.last:
        from shared.plots.charts import plot_log

        plot_log(run.out / "figures" / "training.png", run.out / "log.jsonl", CURVES)
    print(f"epoch {epoch.number + 1}/{epoch.of}: " + ", ".join(f"{name} {value:.4f}" for name, value in values.items()))


def main(argv: Sequence[str]) -> None:
    """Entry point."""
    config = config_from_cli(PretrainConfig, argv, "st_mem_modified.pretrain")
    out = pretrain(config)
    print(f"pretrained: {out}")


if __name__ == "__main__":
    entry_point(exit_on_stop(main))
