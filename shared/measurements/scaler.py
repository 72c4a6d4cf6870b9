"""Normalisation of feature rows, as a module whose state travels in the checkpoint of the model that holds it.

It is fitted on the records it is handed and on nothing else: hand it the training split only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from shared.errors import UserError
from shared.measurements.catalog import FEATURES, check_names

SAMPLES_PER_RECORD = 64
"""Medians and percentiles are taken over this many samples of each record, evenly spaced over its valid ones: the
quantities that need them change once a beat at most."""
RANGE_PERCENTILES = (0.5, 99.5)
"""What becomes −1 and 1; one artefact must not set the scale of all records."""


class FeatureScaler(nn.Module):
    """Scales feature rows by the kind that `FEATURES` gives each; NaN is a missing sample.

    `none` stays as it is; `standard` has mean 0 and standard deviation 1; `robust` has median 0 and interquartile range
    1; `range` maps the bulk of the values to [−1, 1] and clips the rest; `log` is standardised after log(1 + x), where
    the 1 (ms) keeps a perfectly regular rhythm finite. Missing samples are left out of the fit and are 0 after.

    Attributes:
        names: the rows, in order.
        center, scale: `[F]` float32; NaN before `fit`.
    """

    center: Tensor
    scale: Tensor
    bent: Tensor
    limited: Tensor

    def __init__(self, names: Sequence[str] | None = None) -> None:
        super().__init__()
        self.names = check_names(names)
        kinds = [FEATURES[name].normalise for name in self.names]
        self.register_buffer("center", torch.full((len(kinds),), torch.nan))
        self.register_buffer("scale", torch.full((len(kinds),), torch.nan))
        self.register_buffer("bent", torch.tensor([[kind == "log"] for kind in kinds]), persistent=False)
        self.register_buffer("limited", torch.tensor([[kind == "range"] for kind in kinds]), persistent=False)
        self._fitted = False  # known to be: a look at the buffers would make the device wait in every step

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Scale rows.

        Args:
            features: `[…, F, T]` in the units of `FEATURES`, NaN where missing.

        Returns:
            `(scaled, known)` of the same shape: float32, 0 where missing; bool, False where missing.

        Raises:
            UserError: not fitted.
        """
        if not self._fitted:
            self._require_fit()
        known = ~features.isnan()
        values = features.float().nan_to_num()
        values = torch.where(self.bent, values.clamp_min(0.0).log1p(), values)
        values = (values - self.center[:, None]) / self.scale[:, None]
        values = torch.where(self.limited, values.clamp(-1.0, 1.0), values)
        return values.masked_fill(~known, 0.0), known

    def fit(self, records: Iterable[np.ndarray]) -> FeatureScaler:
        """Learn the scales.

        Args:
            records: arrays `[F, T]` or `[n, F, T]`, NaN where missing.

        Raises:
            UserError: a shape that does not fit, or a row without a single valid sample.
        """
        count, total, square = (np.zeros(len(self.names)) for _ in range(3))
        kept: list[list[np.ndarray]] = [[] for _ in self.names]
        shift: np.ndarray | None = None
        for features in records:
            values, valid = self._bend(features)
            if shift is None:  # sums around a typical value lose no digits to a large mean
                shift = values.sum((0, 2)) / np.maximum(valid.sum((0, 2)), 1)
            offset = np.where(valid, values - shift[:, None], 0.0)
            count += valid.sum((0, 2))
            total += offset.sum((0, 2))
            square += np.square(offset).sum((0, 2))
            for f, name in enumerate(self.names):
                if FEATURES[name].normalise in ("robust", "range"):
                    kept[f].extend(
                        _spread(row[ok]) for row, ok in zip(values[:, f], valid[:, f], strict=True) if ok.any()
                    )
        never = [n for n, c in zip(self.names, count, strict=True) if c == 0 and FEATURES[n].normalise != "none"]
        if never or shift is None:
            raise UserError(
                f"no valid sample of {', '.join(never or self.names)} in the records to fit on. "
                "Leave those features out, or fit on records in which they could be measured."
            )
        mean = total / np.maximum(count, 1)
        deviation = np.sqrt(np.maximum(square / np.maximum(count, 1) - mean**2, 0.0))
        for f, name in enumerate(self.names):
            center, scale = _scales(FEATURES[name].normalise, shift[f] + mean[f], deviation[f], kept[f])
            # A row that never changes has no scale: it becomes 0 everywhere.
            self.center[f], self.scale[f] = center, scale if scale >= 1e-9 else 1.0
        self._fitted = True
        return self

    def _bend(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`[n, F, T]`: float64 with 0 where missing and logarithms taken, and where it is valid."""
        features = np.asarray(features)
        if features.ndim not in (2, 3) or features.shape[-2] != len(self.names):
            raise UserError(
                f"features are {list(features.shape)}; expected [n, {len(self.names)}, T] or [{len(self.names)}, T], "
                f"with the rows {', '.join(self.names)}."
            )
        features = features.reshape(-1, *features.shape[-2:])
        valid = ~np.isnan(features)
        values = np.where(valid, features, 0.0).astype(np.float64)
        bent = self.bent[:, 0].cpu().numpy()
        values[:, bent] = np.log1p(np.maximum(values[:, bent], 0.0))
        return values, valid

    def _require_fit(self) -> None:
        if not bool(self.center.isfinite().all() and self.scale.isfinite().all()):
            raise UserError(
                "the feature scaler is not fitted. Call fit() on the training records, or load a checkpoint."
            )
        self._fitted = True


def _scales(kind: str, mean: float, deviation: float, kept: list[np.ndarray]) -> tuple[float, float]:
    """Centre and scale of one row."""
    if kind == "none":
        return 0.0, 1.0
    if kind == "robust":
        low, middle, high = np.percentile(np.concatenate(kept), (25, 50, 75))
        return float(middle), float(high - low)
    if kind == "range":
        low, high = np.percentile(np.concatenate(kept), RANGE_PERCENTILES)
        return float((low + high) / 2), float((high - low) / 2)
    return float(mean), float(deviation)


def _spread(values: np.ndarray) -> np.ndarray:
    """At most `SAMPLES_PER_RECORD` of the values, evenly spaced."""
    if len(values) <= SAMPLES_PER_RECORD:
        return values
    return values[np.linspace(0, len(values) - 1, SAMPLES_PER_RECORD).round().astype(int)]
