"""Maps of embeddings in two dimensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from shared.plots.charts import COLOURS, panels, save

TSNE_POINTS = 1000


MOST_PANELS = 4
"""Maps side by side; more go on further lines."""


def plot_embeddings(
    path: Path,
    rows: Mapping[str, np.ndarray],
    classes: np.ndarray,
    names: Sequence[str],
    method: str,
    seed: int = 0,
) -> None:
    """Two-dimensional maps of embeddings, one panel per row, coloured by class.

    Args:
        path: PNG to write.
        rows: encoder name to `[n, D]`.
        classes: `[n]` class numbers.
        names: of the classes.
        method: `pca` or `tsne` (at most 1000 points, drawn with the seed).
        seed: of t-SNE and of the subsample.
    """
    keep = np.arange(len(classes))
    if method == "tsne" and len(keep) > TSNE_POINTS:
        keep = np.sort(np.random.default_rng(seed).choice(len(keep), TSNE_POINTS, replace=False))
    lines = -(-len(rows) // MOST_PANELS)
    columns = -(-len(rows) // lines)
    figure = Figure(figsize=(4.6 * columns, 4.4 * lines + 0.2), layout="constrained")
    grid = panels(figure, len(rows), columns)
    counts = np.bincount(classes[keep], minlength=len(names))
    shown = np.argsort(-counts, kind="stable")[: len(COLOURS)]
    shown = shown[counts[shown] > 0]
    for axes, (row, embeddings) in zip(grid, rows.items(), strict=True):
        points, labels = _project(embeddings[keep], method, seed)
        for colour, c in zip(COLOURS, shown, strict=False):
            mine = classes[keep] == c
            axes.scatter(
                points[mine, 0],
                points[mine, 1],
                s=9,
                color=colour,
                alpha=0.65,
                lw=0,
                label=f"{names[c]} ({mine.sum()})",
            )
        axes.set_title(row, fontsize=11)
        axes.set_xlabel(labels[0], fontsize=9)
        axes.set_ylabel(labels[1], fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
    handles, texts = grid[0].get_legend_handles_labels()
    figure.legend(
        handles, texts, loc="outside lower center", ncols=min(len(shown), 6), fontsize=9, markerscale=2, frameon=False
    )
    save(figure, path)


def _project(embeddings: np.ndarray, method: str, seed: int) -> tuple[np.ndarray, tuple[str, str]]:
    if method == "pca" or len(embeddings) < 10:
        pca = PCA(2, random_state=seed)
        points = pca.fit_transform(embeddings)
        first, second = pca.explained_variance_ratio_
        return points, (f"PC 1 ({first:.0%} of variance)", f"PC 2 ({second:.0%})")
    perplexity = min(30.0, (len(embeddings) - 1) / 3)
    points = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(embeddings)
    return points, ("t-SNE 1", "t-SNE 2")
