"""What each kind of checkpoint puts into an evaluation: its rows, its pictures, and its gain over a baseline row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shared.data.store import ECGStore
from shared.data.transforms import Preprocess
from shared.errors import UserError
from shared.evaluation.config import EvaluateConfig
from shared.evaluation.context import RANDOM, Picture, Result
from shared.evaluation.evaluate import evaluate, evaluation_folder, open_context
from shared.evaluation.outside import evaluate_outside
from shared.evaluation.protocols import PROTOCOLS
from shared.evaluation.report.page import format_interval
from shared.plots.embeddings import plot_embeddings
from shared.run import pick_device
from shared.triplet.model import TripletModel
from st_mem_modified.figures import draw_reconstruction
from st_mem_modified.loading import encoder_of, load_encoder, load_model, random_encoder
from st_mem_modified.model import STMEM
from st_mem_modified.vqvae.figures import draw_codes_under_ecg, draw_vq_reconstruction
from st_mem_modified.vqvae.model import VQVAE

UNTUNED = "untuned encoder"
COMPARED = ("knn", "knn_cosine", "clusters")
"""Protocols in which rows are compared with the baseline, too."""
GAINS = (
    "auroc_macro",
    "f1_weighted",
    "labels/silhouette",
    "labels/davies_bouldin",
    "labels/calinski_harabasz",
    "kmeans/nmi",
)


@dataclass
class Rows:
    """The rows of one evaluation.

    Attributes:
        name: of the first row.
        encoder: the first row's.
        others: further rows, name to encoder.
        baseline: the row among `others` that the first is compared with beside the random encoder; None: no such.
    """

    name: str
    encoder: nn.Module
    others: dict[str, nn.Module] = field(default_factory=dict)
    baseline: str | None = None


def run_evaluation(config: EvaluateConfig) -> Path:
    """Evaluate as the config says; returns the path of the report page.

    Raises:
        UserError: no weights were named.
    """
    if config.encoder.module is not None:
        return evaluate_outside(config)
    if config.encoder.weights is None:
        raise UserError("encoder.weights is not set: give a run folder, a model.safetensors or a released .pth.")
    model, trained = load_model(config.encoder.weights)
    out = config.out or evaluation_folder(config.encoder.weights)
    rows = ROWS.get(type(model), _plain_rows)(model, trained)
    figures = DRAW[type(model)](model, config, out) if type(model) in DRAW else []
    if rows.baseline is not None:
        figures = [*compare(rows, config, out), *figures]
    return evaluate(
        rows.encoder,
        random_encoder(encoder_of(model).config, config.seed),
        config,
        out,
        name=rows.name,
        others=rows.others,
        trained_on=trained.get("data"),
        figures=figures,
    )


# ---------------------------------------------------------------- rows


class OnePass:
    """Several kinds of a VQ-VAE's embedding from one pass of its encoder.

    The rows of a table are embedded one after another over the same batches. A batch's embeddings are kept until each kind was
    asked for once, so that the encoder sees the data once and not once a row.
    """

    def __init__(self, vqvae: VQVAE, kinds: Sequence[str]) -> None:
        self.vqvae, self.kinds = vqvae, kinds
        self.kept: dict[tuple[str, tuple[str, ...]], dict[str, Tensor]] = {}

    def embed(self, ecg: Tensor, leads: Sequence[str] | None, kind: str) -> Tensor:
        """One kind of the embeddings of `ecg [B, L, T]`."""
        key = (hashlib.blake2b(ecg.cpu().contiguous().numpy().data, digest_size=16).hexdigest(), tuple(leads or ()))
        if kind not in self.kept.get(key, {}):
            found = self.vqvae.embed_kinds(ecg, leads, self.kinds)
            self.kept[key] = {name: value.cpu() for name, value in found.items()}
        own = self.kept[key].pop(kind).to(ecg.device)
        if not self.kept[key]:
            del self.kept[key]
        return own


class EmbedAs(nn.Module):
    """A VQ-VAE that offers one kind of embedding to the evaluation; with `one_pass` it shares the work with other rows."""

    def __init__(self, vqvae: VQVAE, kind: str, one_pass: OnePass | None = None) -> None:
        super().__init__()
        self.vqvae, self.kind, self.one_pass = vqvae, kind, one_pass
        self.input_spec, self.embed_dim = vqvae.input_spec, vqvae.width_of(kind)

    def embed(self, ecg: Tensor, leads: Sequence[str] | None = None) -> Tensor:
        """`[B, L, T]` → `[B, embed_dim]`."""
        if self.one_pass is not None:
            return self.one_pass.embed(ecg, leads, self.kind)
        return self.vqvae.embed(ecg, leads, self.kind)


def _plain_rows(model: nn.Module, trained: Mapping[str, Any]) -> Rows:
    of = " of masked codes" if trained.get("objective") == "masked_tokens" else ""
    return Rows(f"ST-MEM{of}, {trained['mode']}" if "mode" in trained else f"ST-MEM{of}", encoder_of(model))


def _triplet_rows(model: TripletModel, trained: Mapping[str, Any]) -> Rows:
    before = _start_of(trained)
    if before is None and trained["encoder"]["train"] == "none":
        before = model.encoder
    others = {} if before is None else {UNTUNED: before}
    return Rows(f"ST-MEM + {trained['loss']['name']}", model, others, UNTUNED if others else None)


def _vqvae_rows(model: VQVAE, trained: Mapping[str, Any]) -> Rows:
    one_pass = OnePass(model, ("quantized", "tokens", "histogram", "tfidf"))
    others: dict[str, nn.Module] = {
        "before quantisation": EmbedAs(model, "tokens", one_pass),
        "histogram of codes": EmbedAs(model, "histogram", one_pass),
        "tf-idf of codes": EmbedAs(model, "tfidf", one_pass),
    }
    start = _start_of(trained)
    if start is not None:
        others[UNTUNED] = start
    if start is None or not trained["encoder"]["frozen"]:
        others["its encoder"] = EmbedAs(model, "encoder")
    first = EmbedAs(model, "quantized", one_pass)
    return Rows("VQ-VAE quantised tokens", first, others, UNTUNED if start is not None else None)


def _start_of(trained: Mapping[str, Any]) -> nn.Module | None:
    """The encoder a training started from, where its weights are still there."""
    weights = trained["encoder"]["weights"]
    return load_encoder(Path(weights)) if weights is not None and Path(weights).exists() else None


ROWS: dict[type[nn.Module], Callable[[Any, Mapping[str, Any]], Rows]] = {
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
    return torch.from_numpy(signal), Preprocess(spec)


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


# ---------------------------------------------------------------- gain over the baseline


def compare(rows: Rows, config: EvaluateConfig, out: Path) -> list[Picture]:
    """Paired differences of the rows and the baseline: `gain.json`, and the maps of both as a figure with the main numbers.

    The protocols compare every row with the one that stands in the place of the random encoder; here it is the baseline. Embeddings
    are cached below `out`, where `evaluate` finds them.
    """
    assert rows.baseline is not None
    encoders = {rows.name: rows.encoder, **rows.others}
    context = open_context(config, out, pick_device(config.device), encoders)
    embedded = {row: context.embed(row) for row in encoders}
    baseline = embedded.pop(rows.baseline)
    context = replace(context, rows={**embedded, RANDOM: baseline})
    gains: dict[str, Result] = {p: PROTOCOLS[p](context) for p in COMPARED if p in config.protocols}
    content = {
        f"{row}/{protocol} minus {rows.baseline}": differences
        for protocol, result in gains.items()
        for row, differences in result.differences.items()
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "gain.json").write_text(json.dumps(content, indent=1))
    lines = []
    for protocol, result in gains.items():
        found = result.differences.get(rows.name, {})
        lines += [f"{protocol} {m} {format_interval(found[m], '+')}" for m in GAINS if m in found]
    for line in lines:
        print(f"{rows.name} − {rows.baseline}: {line}")
    path = out / "figures" / "before_after_pca.png"
    single = context.labels.sum(axis=1) == 1
    test = [i for i in context.split.test if single[i]]
    plot_embeddings(
        path,
        {f"before: {rows.baseline}": baseline[test], f"after: {rows.name}": embedded[rows.name][test]},
        context.labels[test].argmax(axis=1),
        context.task.classes,
        "pca",
        seed=config.seed,
    )
    caption = f"Test records before and after, principal components. {rows.name} − {rows.baseline}: {'; '.join(lines)}."
    return [Picture(path, caption)]
