"""k nearest neighbours: the labels of the nearest training records vote for each query.

Nothing of size queries × train is ever held: blocks of distances are reduced to the best k as they come.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from shared.errors import UserError
from shared.nn import full_products

Embeddings = Tensor | npt.NDArray[Any]  # [n, D]; numpy memory maps are read block by block
DISTANCES = ("euclidean", "cosine")
MAX_BYTES = 2**29


def knn_scores(
    train: Embeddings,
    train_labels: npt.ArrayLike | Tensor,
    query: Embeddings,
    k: int = 20,
    metric: str = "euclidean",
    temperature: float = 0.07,
    *,
    device: torch.device | str = "cpu",
    max_bytes: int = MAX_BYTES,
) -> npt.NDArray[np.float32]:
    """Score classes by the labels of the k nearest training records.

    Args:
        train: `[n, D]` embeddings.
        train_labels: `[n, C]` in {0, 1}, one or several ones per row.
        query: `[m, D]` embeddings.
        k: how many neighbours vote.
        metric: `euclidean`: the share of the k neighbours that carry the label; `cosine`: votes weighted by
            exp(similarity / temperature), normalised to sum to 1.
        temperature: of the cosine votes; smaller trusts the nearest more.
        device: where distances are computed.
        max_bytes: working memory beside the embeddings; more is faster.

    Returns:
        float32 `[m, C]` in 0 … 1.

    Raises:
        UserError: fewer records than k, NaN or infinite embeddings.
        ValueError: shapes that disagree, labels other than 0 and 1.

    Source: cosine votes as in Wu et al. 2018, sec. 3.4; here a neighbour with several labels votes for each of them.
    """
    labels = torch.as_tensor(np.asarray(train_labels))
    if labels.ndim != 2 or len(labels) != len(train):
        raise ValueError(
            f"train labels {tuple(labels.shape)} given for {len(train)} train records; expected [{len(train)}, C]"
        )
    if not ((labels == 0) | (labels == 1)).all():
        raise ValueError("train labels hold values other than 0 and 1; expected one column per class (multi-hot)")
    if not temperature > 0:
        raise ValueError(f"temperature {temperature} given; expected a positive number, 0.07 by default")
    distances, neighbours = nearest_neighbours(train, query, k, metric, device=device, max_bytes=max_bytes)
    votes = torch.full_like(distances, 1 / k)  # [m, k]
    if metric == "cosine":
        votes = torch.softmax(-distances / temperature, dim=1)  # distance = 1 - similarity; the constant cancels
    scores = torch.empty(len(query), labels.shape[1])
    step = max(1, max_bytes // (8 * k * labels.shape[1]))
    for rows in _blocks(len(query), step):
        scores[rows] = torch.einsum("mk,mkc->mc", votes[rows], labels[neighbours[rows]].float())
    return np.asarray(scores.clamp_(0, 1).numpy())


@torch.inference_mode()
def nearest_neighbours(
    train: Embeddings,
    query: Embeddings,
    k: int,
    metric: str = "euclidean",
    *,
    exclude_self: bool = False,
    device: torch.device | str = "cpu",
    max_bytes: int = MAX_BYTES,
) -> tuple[Tensor, Tensor]:
    """Find the k nearest training records of each query; arguments as `knn_scores`.

    With `exclude_self` query `i` is train record `i`, and not its own neighbour.

    Of equally near records the one that comes first in `train` is taken. Euclidean distances are computed in float32
    after the mean of `train` is subtracted, which keeps their digits where all embeddings lie close together. A zero
    vector has cosine similarity 0 to everything.

    Returns:
        Distances float32 `[m, k]`, ascending (squared Euclidean, or 1 − cosine similarity), and rows of `train`, int64
        `[m, k]`, both on the CPU.
    """
    _check(train, query, k, metric, exclude_self)
    device = torch.device(device)
    dim = train.shape[1]
    num_query, num_train = _block_sizes(len(query), len(train), dim, k, max_bytes)
    mean = _check_finite_and_average(train, "train", num_train)
    _check_finite_and_average(query, "query", num_train)
    shift = mean.to(device) if metric == "euclidean" else torch.zeros(dim, dtype=torch.float64, device=device)
    distances, neighbours = torch.empty(len(query), k), torch.empty(len(query), k, dtype=torch.int64)
    with full_products():
        for rows in _blocks(len(query), num_query):
            queries = _prepare(query, rows, shift, metric)  # [q, D]
            best = torch.empty(len(queries), 0, device=device)
            index = torch.empty(len(queries), 0, dtype=torch.int64, device=device)
            for columns in _blocks(len(train), num_train):
                block = _distances(queries, _prepare(train, columns, shift, metric), metric)  # [q, t]
                if exclude_self:
                    own = torch.arange(rows.start, rows.stop, device=device)[:, None]
                    block.masked_fill_(own == torch.arange(columns.start, columns.stop, device=device), torch.inf)
                near, position = _smallest(block, min(k, block.shape[1]))
                # Earlier blocks come first, so a stable sort keeps the order of train among equals.
                merged = torch.cat([best, near], dim=1)
                best, order = (x[:, :k] for x in torch.sort(merged, dim=1, stable=True))
                index = torch.cat([index, position + columns.start], dim=1).gather(1, order)
            distances[rows], neighbours[rows] = best.cpu(), index.cpu()
    return distances, neighbours


def _check(train: Embeddings, query: Embeddings, k: int, metric: str, exclude_self: bool) -> None:
    """Refuse arguments that do not fit together."""
    if metric not in DISTANCES:
        raise ValueError(f"unknown metric {metric!r}; expected one of {', '.join(DISTANCES)}")
    if train.ndim != 2 or query.ndim != 2 or train.shape[1] != query.shape[1] or not len(query):
        raise ValueError(
            f"train {tuple(train.shape)} and query {tuple(query.shape)} embeddings given; expected non-empty [n, D] "
            "and [m, D] with the same D. Embed both with one encoder."
        )
    if exclude_self and len(train) != len(query):
        raise ValueError(
            f"{len(train)} train and {len(query)} query records given with exclude_self; expected the "
            "same records in both"
        )
    available = len(train) - int(exclude_self)
    if not 1 <= k <= available:
        raise UserError(
            f"k={k} neighbours asked of {available} train records; expected k from 1 to {available}. "
            "Lower k or give more train records."
        )


def _block_sizes(num_query: int, num_train: int, dim: int, k: int, max_bytes: int) -> tuple[int, int]:
    """Choose how many queries and train records meet in one block.

    A block holds its distances with their masks and copies (about 16 bytes each) and both sides' embeddings (about 16
    bytes per value: float64 centred and float32). Half of the memory goes to each.
    """
    side = max(1, min(8192, max_bytes // (64 * dim)))
    queries = min(num_query, side)
    trains = min(num_train, side, max(1, max_bytes // (32 * queries)))
    return queries, max(trains, min(num_train, k))


def _blocks(total: int, step: int) -> Iterator[slice]:
    """Cut `range(total)` into slices of at most `step`."""
    for start in range(0, total, step):
        yield slice(start, min(start + step, total))


def _read(embeddings: Embeddings, rows: slice, device: torch.device | str) -> Tensor:
    """Copy some rows to the device, in their own dtype."""
    part = embeddings[rows]
    if isinstance(part, np.ndarray):
        part = torch.from_numpy(np.array(part))  # a copy: memory maps are read-only
    return part.detach().to(device)


def _check_finite_and_average(embeddings: Embeddings, what: str, step: int) -> Tensor:
    """Return the mean over rows, float64 `[D]`, refusing NaN and infinity."""
    total = torch.zeros(embeddings.shape[1], dtype=torch.float64)
    num_bad, first = 0, -1
    for rows in _blocks(len(embeddings), step):
        part = _read(embeddings, rows, "cpu")
        bad = ~torch.isfinite(part).all(dim=1)
        if bad.any():
            num_bad, first = num_bad + int(bad.sum()), first if first >= 0 else rows.start + int(bad.int().argmax())
        total += part.sum(dim=0, dtype=torch.float64)
    if num_bad:
        raise UserError(
            f"{what} embeddings hold NaN or infinity in {num_bad} of {len(embeddings)} rows, first in row {first}; "
            "expected finite numbers. Check the encoder and its input, or leave these records out."
        )
    return total / max(1, len(embeddings))


def _prepare(embeddings: Embeddings, rows: slice, shift: Tensor, metric: str) -> Tensor:
    """Return float32 `[b, D]`: centred for Euclidean, of unit length for cosine."""
    part = _read(embeddings, rows, shift.device)
    if metric == "cosine":
        return torch.nn.functional.normalize(part.float(), dim=1)
    return (part - shift).float()


def _distances(queries: Tensor, trains: Tensor, metric: str) -> Tensor:
    """Return `[q, t]`: squared Euclidean distance, or 1 − cosine similarity."""
    if metric == "cosine":
        return torch.addmm(torch.ones((), device=queries.device), queries, trains.T, alpha=-1)
    squares = queries.square().sum(dim=1, keepdim=True) + trains.square().sum(dim=1)
    return squares.addmm_(queries, trains.T, alpha=-2).clamp_(min=0)


def _smallest(block: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k smallest of each row, ascending, with their positions; of equals the first."""
    values, positions = torch.topk(block, k, dim=1, largest=False, sorted=True)
    # topk picks any of several equals at the k-th place: sort such rows stably instead.
    tied = (block <= values[:, -1:]).sum(dim=1) > k
    if tied.any():
        ordered = torch.sort(block[tied], dim=1, stable=True)
        values[tied], positions[tied] = ordered.values[:, :k], ordered.indices[:, :k]
    # Equals before the k-th place: by position, then stably by value.
    positions, order = torch.sort(positions, dim=1)
    values, order = torch.sort(values.gather(1, order), dim=1, stable=True)
    return values, positions.gather(1, order)
