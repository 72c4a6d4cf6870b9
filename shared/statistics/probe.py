"""Linear probes: what a linear map reads from frozen embeddings. Classes by logistic regression, numbers by ridge.

Features are standardised by training statistics and turned into the principal axes of the training set, once. There the
curvature of both losses is known: ridge is solved exactly for all strengths, and the logistic loss is scaled so that
L-BFGS starts with a Hessian of one and needs a few dozen passes, whatever the encoder's scales. Of large problems the
strengths are compared in float32, and the chosen one alone is solved to the end in float64.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from shared.statistics.metrics import Array, check_finite

MAX_PASSES = 1000
FLOAT64_VALUES = 2**27
"""Training sets with more values than this are solved in float32 (at 2**27 the float64 copy has 1 GiB)."""
SEARCH_FLOAT64 = 2**28
"""Largest number of training values times classes whose strengths are all solved in float64; PTB-XL's 71 have 2**30."""
CHUNK = 2**14  # records predicted at a time


@dataclass(frozen=True)
class LinearProbe:
    """A linear map on standardised features.

    Attributes:
        mean, scale: `[D]`, of the training features; the scale of a constant one is 1.
        weights, bias: `[D, C]` and `[C]`.
        output: `sigmoid` (classes on their own), `softmax` (exactly one class) or `none` (numbers).
        l2: the strength chosen on validation.
        converged: whether the solver reached its tolerance.
    """

    mean: Array
    scale: Array
    weights: Array
    bias: Array
    output: str
    l2: float
    converged: bool = True

    def predict(self, features: npt.ArrayLike) -> Array:
        """Probabilities, or numbers in the unit of the targets, float64 `[n, C]`, of features `[n, D]`."""
        features = np.asarray(features)
        parts = [
            (features[i : i + CHUNK].astype(np.float64) - self.mean) / self.scale @ self.weights + self.bias
            for i in range(0, len(features), CHUNK)
        ]
        values = torch.from_numpy(np.concatenate(parts))
        if self.output == "sigmoid":
            values = values.sigmoid()
        elif self.output == "softmax":
            values = values.softmax(dim=1)
        return np.asarray(values.numpy())


@dataclass(frozen=True)
class _Axes:
    """Training features on their principal axes: `points [n, r]` = standardised @ `turn [D, r]`, variances `[r]`."""

    mean: Tensor
    scale: Tensor
    turn: Tensor
    variances: Tensor
    points: Tensor

    def place(self, features: Array) -> Tensor:
        """Other features `[m, D]` in the same coordinates."""
        given = torch.from_numpy(np.array(features)).to(self.mean.device, self.mean.dtype)
        return given.sub_(self.mean).div_(self.scale) @ self.turn

    def single(self) -> _Axes:
        """The same in float32."""
        return replace(self, **{name: value.float() for name, value in vars(self).items()})

    def probe(self, weights: Tensor, bias: Tensor, output: str, l2: float, converged: bool = True) -> LinearProbe:
        """The probe for weights `[r, C]` given on the axes."""
        parts = (self.mean, self.scale, self.turn @ weights, bias)
        mean, scale, of_features, constant = (x.cpu().double().numpy() for x in parts)
        return LinearProbe(mean, scale, of_features, constant, output, l2, converged)


def fit_logistic(
    train: npt.ArrayLike,
    labels: npt.ArrayLike,
    val: npt.ArrayLike,
    val_labels: npt.ArrayLike,
    strengths: Sequence[float],
    *,
    softmax: bool = False,
    device: torch.device | str = "cpu",
) -> LinearProbe:
    """Fit classes; the strength with the lowest mean log loss on validation is kept, one for all classes.

    Strengths are tried from the strongest down, each from the last one's solution, until validation has become worse
    twice in a row: the weaker ones would only fit the training set more closely, at the greatest cost.

    Minimises `mean over records of the log loss + l2/2 |w|²` for each class (the bias is free), as
    `sklearn.linear_model.LogisticRegression(C=1 / (n l2))`. A class without positives, or without negatives, in training
    gets its smoothed frequency as a constant.

    Args:
        train, val: features `[n, D]`.
        labels, val_labels: `[n, C]` in {0, 1}.
        strengths: l2 values to try.
        softmax: exactly one class per record, probabilities sum to 1; else every class on its own.
        device: where to solve.

    Raises:
        UserError: features that are not finite.
        ValueError: shapes that disagree, no strength, a record without exactly one class where `softmax` is asked for.

    Warns:
        ConvergenceWarning: the solver ran out of passes.
    """
    train, labels, val, val_labels = (np.asarray(x) for x in (train, labels, val, val_labels))
    _check(train, labels, val, val_labels, strengths, softmax)
    axes = _principal_axes(train, device)
    first = axes.single() if train.size * labels.shape[1] > SEARCH_FLOAT64 else axes
    best = _search(first, labels != 0, first.place(val), val_labels != 0, strengths, softmax)
    if best.weights.dtype != axes.points.dtype:
        best = _finish(axes, labels != 0, best, softmax)
    probe = axes.probe(best.weights, best.bias, "softmax" if softmax else "sigmoid", best.l2, best.converged)
    if not probe.converged:
        warnings.warn(
            f"the linear probe did not converge within {MAX_PASSES} passes; its scores may be too low. "
            "Try larger probe.l2 values.",
            ConvergenceWarning,
            stacklevel=2,
        )
    return probe


@dataclass(frozen=True)
class _Solution:
    """Weights `[r, C]` on the axes and bias `[C]` at one strength."""

    weights: Tensor
    bias: Tensor
    l2: float
    converged: bool


def _search(
    axes: _Axes, labels: Array, z_val: Tensor, val_labels: Array, strengths: Sequence[float], softmax: bool
) -> _Solution:
    """Solve from the strongest down; the solution with the lowest loss on validation `z_val [m, r]`."""
    y, y_val = (torch.from_numpy(x).to(axes.mean) for x in (labels, val_labels))
    share = (y.sum(0) + 0.5) / (len(y) + 1)  # [C]
    weights = torch.zeros(len(axes.variances), y.shape[1], dtype=y.dtype, device=y.device)
    bias = share.log() if softmax else share.logit()
    columns = _solved(y, softmax)
    losses: list[float] = []
    for l2 in sorted(strengths, reverse=True):
        w, b, converged = _solve(axes, y[:, columns], weights[:, columns], bias[columns], l2, softmax)
        weights[:, columns], bias[columns] = w, b
        loss = float(_log_loss(z_val @ weights + bias, y_val, softmax).mean(0).sum())
        if not losses or loss < min(losses):
            best = _Solution(weights.clone(), bias.clone(), l2, converged)
        losses.append(loss)
        if len(losses) > 2 and losses[-1] > losses[-2] > losses[-3]:
            break
    return best


def _finish(axes: _Axes, labels: Array, found: _Solution, softmax: bool) -> _Solution:
    """Solve on from a solution in the precision of these axes."""
    y = torch.from_numpy(labels).to(axes.mean)
    weights, bias, columns = found.weights.to(y.dtype), found.bias.to(y.dtype), _solved(y, softmax)
    w, b, converged = _solve(axes, y[:, columns], weights[:, columns], bias[columns], found.l2, softmax)
    weights[:, columns], bias[columns] = w, b
    return _Solution(weights, bias, found.l2, converged)


def _solved(y: Tensor, softmax: bool) -> Tensor:
    """Columns of the classes that are solved for: a sigmoid's needs both positives and negatives."""
    count = y.sum(0)
    return torch.arange(len(count)) if softmax else ((count > 0) & (count < len(y))).nonzero()[:, 0]


def fit_ridge(
    train: npt.ArrayLike,
    targets: npt.ArrayLike,
    val: npt.ArrayLike,
    val_targets: npt.ArrayLike,
    strengths: Sequence[float],
    *,
    device: torch.device | str = "cpu",
) -> LinearProbe:
    """Fit numbers; each target keeps the strength with the lowest squared error on validation.

    Minimises `mean of (y − ŷ)² / 2 + l2/2 |w|²` with y standardised by training statistics, in closed form: as
    `sklearn.linear_model.Ridge(alpha=n l2)`.

    Args:
        train, val: features `[n, D]`.
        targets, val_targets: `[n]`, any unit.
        strengths: l2 values to try.
        device: where to solve.

    Raises:
        UserError: values that are not finite.
        ValueError: shapes that disagree, no strength.
    """
    train, val = np.asarray(train), np.asarray(val)
    y, y_val = (np.asarray(t, dtype=np.float64)[:, None] for t in (targets, val_targets))
    _check(train, y, val, y_val, strengths)
    check_finite(y, "targets")
    check_finite(y_val, "validation targets")
    axes = _principal_axes(train, device)
    mean, spread = float(y.mean()), float(y.std()) or 1.0
    target = torch.from_numpy((y - mean) / spread).to(axes.mean)
    moment = axes.points.T @ target / len(target)  # [r, 1]
    z_val, best = axes.place(val), None
    for l2 in strengths:
        weights = spread * moment / (axes.variances[:, None] + l2)
        error = float(((z_val @ weights).cpu().double().numpy() + mean - y_val).__pow__(2).mean())
        if best is None or error < best[0]:
            best = error, axes.probe(weights, torch.full_like(weights[0], mean), "none", l2)
    assert best is not None
    return best[1]


def _check(
    train: Array, targets: Array, val: Array, val_targets: Array, strengths: Sequence[float], softmax: bool = False
) -> None:
    """Refuse arguments that do not fit together."""
    for what, x, y in (("train", train, targets), ("validation", val, val_targets)):
        if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or not len(x):
            raise ValueError(
                f"{what} features {x.shape} and targets {y.shape} given; expected non-empty [n, D] and one row of "
                "targets for each"
            )
        check_finite(x, f"{what} features")
    if train.shape[1] != val.shape[1] or targets.shape[1] != val_targets.shape[1]:
        raise ValueError(
            f"train is {train.shape} -> {targets.shape}, validation {val.shape} -> {val_targets.shape}; expected the "
            "same numbers of columns. Embed both with one encoder."
        )
    if not strengths or min(strengths) <= 0:
        raise ValueError(f"strengths {tuple(strengths)} given; expected at least one number above 0")
    if softmax and (targets.sum(axis=1) != 1).any():
        raise ValueError(
            "softmax was asked for, but some records have no label or several; expected exactly one each. "
            "Use single_label=true, or the sigmoid."
        )


def _principal_axes(train: Array, device: torch.device | str) -> _Axes:
    """Standardise by the training set's mean and deviation and turn into its principal axes."""
    dtype = torch.float64 if train.size <= FLOAT64_VALUES else torch.float32
    x = torch.from_numpy(np.array(train)).to(device, dtype)
    mean = x.mean(0)
    x -= mean
    scale = x.square().mean(0).sqrt()
    # A feature that varies only by rounding would be blown up to noise.
    constant = scale <= torch.finfo(torch.float32).eps * mean.abs()
    scale = torch.where(constant, torch.ones_like(scale), scale)
    x /= scale
    x[:, constant] = 0
    covariance = x.T @ x / len(x)
    variances, turn = torch.linalg.eigh(covariance)
    rank = min(len(x) - 1, len(variances)) or 1  # fewer records than features span fewer axes
    variances, turn = variances[-rank:], turn[:, -rank:]
    turn[constant] = 0  # so that it takes no part in predictions either
    return _Axes(mean, scale, turn, variances.clamp_min(0), x @ turn)


def _log_loss(logits: Tensor, labels: Tensor, softmax: bool) -> Tensor:
    """Log loss per record and class `[n, C]` (softmax: the record's loss stands under its own class)."""
    if softmax:
        return -labels * logits.log_softmax(dim=1)
    return F.binary_cross_entropy_with_logits(logits, labels, reduction="none")


def _solve(
    axes: _Axes, labels: Tensor, weights: Tensor, bias: Tensor, l2: float, softmax: bool
) -> tuple[Tensor, Tensor, bool]:
    """Minimise the penalised log loss from a start; weights `[r, C]` on the axes.

    Classes are solved together as one sum of problems that share no variable. Each variable is divided by the root of
    its curvature at the class frequencies, p (1 − p) · variance + l2.
    """
    if not labels.shape[1]:
        return weights, bias, True
    p = labels.mean(0).clamp(1e-6, 1 - 1e-6)
    curvature = p * (1 - p)
    unit = (axes.variances[:, None] * curvature + l2).rsqrt()  # [r, C]
    unit_bias = curvature.rsqrt()
    scaled = (weights / unit).requires_grad_()
    scaled_bias = (bias / unit_bias).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [scaled, scaled_bias],
        max_iter=MAX_PASSES,
        max_eval=2 * MAX_PASSES,
        tolerance_grad=1e-7 if labels.dtype == torch.float64 else 1e-5,
        tolerance_change=1e-13 if labels.dtype == torch.float64 else 1e-8,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        w = scaled * unit
        loss = _log_loss(axes.points @ w + scaled_bias * unit_bias, labels, softmax).mean(0).sum()
        loss = loss + l2 / 2 * w.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
        closure()
    largest = max(float(x.grad.abs().max()) for x in (scaled, scaled_bias) if x.grad is not None)
    converged = largest <= (1e-5 if labels.dtype == torch.float64 else 1e-3)
    return (scaled * unit).detach(), (scaled_bias * unit_bias).detach(), converged
