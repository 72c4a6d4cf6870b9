"""What each kind of checkpoint puts into an evaluation: its rows and its pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from shared.data.store import ECGStore
from shared.data.transforms import Preprocess
from shared.embeddings import OneKind
from shared.evaluation.config import EvaluateConfig
from shared.evaluation.context import UNTUNED, Picture
from shared.evaluation.evaluate import evaluate_weights
from shared.evaluation.rows import Rows, chosen_in, start_of, untuned_row
from shared.triplet.model import TripletModel
from st_mem_modified.figures import draw_reconstruction
from st_mem_modified.loading import encoder_of, load_encoder, load_model, random_encoder
from st_mem_modified.model import STMEM
from st_mem_modified.vqvae.figures import draw_codes_under_ecg, draw_vq_reconstruction
from st_mem_modified.vqvae.model import VQVAE


def run_evaluation(config: EvaluateConfig) -> Path:
    """Evaluate as the config says; returns the path of the report page.

    Raises:
        UserError: no weights were named.
    """
    return evaluate_weights(config, rows_of)


def rows_of(weights: Path, config: EvaluateConfig, out: Path) -> Rows:
    """The rows of a checkpoint of any kind, its pictures drawn below `out`."""
    model, trained = load_model(weights)
    random = random_encoder(encoder_of(model).config, config.seed)
    rows = ROWS.get(type(model), _plain_rows)(model, trained, random)
    figures = DRAW[type(model)](model, config, out) if type(model) in DRAW else []
    return replace(rows, trained_on=trained.get("data"), figures=figures, chosen=chosen_in(trained, weights))


# ---------------------------------------------------------------- rows


def _plain_rows(model: nn.Module, trained: Mapping[str, Any], random: nn.Module) -> Rows:
    of = " of masked codes" if trained.get("objective") == "masked_tokens" else ""
    mode = f", {trained['mode']}" if "mode" in trained else ""
    return Rows(f"ST-MEM{of}{mode}", encoder_of(model), random)


def _triplet_rows(model: TripletModel, trained: Mapping[str, Any], random: nn.Module) -> Rows:
    others = untuned_row(model.encoder, trained, load_encoder)
    return Rows(f"ST-MEM + {trained['loss']['name']}", model, random, others, tuple(others))


def _vqvae_rows(model: VQVAE, trained: Mapping[str, Any], random: nn.Module) -> Rows:
    others: dict[str, nn.Module] = {
        "before quantisation": OneKind(model, "tokens"),
        "histogram of codes": OneKind(model, "histogram"),
        "tf-idf of codes": OneKind(model, "tfidf"),
    }
    start = start_of(trained, load_encoder)
    if start is not None:
        others[UNTUNED] = start
    if start is None or not trained["encoder"]["frozen"]:
        others["its encoder"] = model.encoder
    baselines = () if start is None else (UNTUNED,)
    return Rows("VQ-VAE quantised tokens", OneKind(model, "quantized"), random, others, baselines)


ROWS: dict[type[nn.Module], Callable[[Any, Mapping[str, Any], nn.Module], Rows]] = {
    TripletModel: _triplet_rows,
    VQVAE: _vqvae_rows,
}
"""Kind of model → its rows; others are one row."""


# ---------------------------------------------------------------- figures


def first_test_record(config: EvaluateConfig, model: nn.Module) -> tuple[torch.Tensor, Preprocess]:
    """The first test record as stored, `[1, L, T]` int16, and how the model wants it."""
    store, spec = ECGStore(config.store), encoder_of(model).input_spec
    first = store.select(config.test_folds)[:1]
    signal = store.read_windows(first, first * 0, spec.num_samples, store.rows_for(spec))
    return torch.from_numpy(signal), Preprocess(spec, store.scale)


def _draw_stmem(model: STMEM, config: EvaluateConfig, out: Path) -> list[Picture]:
    path = out / "figures" / "reconstruction.png"
    signal, preprocess = first_test_record(config, model)
    draw_reconstruction(path, model, preprocess, signal, "test record")
    return [Picture(path, "A test record: masked stretches (shaded) as the pretrained model fills them in.")]


def _draw_vqvae(model: VQVAE, config: EvaluateConfig, out: Path) -> list[Picture]:
    signal, preprocess = first_test_record(config, model)
    paths = [out / "figures" / name for name in ("vq_reconstruction.png", "vq_codes.png")]
    draw_vq_reconstruction(paths[0], model, preprocess, signal, "test record")
    draw_codes_under_ecg(paths[1], model, preprocess, signal, "test record")
    return [
        Picture(paths[0], "A test record and what its codes say of it."),
        Picture(paths[1], "The same record's codes: one number per patch and lead, each code its own colour."),
    ]


DRAW: dict[type[nn.Module], Callable[[Any, EvaluateConfig, Path], list[Picture]]] = {
    STMEM: _draw_stmem,
    VQVAE: _draw_vqvae,
}
"""Kind of model → its pictures."""
