"""Pretrain ECG-JEPA: read a batch, mask times, predict the teacher's tokens, step, move the teacher.

python -m ecg_jepa_modified.pretrain configs/ecg_jepa/pretrain.yaml optim.lr=1e-4 mask.kind=random
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from ecg_jepa_modified.config import PretrainConfig
from ecg_jepa_modified.hybrid import fit_features
from ecg_jepa_modified.masking import draw_mask
from ecg_jepa_modified.model import ECGJEPA
from ecg_jepa_modified.monitors import Monitors
from shared.config import config_from_cli, entry_point
from shared.data.loader import EpochBatches, train_batches
from shared.data.store import ECGStore
from shared.data.transforms import Preprocess
from shared.optim import make_optimizer, make_schedule
from shared.run import Run, exit_on_stop, require_finite


def pretrain(config: PretrainConfig) -> Path:
    """Train, log, watch for collapse and save; continues where the run folder left off.

    Returns:
        The run folder.
    """
    store, spec, optim = ECGStore(config.data.store), config.model.input, config.optim
    train = store.select(config.data.folds)
    with Run(config.run, config, "ecg_jepa") as run:
        batch_size = run.share_of(optim.batch_size)
        micro = min(optim.micro_batch or batch_size, batch_size)
        ranks = {"seed": config.run.seed, "rank": run.rank, "world_size": run.world_size}
        steps_per_epoch = len(EpochBatches(store, train, spec, batch_size, epoch=0, **ranks))
        total_steps = optim.epochs * steps_per_epoch
        model = ECGJEPA(config.model)
        wrapped = run.wrap(model)
        preprocess = Preprocess(spec).to(run.device)
        optimizer = make_optimizer(model, optim)
        schedule = make_schedule(optimizer, optim, steps_per_epoch)
        step = run.resume(model, optimizer=optimizer)
        if step == 0:  # a resumed run has the scales in its checkpoint
            fit_features([model.encoder, model.target_encoder], store, train)
        monitors = Monitors(config, store, preprocess, run)

        for epoch in range(step // steps_per_epoch, optim.epochs):
            batches = EpochBatches(store, train, spec, batch_size, epoch=epoch, **ranks)
            loader = train_batches(batches, step % steps_per_epoch, config.run.num_workers, run.device.type == "cuda")
            progress = tqdm(loader, f"epoch {epoch + 1}/{optim.epochs}", unit="step", disable=run.quiet)
            epoch_loss = torch.zeros((), device=run.device)
            for signals, _ in progress:
                generator = run.begin_step(step, torch.device("cpu"))
                schedule.step_update(step)
                model.train()
                ecg = preprocess(signals.to(run.device, non_blocking=True))
                sums = dict.fromkeys(("loss", "pred_std", "target_std"), torch.zeros((), device=run.device))
                for first in range(0, batch_size, micro):
                    part = ecg[first : first + micro]
                    share = len(part) / batch_size
                    mask = draw_mask(config.mask, config.model.num_patches, generator)
                    with run.accumulating(wrapped, last=first + micro >= batch_size):
                        with run.autocast():
                            terms = wrapped(part, mask)
                        run.scaler.scale(terms.loss * share).backward()
                    sums = {name: value + terms[name].detach() * share for name, value in sums.items()}
                grad_norm = run.update(model, optimizer, optim.clip_grad)
                model.update_target(model.ema_momentum(step, total_steps))
                epoch_loss += sums["loss"]
                step += 1
                if step % config.log_every == 0:
                    values = run.mean_over_ranks({**sums, "grad_norm": grad_norm})
                    require_finite(values["loss"], step)
                    run.log(step, **values, lr=optimizer.param_groups[0]["lr"])
                    progress.set_postfix(loss=f"{values['loss']:.4f}")
                if run.check_signal():
                    run.save(model, step, optimizer=optimizer)
                    raise run.stop()
            values = run.mean_over_ranks({"epoch_loss": epoch_loss / max(len(loader), 1)})
            require_finite(values["epoch_loss"], step)
            if run.is_main:
                monitors.after_epoch(model, epoch, step, values)
            if (epoch + 1) % config.run.checkpoint_every == 0 or epoch + 1 == optim.epochs:
                run.save(model, step, optimizer=optimizer)
    return config.run.out


def main(argv: Sequence[str]) -> None:
    """Entry point."""
    out = pretrain(config_from_cli(PretrainConfig, argv, "ecg_jepa_modified.pretrain"))
    print(f"pretrained: {out}")


if __name__ == "__main__":
    entry_point(exit_on_stop(main))
