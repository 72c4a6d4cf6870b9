"""Health of a codebook: who is used, how evenly, and the alarm when it collapses."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from st_mem_modified.vqvae.model import VQVAE


def count_codes(indices: Tensor, num_levels: int, num_codes: int) -> Tensor:
    """How often each code stands in `indices` (any shape, levels last where there are several): int64 `[Q, C]`."""
    flat = indices.reshape(-1, num_levels)
    return torch.stack([torch.bincount(flat[:, level], minlength=num_codes) for level in range(num_levels)])


def codebook_health(counts: Tensor) -> dict[str, float]:
    """Measures of use, the mean over levels.

    Args:
        counts: `[Q, C]`.

    Returns:
        `perplexity` (e to the entropy of the code frequencies: how many codes an evenly used codebook of the same entropy has),
        `perplexity_fraction` of the codebook, `used_fraction`, `dead_codes` (never used).
    """
    shares = counts.double() / counts.sum(1, keepdim=True).clamp_min(1)
    perplexity = torch.special.entr(shares).sum(1).exp()
    used = (counts > 0).double().mean(1)
    num_codes = counts.shape[1]
    return {
        "perplexity": float(perplexity.mean()),
        "perplexity_fraction": float(perplexity.mean()) / num_codes,
        "used_fraction": float(used.mean()),
        "dead_codes": float((1 - used).mean()) * num_codes,
    }


def lead_correlation(pred: Tensor, target: Tensor) -> Tensor:
    """Pearson correlation over time, `[B, L, T]` twice → `[B, L]`; 0 where a lead is constant."""
    pred, target = (x - x.mean(-1, keepdim=True) for x in (pred.float(), target.float()))
    return (pred * target).sum(-1) / (pred.norm(dim=-1) * target.norm(dim=-1)).clamp_min(1e-8)


class CodeCensus:
    """Counts over a data set: how often each code stands, and in how many records.

    Args:
        model: whose codes.
        all_ranks: each rank adds equally many records, and all count those of all.
    """

    def __init__(self, model: VQVAE, all_ranks: bool = False) -> None:
        self.model, self.all_ranks = model, all_ranks and dist.is_initialized()
        self.reset()

    def reset(self) -> None:
        """Count from nothing."""
        quantizer, device = self.model.quantizer, self.model.idf.device
        self.counts = torch.zeros(quantizer.num_levels, quantizer.num_codes, dtype=torch.int64, device=device)
        self.records_with = torch.zeros(len(self.model.idf), device=device)
        self.num_records = 0

    def state_dict(self) -> dict[str, Any]:
        """For a run that is stopped within an epoch."""
        return {"counts": self.counts, "records_with": self.records_with, "num_records": self.num_records}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.counts, self.records_with = state["counts"].clone(), state["records_with"].clone()
        self.num_records = state["num_records"]

    def add(self, indices: Tensor) -> None:
        """Count the codes of records, `indices` as `tokenize` gives them."""
        if self.all_ranks:
            parts = [torch.empty_like(indices) for _ in range(dist.get_world_size())]
            dist.all_gather(parts, indices.contiguous())
            indices = torch.cat(parts)
        quantizer = self.model.quantizer
        self.counts += count_codes(indices, quantizer.num_levels, quantizer.num_codes)
        self.records_with += (self.model.histogram(indices) > 0).sum(0)
        self.num_records += len(indices)

    def idf(self) -> Tensor:
        """Smoothed inverse document frequencies `[Q * C]`, ln((1 + n) / (1 + records with the code)) + 1, as scikit-learn's."""
        return ((1 + self.num_records) / (1 + self.records_with)).log() + 1


def describe_alarm(health: dict[str, float], below: float) -> str:
    """What the user is told when the codebook collapsed."""
    return (
        f"ALARM: {health['used_fraction']:.0%} of the codes are used (alarm below {below:.0%}): the codebook has collapsed. "
        "Set quantizer.kmeans_init=true and revive_below above 0, lower quantizer.code_dim or commitment, raise the batch "
        "size, or take quantizer.name=fsq, which has no codebook to lose."
    )
