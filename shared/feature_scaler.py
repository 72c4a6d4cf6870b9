"""Normalisation of feature channels, fitted on the records it is given and on nothing else.

Hand it the training split only; its state is a plain dict that belongs in the checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from shared.errors import UserError
from shared.features import FEATURES, check_names

SAMPLES_PER_RECORD = 64
"""Medians and percentiles are taken over this many samples of each record, evenly spaced over its valid ones: the
quantities that need them change once a beat at most."""
RANGE_PERCENTILES = (0.5, 99.5)
"""What becomes −1 and 1; one artefact must not set the scale of all records."""


class FeatureScaler:
    """Scales `[…, F, T]` channels by the kind that `FEATURES` gives each.

    `none` stays as it is; `standard` has mean 0 and standard deviation 1; `robust` has median 0 and interquartile range
    1; `range` maps the bulk of the values to [−1, 1] and clips the rest; `log` is standardised after log(1 + x), where
    the 1 (ms) keeps a perfectly regular rhythm finite. Samples that are not valid are left out of the fit and are 0 after.

    Attributes:
        names: the channels, in the order of the rows.
        center, scale: `[F]` float64; None before `fit`.
    """

    def __init__(self, names: Sequence[str] | None = None) -> None:
        self.names = check_names(names)
        self.center: np.ndarray | None = None
        self.scale: np.ndarray | None = None

    def fit(self, records: Iterable[tuple[np.ndarray, np.ndarray]]) -> FeatureScaler:
        """Learn the scales.

        Args:
            records: pairs `(channels [F, T] or [n, F, T], valid of the same shape or without its T)`.

        Raises:
            UserError: a shape that does not fit, or a channel without a single valid sample.
        """
        count, total, square = (np.zeros(len(self.names)) for _ in range(3))
        kept: list[list[np.ndarray]] = [[] for _ in self.names]
        shift: np.ndarray | None = None
        for channels, valid in records:
            channels, valid = self._check(channels, valid)
            values = self._bend(channels.reshape(-1, *channels.shape[-2:]), valid.reshape(-1, *valid.shape[-2:]))
            valid = valid.reshape(values.shape)
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
        self.center = shift + mean
        self.scale = np.sqrt(np.maximum(square / np.maximum(count, 1) - mean**2, 0.0))
        for f, name in enumerate(self.names):
            self.center[f], self.scale[f] = self._special(FEATURES[name].normalise, kept[f], f)
        # A channel that never changes has no scale: it becomes 0 everywhere.
        self.scale[self.scale < 1e-9] = 1.0
        return self

    def _special(self, kind: str, kept: list[np.ndarray], f: int) -> tuple[float, float]:
        assert self.center is not None and self.scale is not None
        if kind == "none":
            return 0.0, 1.0
        if kind == "robust":
            low, middle, high = np.percentile(np.concatenate(kept), (25, 50, 75))
            return float(middle), float(high - low)
        if kind == "range":
            low, high = np.percentile(np.concatenate(kept), RANGE_PERCENTILES)
            return float((low + high) / 2), float((high - low) / 2)
        return float(self.center[f]), float(self.scale[f])

    def transform(self, channels: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """Scale channels `[…, F, T]` to float32 of the same shape; what is not valid becomes 0.

        Raises:
            UserError: not fitted, or a shape that does not fit.
        """
        if self.center is None or self.scale is None:
            raise UserError("the feature scaler is not fitted. Call fit() on the training records first.")
        channels, valid = self._check(channels, valid)
        scaled = (self._bend(channels, valid) - self.center[:, None]) / self.scale[:, None]
        limited = np.array([FEATURES[name].normalise == "range" for name in self.names])
        scaled[..., limited, :] = np.clip(scaled[..., limited, :], -1.0, 1.0)
        return np.where(valid, scaled, 0.0).astype(np.float32)

    def _bend(self, channels: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """float64 copy with 0 where not valid (also in place of NaN), logarithms taken."""
        values = np.where(valid, channels, 0.0).astype(np.float64)
        bent = np.array([FEATURES[name].normalise == "log" for name in self.names])
        values[..., bent, :] = np.log1p(np.maximum(values[..., bent, :], 0.0))
        return values

    def _check(self, channels: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        channels, valid = np.asarray(channels), np.asarray(valid, dtype=bool)
        if valid.ndim == channels.ndim - 1:
            valid = valid[..., None]
        fits = channels.ndim >= 2 and channels.shape[-2] == len(self.names) and valid.ndim == channels.ndim
        if not fits or valid.shape[:-1] != channels.shape[:-1] or valid.shape[-1] not in (1, channels.shape[-1]):
            raise UserError(
                f"channels are {list(channels.shape)} and valid is {list(valid.shape)}; expected [..., {len(self.names)}, T] "
                f"and the same (or without T), with the rows {', '.join(self.names)}."
            )
        return channels, np.broadcast_to(valid, channels.shape)

    def state_dict(self) -> dict[str, Any]:
        """Names, centres and scales as plain lists.

        Raises:
            UserError: not fitted.
        """
        if self.center is None or self.scale is None:
            raise UserError("the feature scaler is not fitted, so it has no state. Call fit() first.")
        return {"names": list(self.names), "center": self.center.tolist(), "scale": self.scale.tolist()}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> FeatureScaler:
        """The scaler that `state_dict` described.

        Raises:
            UserError: the state is not one, or names unknown features.
        """
        if {"names", "center", "scale"} - set(state):
            raise UserError(f"a feature scaler's state has names, center and scale; this one has {', '.join(state)}.")
        scaler = cls(state["names"])
        center, scale = (np.asarray(state[key], dtype=np.float64) for key in ("center", "scale"))
        if center.shape != (len(scaler.names),) or scale.shape != center.shape or not (scale > 0).all():
            raise UserError(
                f"a feature scaler's state for {len(scaler.names)} features must hold as many centres and scales > 0."
            )
        scaler.center, scaler.scale = center, scale
        return scaler


def _spread(values: np.ndarray) -> np.ndarray:
    """At most `SAMPLES_PER_RECORD` of the values, evenly spaced."""
    if len(values) <= SAMPLES_PER_RECORD:
        return values
    return values[np.linspace(0, len(values) - 1, SAMPLES_PER_RECORD).round().astype(int)]
