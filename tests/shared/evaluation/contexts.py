"""Contexts to run protocols on: a small store on disk, embeddings of any kind, and an encoder that costs nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import nn

from shared.data.spec import InputSpec
from shared.data.splits import Split
from shared.data.store import ECGStore
from shared.data.tasks import Task
from shared.data.writer import StoreWriter
from shared.evaluation.config import EvaluateConfig
from shared.evaluation.context import RANDOM, Context
from shared.leads import LEADS
from shared.statistics.bootstrap import Resamples

NAME = "encoder"
CLASSES = ("A", "B", "C")


class Powers(nn.Module):
    """Embeds each lead by its mean, its deviation and its mean absolute step; unseen leads give zeros."""

    def __init__(self, num_samples=100, leads=LEADS):
        super().__init__()
        self.input_spec = InputSpec(fs=100, leads=leads, num_samples=num_samples)
        self.embed_dim = 3 * len(leads)

    def features(self, ecg):
        return torch.stack([ecg.mean(-1), ecg.std(-1), ecg.diff(dim=-1).abs().mean(-1)], dim=-1)  # [B, L, 3]

    def embed(self, ecg, leads=None):
        own = self.input_spec.leads
        out = ecg.new_zeros(len(ecg), len(own), 3)
        out[:, [own.index(lead) for lead in leads or own]] = self.features(ecg)
        return out.flatten(1)

    def tokens(self, ecg, leads=None):
        return self.features(ecg)[:, :, None]  # [B, L, 1, 3]


def make_store(path, num=300, per_patient=1, seed=0, fs=100.0, num_samples=120, leads=LEADS, **columns):
    """A store of noise whose size is its class: lead V1 is large for A, II for B, I for C."""
    rng = np.random.default_rng(seed)
    patients = np.arange(num) // per_patient
    labels = rng.random((patients.max() + 1, 3))[patients] < 0.4
    labels[~labels.any(axis=1), 0] = True
    signals = rng.normal(0, 100, (num, len(leads), num_samples))
    for c, lead in enumerate(("V1", "II", "I")):
        if lead in leads:
            signals[labels[:, c], leads.index(lead)] *= 3
    records = pd.DataFrame(
        {
            "source": "test",
            "record": [f"r{i}" for i in range(num)],
            "segment": 0,
            "patient": [f"p{i}" for i in patients],
            "fold": patients % 10 + 1,
            "kind": [[c for c, has in zip(CLASSES, row, strict=True) if has] for row in labels],
            "digest": [f"d{i}" for i in range(num)],
            **columns,
        }
    )
    meta = {"fs": fs, "leads": list(leads), "num_samples": num_samples, "labels": {"kind": list(CLASSES)}}
    with StoreWriter(path, len(leads), num_samples, 1000) as writer:
        writer.add(signals.round().astype(np.int16))
        writer.finish(records, {**meta, "made_by": {}}, {})
    return ECGStore(path), labels


def make_context(tmp_path, store, labels, rows=None, encoders=None, baselines=(RANDOM,), **settings):
    """A context over all records of a store; `rows` maps names to embeddings `[n, D]`."""
    settings = {"resamples": 50, "min_positives": 2, "device": "cpu", **settings}
    config = EvaluateConfig(store=store.path, task="kind", **settings)
    fold = store.records.fold.to_numpy()
    split = Split(*(np.flatnonzero(np.isin(fold, folds)) for folds in ((1, 2, 3, 4, 5, 6), (7, 8), (9, 10))))
    task = Task("kind", CLASSES, labels, np.ones(len(store), dtype=bool))
    resamples = Resamples(store.records.patient.to_numpy()[split.test], config.resamples, 0)
    context = Context(
        store, task, np.arange(len(store)), split, config, rows or {}, resamples, tmp_path / "out",
        torch.device("cpu"), encoders or {}, baselines,
    )  # fmt: skip
    if encoders and not rows:
        context.rows.update({row: context.embed(row) for row in encoders})
    return context


def truth_and_noise(labels, seed=0, dim=8):
    """Embeddings that hold the labels, and embeddings of noise, `[n, dim]` float32 each."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(len(labels), dim)).astype(np.float32)
    truth = noise.copy()
    truth[:, :3] += 20 * labels
    return {NAME: truth, RANDOM: noise}
