"""Train a VQ-VAE over ST-MEM tokens: read a batch, encode, quantise, decode, step; watch the codebook; evaluate.

python -m st_mem_modified.vqvae.train configs/st_mem/vqvae.yaml quantizer.codebook_size=512
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shared.config import config_from_cli, entry_point
from shared.data.loader import TrainingBatches, read_validation
from shared.data.store import open_store
from shared.data.transforms import Preprocess
from shared.epochs import Epoch, exit_on_stop, require_finite
from shared.optim import make_optimizer, make_schedule
from shared.plots.charts import plot_log
from shared.run import Run
from shared.statistics.spectrum import effective_rank
from st_mem_modified.loading import load_encoder
from st_mem_modified.model import STMEMEncoder
from st_mem_modified.rows import run_evaluation
from st_mem_modified.vqvae.codebook import CodeCensus, codebook_health, describe_alarm, lead_correlation
from st_mem_modified.vqvae.config import VQModelConfig, VQTrainConfig
from st_mem_modified.vqvae.figures import draw_code_usage, draw_codes, draw_codes_under_ecg, draw_vq_reconstruction
from st_mem_modified.vqvae.model import VQVAE

CURVES = {
    "loss": ("epoch_loss", "val_loss", "val_reconstruction", "epoch_commitment"),
    "codebook": ("used_fraction", "perplexity_fraction"),
    "correlation": ("correlation", "worst_lead"),
    "learning rate": ("lr",),
    "gradient norm": ("grad_norm",),
}


def train(config: VQTrainConfig) -> Path:
    """Train, log, draw and save; continues where the run folder left off.

    Returns:
        The run folder.
    """
    config, start = with_encoder(config)
    store, spec, optim = open_store(config.data, config.model.input), config.model.input, config.optim
    records = store.select(config.data.folds)
    with Run(config.run, config, "st_mem_vqvae") as run:
        batch_size = run.share_of(optim.batch_size)
        data = TrainingBatches(store, records, spec, batch_size, **run.loading)
        model = VQVAE(config)
        if start is not None:
            model.encoder.load_state_dict(start.state_dict())
            model.encoder.requires_grad_(not config.encoder.frozen)
        wrapped = run.wrap(model)
        preprocess = Preprocess(spec, store.scale).to(run.device)
        optimizer = make_optimizer(model, optim)
        schedule = make_schedule(optimizer, optim, data.steps)
        census = CodeCensus(model, all_ranks=True)
        run.resume(model, optimizer=optimizer, census=census)
        validation = read_validation(store, spec, config.data.val_folds).to(run.device)

        for epoch in run.epochs(optim.epochs, data.steps, data):
            if epoch.position == 0:
                census.reset()
            for signals, indices in epoch:
                run.begin_step()
                schedule.step_update(run.step)
                model.train()
                model.encoder.train(start is None or not config.encoder.frozen)
                ecg = preprocess(signals.to(run.device, non_blocking=True))
                with run.autocast():
                    out = wrapped(ecg)
                run.scaler.scale(out.loss).backward()
                grad_norm = run.update(model, optimizer, optim.clip_grad)
                census.add(out.indices)
                by_store = store.loss_by_store(indices, [out.record_loss])
                epoch.add(epoch_loss=out.loss, epoch_commitment=out.commitment, **by_store)
                if run.step % config.log_every == 0:
                    parts = {name: out[name].detach() for name in ("loss", "reconstruction", "commitment")}
                    values = run.mean_over_ranks({**parts, "grad_norm": grad_norm})
                    require_finite(values["loss"], run.step)
                    run.log(run.step, **values, lr=optimizer.param_groups[0]["lr"])
                    epoch.show(loss=values["loss"])
            finish_epoch(run, config, model, preprocess, validation, census, epoch)
        main_rank = run.is_main
    if config.evaluate is not None and main_rank:
        encoder = config.evaluate.encoder.model_copy(update={"weights": config.run.out})
        run_evaluation(config.evaluate.model_copy(update={"encoder": encoder}))
    return config.run.out


def with_encoder(config: VQTrainConfig) -> tuple[VQTrainConfig, STMEMEncoder | None]:
    """The config with the sizes and input of the encoder it starts from, and that encoder; None from scratch."""
    if config.encoder.weights is None:
        return config, None
    start = load_encoder(config.encoder.weights)
    own = {"decoder_dim", "decoder_depth", "decoder_heads", "norm_pix_loss"}
    sizes = {**start.config.model_dump(exclude=own | {"mask_ratio"}), **config.model.model_dump(include=own)}
    return config.model_copy(update={"model": VQModelConfig.model_validate(sizes)}), start


@torch.no_grad()
def finish_epoch(
    run: Run,
    config: VQTrainConfig,
    model: VQVAE,
    preprocess: Preprocess,
    validation: Tensor,
    census: CodeCensus,
    epoch: Epoch[Any],
) -> None:
    """Health of the codebook and quality of the reconstruction on validation, the alarm, and every few epochs pictures."""
    # Quantisers say their commitment in training only, so it is the epoch's mean.
    values = epoch.over_ranks()
    require_finite(values["epoch_loss"], run.step)
    if not run.is_main:
        return
    model.eval()
    model.idf.copy_(census.idf())
    number = epoch.number + 1
    if len(validation):
        census = CodeCensus(model)
        values |= validate(run, model, preprocess, validation, census, epoch.last)
    health = codebook_health(census.counts)
    values |= health
    if health["used_fraction"] < config.alarm_below and number > config.optim.warmup_epochs:
        print(describe_alarm(health, config.alarm_below))
        values["alarm"] = 1.0
    run.log(run.step, epoch=number, **values)
    histogram = {"epoch": number, **health, "counts": census.counts.tolist()}
    (run.out / "codebook.json").write_text(json.dumps(histogram))
    if epoch.last or number % config.figure_every == 0:
        folder = run.out / "figures"
        draw_code_usage(folder / "code_usage.png", census.counts)
        if len(validation):
            draw_vq_reconstruction(folder / "reconstruction.png", model, preprocess, validation[:1], f"epoch {number}")
            draw_codes_under_ecg(folder / "codes_under_ecg.png", model, preprocess, validation[:1], f"epoch {number}")
            if config.design == "tokens":
                draw_codes(folder / "codes.png", model, preprocess(validation[:128]))
    if epoch.last:
        plot_log(run.out / "figures" / "training.png", run.out / "log.jsonl", CURVES)
    shown = ("epoch_loss", "val_reconstruction", "correlation", "worst_lead", "used_fraction", "perplexity_fraction")
    print(f"epoch {number}/{epoch.of}: " + ", ".join(f"{n} {values[n]:.3f}" for n in shown if n in values))


def validate(
    run: Run, model: VQVAE, preprocess: Preprocess, validation: Tensor, census: CodeCensus, ranks: bool
) -> dict[str, float]:
    """Loss and its parts, correlation of the reconstruction (mean over records; mean and worst of the leads), on validation.

    Args:
        run: device and precision.
        model: in evaluation mode.
        preprocess: of the model's InputSpec.
        validation: `[n, L, T]` int16.
        census: gets the codes.
        ranks: whether to add the effective ranks of the embeddings.
    """
    totals = dict.fromkeys(("val_loss", "val_reconstruction"), 0.0)
    correlations: list[Tensor] = []
    embeddings: dict[str, list[Tensor]] = {"quantized": [], "encoder": []}
    for part in validation.split(64):
        ecg = preprocess(part)
        with run.autocast():
            out = model(ecg)
            if ranks:
                for kind, found in embeddings.items():
                    found.append(model.embed(ecg, kind=kind).float())
        for name in totals:
            totals[name] += float(out[name.removeprefix("val_")]) * len(part) / len(validation)
        census.add(out.indices)
        correlations.append(lead_correlation(out.pred.flatten(2), ecg))
    by_lead = torch.cat(correlations).mean(0)
    values = {**totals, "correlation": float(by_lead.mean()), "worst_lead": float(by_lead.min())}
    if ranks:
        for kind, found in embeddings.items():
            together = torch.cat(found).cpu().numpy()
            values[f"effective_rank_{kind}"] = effective_rank(together, centred=True)
    return values


def main(argv: Sequence[str]) -> None:
    """Entry point."""
    config = config_from_cli(VQTrainConfig, argv, "st_mem_modified.vqvae")
    print(f"trained: {train(config)}")


if __name__ == "__main__":
    entry_point(exit_on_stop(main))
