"""Pretrain ST-MEM: read a batch, mask, reconstruct (or name the codes of what is masked), step.

python -m st_mem_modified.pretrain configs/st_mem/pretrain.yaml optim.lr=3e-4 model.mask_ratio=0.6
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from shared.config import config_from_cli, entry_point
from shared.data.loader import EpochBatches, read_validation, train_batches
from shared.data.store import ECGStore
from shared.data.transforms import Preprocess
from shared.optim import make_optimizer, make_schedule
from shared.plots.charts import plot_log
from shared.run import Run, exit_on_stop, require_finite
from st_mem_modified.config import PretrainConfig
from st_mem_modified.figures import draw_reconstruction
from st_mem_modified.loading import load_vqvae
from st_mem_modified.model import STMEM, draw_noise
from st_mem_modified.vqvae.masked_tokens import MaskedTokens

CURVES = {"loss": ("epoch_loss", "val_loss"), "learning rate": ("lr",), "gradient norm": ("grad_norm",)}


def _reconstruct(config: PretrainConfig) -> STMEM:
    return STMEM(config.model)


def _masked_tokens(config: PretrainConfig) -> MaskedTokens:
    assert config.tokenizer is not None
    return MaskedTokens(config.model, load_vqvae(config.tokenizer))


OBJECTIVES: dict[str, tuple[str, Callable[[PretrainConfig], STMEM | MaskedTokens]]] = {
    "reconstruct": ("st_mem", _reconstruct),
    "masked_tokens": ("st_mem_masked_tokens", _masked_tokens),
}
"""Objective → the method name in checkpoints, and the model."""


def pretrain(config: PretrainConfig) -> Path:
    """Train, log, draw and save; continues where the run folder left off.

    Returns:
        The run folder.
    """
    store, spec, optim = ECGStore(config.data.store), config.model.input, config.optim
    train = store.select(config.data.folds)
    method, make_model = OBJECTIVES[config.objective]
    with Run(config.run, config, method) as run:
        batch_size = run.share_of(optim.batch_size)
        micro = min(optim.micro_batch or batch_size, batch_size)
        ranks = {"seed": config.run.seed, "rank": run.rank, "world_size": run.world_size}
        steps_per_epoch = len(EpochBatches(store, train, spec, batch_size, epoch=0, **ranks))
        model = make_model(config)
        wrapped = run.wrap(model)
        preprocess = Preprocess(spec).to(run.device)
        optimizer = make_optimizer(model, optim)
        schedule = make_schedule(optimizer, optim, steps_per_epoch)
        step = run.resume(model, optimizer=optimizer)
        validation = read_validation(store, spec, config.data.val_folds).to(run.device)

        for epoch in range(step // steps_per_epoch, optim.epochs):
            batches = EpochBatches(store, train, spec, batch_size, epoch=epoch, **ranks)
            loader = train_batches(batches, step % steps_per_epoch, config.run.num_workers, run.device.type == "cuda")
            progress = tqdm(loader, f"epoch {epoch + 1}/{optim.epochs}", unit="step", disable=run.quiet)
            epoch_loss = torch.zeros((), device=run.device)
            for signals, _ in progress:
                generator = run.begin_step(step)
                schedule.step_update(step)
                model.train()
                ecg = preprocess(signals.to(run.device, non_blocking=True))
                noise = draw_noise(len(ecg), len(spec.leads), config.model.num_patches, generator)
                loss = torch.zeros((), device=run.device)
                for first in range(0, batch_size, micro):
                    part = slice(first, first + micro)
                    share = len(ecg[part]) / batch_size
                    with run.accumulating(wrapped, last=first + micro >= batch_size):
                        with run.autocast():
                            part_loss = wrapped(ecg[part], noise[part]).loss * share
                        run.scaler.scale(part_loss).backward()
                    loss += part_loss.detach()
                grad_norm = run.update(model, optimizer, optim.clip_grad)
                epoch_loss += loss
                step += 1
                if step % config.log_every == 0:
                    values = run.mean_over_ranks({"loss": loss, "grad_norm": grad_norm})
                    require_finite(values["loss"], step)
                    run.log(step, **values, lr=optimizer.param_groups[0]["lr"])
                    progress.set_postfix(loss=f"{values['loss']:.4f}")
                if run.check_signal():
                    run.save(model, step, optimizer=optimizer)
                    raise run.stop()
            finish_epoch(run, config, model, preprocess, validation, epoch, step, epoch_loss / max(len(loader), 1))
            if (epoch + 1) % config.run.checkpoint_every == 0 or epoch + 1 == optim.epochs:
                run.save(model, step, optimizer=optimizer)
    return config.run.out


@torch.no_grad()
def finish_epoch(
    run: Run,
    config: PretrainConfig,
    model: STMEM | MaskedTokens,
    preprocess: Preprocess,
    validation: Tensor,
    epoch: int,
    step: int,
    epoch_loss: Tensor,
) -> None:
    """Validation loss under one fixed mask, and every few epochs a picture of what is reconstructed."""
    values = run.mean_over_ranks({"epoch_loss": epoch_loss})
    require_finite(values["epoch_loss"], step)
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
        drawn = (epoch + 1) % config.figure_every == 0 or epoch + 1 == config.optim.epochs
        if drawn and isinstance(model, STMEM):
            path = run.out / "figures" / "reconstruction.png"
            draw_reconstruction(path, model, preprocess, validation[:1], f"epoch {epoch + 1}")
    run.log(step, epoch=epoch + 1, **values)
    if epoch + 1 == config.optim.epochs:
        plot_log(run.out / "figures" / "training.png", run.out / "log.jsonl", CURVES)
    print(
        f"epoch {epoch + 1}/{config.optim.epochs}: "
        + ", ".join(f"{name} {value:.4f}" for name, value in values.items())
    )


def main(argv: Sequence[str]) -> None:
    """Entry point."""
    config = config_from_cli(PretrainConfig, argv, "st_mem_modified.pretrain")
    out = pretrain(config)
    print(f"pretrained: {out}")


if __name__ == "__main__":
    entry_point(exit_on_stop(main))
