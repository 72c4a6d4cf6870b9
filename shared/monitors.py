"""Is the representation collapsing? Figures of fixed validation records after epochs, and an alarm; for any encoder.

A model that predicts its own teacher can lower its loss by making all records alike; the loss alone never tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from shared.config import Section
from shared.data.loader import read_validation
from shared.data.spec import DataConfig
from shared.data.store import ECGStore
from shared.data.transforms import Preprocess
from shared.epochs import Epoch
from shared.errors import UserError
from shared.run import Run

PROBE_NEIGHBOURS = 20
BATCH = 64


class MonitorConfig(Section):
    """What is watched during pretraining, and what counts as collapse."""

    every: int = Field(5, ge=1, description="epochs between looks at the validation records")
    records: int = Field(256, ge=2, description="validation records looked at; the kNN probe reads four times as many")
    task: str | None = Field(None, description="label column of the kNN probe; null takes the store's first, if any")
    keep_best: Literal["knn_auroc", "rank", "val_loss"] | None = Field(
        None, description="figure whose best look keeps its weights in best/ of the run folder; null: only checkpoints"
    )
    min_rank: float = Field(0.05, gt=0, lt=1, description="alarm below this share of the embedding size")
    max_cosine: float = Field(0.995, gt=0, le=1, description="alarm above this mean cosine between records")
    min_std: float = Field(
        0.01, gt=0, description="alarm below this deviation of the predictions, of methods that predict embeddings"
    )


class Monitor:
    """Watches the embeddings of one run.

    Args:
        config: how often, and what counts as collapse.
        store: training and validation records.
        data: which records are which.
        preprocess: as the training's; its InputSpec says what is read.
        run: device and precision.

    Attributes:
        validation: `[n, L, T]` int16, the records that are looked at; empty without a validation fold.
    """

    def __init__(
        self, config: MonitorConfig, store: ECGStore, data: DataConfig, preprocess: Preprocess, run: Run
    ) -> None:
        self.config, self.preprocess, self.run = config, preprocess, run
        self.validation = read_validation(store, preprocess.spec, data.val_folds, config.records)
        self.probe: tuple[Tensor, np.ndarray, np.ndarray] | None = None
        task = config.task or next(iter(store.meta["labels"]), None)
        if task is not None and len(self.validation):
            self.probe = self._read_probe(store, data, task)
        if config.keep_best and not (self.probe if config.keep_best == "knn_auroc" else len(self.validation)):
            needed = "validation records of two classes or more" if len(self.validation) else "data.val_folds"
            raise UserError(
                f"monitor.keep_best={config.keep_best} needs {needed}: this store and these folds give none."
            )

    def due(self, epoch: Epoch) -> bool:
        """Whether to look after this epoch: every few, and after the last."""
        return len(self.validation) > 0 and (epoch.last or (epoch.number + 1) % self.config.every == 0)

    @torch.no_grad()
    def look(self, encoder: nn.Module) -> dict[str, float]:
        """Effective rank and mean cosine of the validation records' embeddings; macro AUROC of kNN where there are labels.

        Args:
            encoder: with `embed`, in evaluation mode.
        """
        from shared.statistics.spectrum import effective_rank  # what scores is loaded where something is scored

        embeddings = self._embed(encoder, self.validation)
        unit = F.normalize(embeddings, dim=1)
        count = len(unit)
        cosine = (unit.sum(0).square().sum() - count) / (count * (count - 1)) if count > 1 else torch.tensor(1.0)
        found = {"rank": effective_rank(embeddings.numpy()), "cosine": float(cosine)}
        if self.probe is not None:
            from shared.statistics.knn import knn_scores
            from shared.statistics.metrics import METRICS

            signals, train_labels, val_labels = self.probe
            scores = knn_scores(self._embed(encoder, signals), train_labels, embeddings, PROBE_NEIGHBOURS)
            found["knn_auroc"] = float(METRICS["auroc_macro"](val_labels, scores)[0])
        self._size = embeddings.shape[1]
        return found

    def alarm(self, values: Mapping[str, float]) -> None:
        """Print a warning that names the figure, where one says collapse: `rank`, `cosine` and, where given, `pred_std`."""
        lowest = self.config.min_rank * min(self._size, len(self.validation))
        signs = []
        if values["rank"] < lowest:
            signs.append(f"effective rank {values['rank']:.1f} is below {lowest:.1f}")
        if values["cosine"] > self.config.max_cosine:
            signs.append(f"mean cosine between records {values['cosine']:.4f} is above {self.config.max_cosine:g}")
        if values.get("pred_std", np.inf) < self.config.min_std:
            signs.append(f"prediction deviation {values['pred_std']:.4f} is below {self.config.min_std:g}")
        if signs:
            print(
                f"WARNING: the representation may be collapsing: {'; '.join(signs)}. See {self.run.out / 'log.jsonl'}."
            )

    def keep(self, values: Mapping[str, float], model: nn.Module, epoch: Epoch) -> None:
        """Keep the model's weights in `best/` where the figure of `keep_best` is better than before."""
        name = self.config.keep_best
        if name is not None:
            from shared.run_folder import keep_best

            keep_best(self.run, model, epoch.number + 1, name, values[name], smaller=name == "val_loss")

    def _read_probe(self, store: ECGStore, data: DataConfig, task: str) -> tuple[Tensor, np.ndarray, np.ndarray] | None:
        """Training records for the kNN probe, their labels and those of the validation records; None without two classes."""
        from shared.data.tasks import make_task  # with labels only; so are the imports in `look`

        spec, targets = self.preprocess.spec, make_task(store, task).labels
        train = store.select(data.folds, 4 * self.config.records)
        val = store.select(data.val_folds, self.config.records)
        scored = targets[val].any(axis=0) & ~targets[val].all(axis=0)
        if not scored.any() or len(train) < PROBE_NEIGHBOURS:
            return None
        start = np.full(len(train), (store.num_samples - spec.num_samples) // 2)
        signals = torch.from_numpy(store.read_windows(train, start, spec.num_samples, store.rows_for(spec)))
        return signals, targets[train][:, scored], targets[val][:, scored]

    def _embed(self, encoder: nn.Module, signals: Tensor) -> Tensor:
        """Embeddings `[n, D]` float32 on the CPU of stored signals `[n, L, T]`."""
        parts = []
        for part in signals.split(BATCH):
            with self.run.autocast():
                embedded = encoder.embed(self.preprocess(part.to(self.run.device)))  # type: ignore[operator]
            parts.append(embedded.float().cpu())
        return torch.cat(parts)
