"""The clinical measurements by name: what each means, its unit, how it is normalised. Free of what computes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Feature:
    """What a channel holds, its unit, and how `FeatureScaler` normalises it (`none standard robust range log`)."""

    description: str
    unit: str
    normalise: str


FEATURES: dict[str, Feature] = {
    "r_peaks": Feature("1 at the sample of each R peak, else 0", "1", "none"),
    "heart_rate": Feature("60 / mean RR of the record", "bpm", "standard"),
    "rolling_heart_rate": Feature("60 / the RR interval at the sample; ends hold the nearest", "bpm", "standard"),
    "st_deviation": Feature("mean of J+60…80 ms above the PQ level, of the beat around the sample", "mV", "robust"),
    "qrs_amplitude": Feature("QRS peak to peak, of the beat around the sample", "mV", "range"),
    "sdnn": Feature("standard deviation (n − 1) of the normal RR intervals", "ms", "log"),
    "rmssd": Feature("root mean square of successive differences of normal RR intervals", "ms", "log"),
    "swt_a4": Feature("stationary wavelet transform db4, approximation, below 8 Hz", "mV", "standard"),
    "swt_d4": Feature("stationary wavelet transform db4, detail, 8–16 Hz", "mV", "standard"),
    "swt_d3": Feature("stationary wavelet transform db4, detail, 16–31 Hz", "mV", "standard"),
    "swt_d2": Feature("stationary wavelet transform db4, detail, 31–62 Hz", "mV", "standard"),
}


ROW: dict[str, int] = {name: row for row, name in enumerate(FEATURES)}


VALUES: dict[str, str] = {
    "heart_rate_bpm": "60 / mean RR of the record",
    "sdnn_ms": "as channel sdnn",
    "rmssd_ms": "as channel rmssd",
    "st_deviation_mv": "median of channel st_deviation over the beats",
    "qrs_amplitude_mv": "median of channel qrs_amplitude over the beats",
    "pr_ms": "P onset to QRS onset of the median beat",
    "qrs_ms": "QRS onset to J point of the median beat",
    "qt_ms": "QRS onset to T end of the median beat",
    "qtc_ms": "QT by Bazett: QT / sqrt(RR in s)",
    "p_amplitude_mv": "P peak of the median beat above the level around it",
    "t_amplitude_mv": "T peak of the median beat above the PQ level",
    "axis_deg": "frontal QRS axis from the net QRS areas in I and aVF; 0 left, 90 down",
}
"""What each named value means; the unit ends its name."""


def check_names(names: Sequence[str] | None) -> tuple[str, ...]:
    """The channel names, checked; None takes them all.

    Raises:
        UserError: an unknown or repeated name; the nearest one is proposed.
    """
    wanted = tuple(FEATURES) if names is None else (names,) if isinstance(names, str) else tuple(names)
    for name in wanted:
        if name not in FEATURES:
            hint = did_you_mean(name, FEATURES, 0.4)
            raise UserError(f"unknown feature {name!r}{hint} Expected some of {', '.join(FEATURES)}.")
    if len(set(wanted)) != len(wanted) or not wanted:
        raise UserError(f"features are [{', '.join(wanted)}]; name at least one, and each once.")
    return wanted
