"""A small VQ-VAE, its config and its records."""

from __future__ import annotations

import torch

from st_mem_modified.vqvae.config import VQVAEConfig
from st_mem_modified.vqvae.model import VQVAE

MODEL = {
    "embed_dim": 16,
    "depth": 1,
    "num_heads": 1,
    "head_dim": 16,
    "decoder_dim": 16,
    "decoder_depth": 1,
    "decoder_heads": 1,
    "input": {"num_samples": 450},
}
TINY = [
    *(f"model.{key}={value}" for key, value in MODEL.items() if key != "input"),
    "model.input.num_samples=450",
    "quantizer.codebook_size=16",
    "quantizer.code_dim=8",
    "optim.epochs=2",
    "optim.batch_size=80",
    "optim.warmup_epochs=0",
    "run.precision=fp32",
]
EVALUATION = ["evaluate.resamples=10", "evaluate.protocols=knn", "evaluate.knn.k=5"]


def tiny(**more: object) -> VQVAEConfig:
    quantizer = {"codebook_size": 16, "code_dim": 8}
    return VQVAEConfig.model_validate({"model": MODEL, "quantizer": quantizer, **more})


def started(config: VQVAEConfig) -> VQVAE:
    """A model whose codebook has seen one batch."""
    torch.manual_seed(0)
    model = VQVAE(config)
    model(records(12))
    return model.eval()


def records(count: int) -> torch.Tensor:
    return torch.randn(count, 12, 450, generator=torch.Generator().manual_seed(1))
