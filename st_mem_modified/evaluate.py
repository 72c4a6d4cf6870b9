"""Evaluate an ST-MEM encoder beside a random one of the same architecture.

python -m st_mem_modified.evaluate configs/st_mem/inference_clusters.yaml encoder.weights=runs/st_mem/pretrain
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from shared.checkpoints import CheckpointError, find_weights, load_state, read_weights
from shared.config import config_from_cli, entry_point
from shared.data.store import ECGStore
from shared.data.transforms import Preprocess
from shared.errors import UserError
from shared.evaluation.context import EvaluateConfig
from shared.evaluation.evaluate import evaluate, evaluation_folder
from shared.evaluation.report import Figure
from st_mem_modified.config import ModelConfig
from st_mem_modified.figures import draw_reconstruction
from st_mem_modified.model import STMEM, STMEMEncoder, load_official

NAME = "ST-MEM"


def load_model(weights: Path) -> tuple[STMEM | STMEMEncoder, dict[str, Any] | None]:
    """A model from a run folder, a `model.safetensors`, or a released `.pth`.

    Returns:
        The model and the pretraining's `data` section, None where it is not known.

    Raises:
        CheckpointError: nothing there, or a checkpoint of another model.
    """
    path = find_weights(weights)
    if path.suffix != ".safetensors":
        return load_official(path), None
    state, method, config = read_weights(path)
    if method != "st_mem":
        raise CheckpointError(f"{path} is a checkpoint of {method}, not of st_mem.")
    model = STMEM(ModelConfig.model_validate(config["model"]))
    load_state(model, state, path)
    return model.eval(), config.get("data")


def random_encoder(config: ModelConfig, seed: int) -> STMEMEncoder:
    """An untrained encoder of this architecture, the same for the same seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return STMEMEncoder(config).eval()


def run_evaluation(config: EvaluateConfig) -> Path:
    """Evaluate as the config says; returns the path of the report page.

    Raises:
        UserError: no weights were named.
    """
    if config.encoder.weights is None:
        raise UserError("encoder.weights is not set: give a run folder, a model.safetensors or a released .pth.")
    model, trained_on = load_model(config.encoder.weights)
    encoder = model.encoder if isinstance(model, STMEM) else model
    out = config.out or evaluation_folder(config.encoder.weights)
    figures = []
    if isinstance(model, STMEM):
        path = out / "figures" / "reconstruction.png"
        store = ECGStore(config.store)
        spec = encoder.input_spec
        first = store.select(config.test_folds)[:1]
        signal = torch.from_numpy(store.read_windows(first, first * 0, spec.num_samples, store.rows_for(spec)))
        draw_reconstruction(path, model, Preprocess(spec), signal, "test record")
        figures.append(Figure(path, "A test record: masked stretches (shaded) as the pretrained model fills them in."))
    return evaluate(
        encoder,
        random_encoder(encoder.config, config.seed),
        config,
        out,
        name=NAME,
        trained_on=trained_on,
        figures=figures,
    )


def main(argv: Sequence[str]) -> None:
    """Entry point."""
    run_evaluation(config_from_cli(EvaluateConfig, argv))


if __name__ == "__main__":
    entry_point(main)
