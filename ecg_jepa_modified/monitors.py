"""Is the representation collapsing? Figures of fixed validation records, logged after epochs, and an alarm.

A model that predicts its own teacher can lower its loss by making all records alike; the loss alone never tells.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ecg_jepa_modified.config import PretrainConfig
from ecg_jepa_modified.masking import draw_mask
from ecg_jepa_modified.model import ECGJEPA
from shared.data.loader import read_validation
from shared.data.store import ECGStore
from shared.data.tasks import make_task
from shared.data.transforms import Preprocess
from shared.plots.charts import plot_log
from shared.run import Run
from shared.statistics.knn import knn_scores
from shared.statistics.metrics import METRICS
from shared.statistics.spectrum import rank_me

PROBE_NEIGHBOURS = 20
CURVES = {
    "loss": ("epoch_loss", "val_loss"),
    "feature deviation": ("target_std", "pred_std"),
    "effective rank (RankMe)": ("rank",),
    "mean cosine between records": ("cosine",),
    "kNN macro AUROC": ("knn_auroc",),
}


class Monitors:
    """Watches one run.

    Args:
        config: of the pretraining; its `monitor` section says how often and what counts as collapse.
        store: training and validation records.
        preprocess: as the training's.
        run: where to log and draw.
    """

    def __init__(self, config: PretrainConfig, store: ECGStore, preprocess: Preprocess, run: Run) -> None:
        self.config, self.run, self.preprocess = config, run, preprocess
        spec, settings = config.model.input, config.monitor
        self.validation = read_validation(store, spec, config.data.val_folds, settings.records)
        labels = store.meta["labels"]
        task = settings.task or next(iter(labels), None)
        self.probe: tuple[Tensor, np.ndarray, np.ndarray] | None = None
        if task is not None and len(self.validation):
            targets = make_task(store, task).labels
            train = store.select(config.data.folds)[: 4 * settings.records]
            val = store.select(config.data.val_folds)[: settings.records]
            scored = targets[val].any(axis=0) & ~targets[val].all(axis=0)
            if scored.any() and len(train) >= PROBE_NEIGHBOURS:
                rows = store.rows_for(spec)
                start = np.full(len(train), (store.num_samples - spec.num_samples) // 2)
                signals = torch.from_numpy(store.read_windows(train, start, spec.num_samples, rows))
                self.probe = signals, targets[train][:, scored], targets[val][:, scored]

    def after_epoch(self, model: ECGJEPA, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """Log the epoch; every `monitor.every` epochs, and after the last, look at the validation records too."""
        logged = dict(values)
        last = epoch + 1 == self.config.optim.epochs
        if len(self.validation) and (last or (epoch + 1) % self.config.monitor.every == 0):
            model.eval()
            logged |= self.look(model)
            self.alarm(logged)
        self.run.log(step, epoch=epoch + 1, **logged)
        shown = ", ".join(f"{name} {value:.4g}" for name, value in logged.items())
        print(f"epoch {epoch + 1}/{self.config.optim.epochs}: {shown}")
        if last:
            plot_log(self.run.out / "figures" / "training.png", self.run.out / "log.jsonl", CURVES)

    @torch.no_grad()
    def look(self, model: ECGJEPA) -> dict[str, float]:
        """Validation loss under one fixed mask, spread of the features, rank and alikeness of the embeddings, kNN."""
        mask = draw_mask(self.config.mask, self.config.model.num_patches, torch.Generator().manual_seed(0), groups=1)
        sums = dict.fromkeys(("loss", "pred_std", "target_std"), 0.0)
        for part in self.validation.split(64):
            with self.run.autocast():
                terms = model(self.preprocess(part.to(self.run.device)), mask)
            sums = {name: total + float(terms[name]) * len(part) for name, total in sums.items()}
        means = {name: total / len(self.validation) for name, total in sums.items()}
        embeddings = self.embed(model, self.validation)
        unit = F.normalize(embeddings, dim=1)
        count = len(unit)
        cosine = (unit.sum(0).square().sum() - count) / (count * (count - 1)) if count > 1 else torch.tensor(1.0)
        found = {
            "val_loss": means["loss"],
            "pred_std": means["pred_std"],
            "target_std": means["target_std"],
            "rank": rank_me(embeddings.numpy()),
            "cosine": float(cosine),
        }
        if self.probe is not None:
            signals, train_labels, val_labels = self.probe
            scores = knn_scores(self.embed(model, signals), train_labels, embeddings, PROBE_NEIGHBOURS)
            found["knn_auroc"] = float(METRICS["auroc_macro"](val_labels, scores)[0])
        return found

    def embed(self, model: ECGJEPA, signals: Tensor) -> Tensor:
        """Embeddings `[n, D]` float32 on the CPU of stored signals `[n, L, T]`."""
        parts = []
        for part in signals.split(64):
            with self.run.autocast():
                parts.append(model.encoder.embed(self.preprocess(part.to(self.run.device))).float().cpu())
        return torch.cat(parts)

    def alarm(self, values: Mapping[str, float]) -> None:
        """Print a warning that names the figure, where one says collapse."""
        monitor = self.config.monitor
        lowest = monitor.min_rank * min(self.config.model.embed_dim, len(self.validation))
        signs = []
        if values["rank"] < lowest:
            signs.append(f"effective rank {values['rank']:.1f} is below {lowest:.1f}")
        if values["cosine"] > monitor.max_cosine:
            signs.append(f"mean cosine between records {values['cosine']:.4f} is above {monitor.max_cosine:g}")
        if values["pred_std"] < monitor.min_std:
            signs.append(f"prediction deviation {values['pred_std']:.4f} is below {monitor.min_std:g}")
        if signs:
            print(
                f"WARNING: the representation may be collapsing: {'; '.join(signs)}. See {self.run.out / 'log.jsonl'}."
            )
