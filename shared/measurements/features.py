"""Clinical measurements of one ECG lead, as channels beside the signal and as named values.

    found = extract_features(ecg, fs=250.0, leads=LEADS)
    found.channels   # [F, T] float32, one row per name in found.names
    found.valid      # [F, T] bool: False where the measurement could not be made (the channel is 0 there)
    found.values     # {"heart_rate_bpm": 71.3, "pr_ms": nan, ...}; NaN where found.valid_values is False

Everything is measured in one lead (II, or the next best one, which `lead` and `notes` then say), on the 500 Hz lattice of
`shared.measurements.delineation`, so that a record gives the same answers at any sampling rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pywt
from scipy.interpolate import CubicSpline

from shared.errors import UserError
from shared.lead_rows import arrange_leads
from shared.leads import LeadError, parse_leads
from shared.measurements.beats import (
    MIN_SECONDS,
    RR_RANGE,
    Beats,
    Lattice,
    find_beats,
    normal_intervals,
    remove_pacing_spikes,
    to_lattice,
)
from shared.measurements.catalog import FEATURES, ROW, VALUES, check_names
from shared.measurements.delineation import Waves, delineate, median_beat
from shared.measurements.pacing import bridge_spikes, find_spikes
from shared.signals import FLAT_MV, FS_RANGE, clipped_samples

WAVELETS: tuple[str, ...] = ("swt_a4", "swt_d4", "swt_d3", "swt_d2")
WAVELET, WAVELET_LEVEL = "db4", 4
WAVELET_FS = 250.0
"""Hz at which the transform is taken, so that a level is the same band whatever the record's rate."""
PACED = "pacing spikes, taken out before measuring; R peaks and intervals of paced beats are not to be trusted"
"""The largest deflection of a paced QRS, which is wide and often has two, may be 30 to 50 ms from where a reader marks it."""
LEAD_PREFERENCE: tuple[str, ...] = ("II", "aVF", "V6", "aVR", "V5", "V4", "V3", "V2", "III", "I", "V1", "aVL")
"""Lead II, then the leads in which beats are found most surely (LUDB 1–50, scripts/benchmarks/features.py)."""


@dataclass(frozen=True)
class FeatureSet:
    """The measurements of one record.

    Attributes:
        names: the channels, in the order of the rows.
        channels: `[F, T]` float32, in the units of `FEATURES`; 0 where not valid.
        valid: `[F, T]` bool.
        values: every name of `VALUES`; NaN where not valid.
        valid_values: the same names.
        lead: the lead measured in; "" where none was usable.
        r_peaks: `[n]` seconds from the first sample.
        notes: what a reader should know: another lead than II, no beat, clipping, …
    """

    names: tuple[str, ...]
    channels: np.ndarray
    valid: np.ndarray
    values: dict[str, float]
    valid_values: dict[str, bool]
    lead: str
    r_peaks: np.ndarray
    notes: tuple[str, ...]


def extract_features(
    ecg: np.ndarray, fs: float, leads: str | Iterable[str], names: Sequence[str] | None = None
) -> FeatureSet:
    """Measure one record.

    Args:
        ecg: `[L, T]`, millivolt.
        fs: its sampling rate, Hz.
        leads: the names of its rows.
        names: the channels wanted, in order; None takes all of `FEATURES`.

    Returns:
        The measurements. What cannot be measured is flagged, never zero without a flag, and never an exception.

    Raises:
        UserError: `ecg` is not `[L, T]` with one name per row, `fs` is absurd, or a name is unknown.
    """
    wanted = check_names(names)
    ecg, lead_names = _check_record(ecg, fs, leads)
    channels = np.zeros((len(FEATURES), ecg.shape[1]), dtype=np.float32)
    valid = np.zeros(channels.shape, dtype=bool)
    values = dict.fromkeys(VALUES, float("nan"))

    lead, lattice, beats, notes = _choose_lead(ecg, fs, lead_names)
    if lead:
        signal = ecg[lead_names.index(lead)]
        if any(name in WAVELETS for name in wanted):
            bands = slice(ROW[WAVELETS[0]], ROW[WAVELETS[-1]] + 1)
            channels[bands], valid[bands] = _wavelets(signal, fs), True
        if len(beats.times):
            calm = remove_pacing_spikes(signal, fs, beats)
            if calm is None and (spikes := find_spikes(ecg, fs, beats)) is not None:
                calm = bridge_spikes(signal, fs, spikes)
            if calm is not None:
                signal, lattice = calm, to_lattice(calm, fs)
                again = find_beats(lattice)
                beats = again if len(again.times) else beats
                notes.append(PACED)
            measured = _Record(signal, fs, lattice, beats)
            measured.write_rhythm(channels, valid, values)
            measured.write_beats(channels, valid, values)
            values["axis_deg"] = measured.axis(ecg, lead_names)
            notes += measured.notes
    rows = [ROW[name] for name in wanted]
    values = {name: float(value) for name, value in values.items()}
    known = {name: bool(np.isfinite(value)) for name, value in values.items()}
    return FeatureSet(wanted, channels[rows], valid[rows], values, known, lead, beats.times, tuple(notes))


def _check_record(ecg: np.ndarray, fs: float, leads: str | Iterable[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    names = parse_leads(leads)
    ecg = np.asarray(ecg)
    if ecg.ndim != 2 or len(ecg) != len(names) or ecg.shape[1] == 0 or ecg.dtype.kind not in "fiu":
        raise UserError(
            f"ecg is {ecg.dtype} {list(ecg.shape)}; expected numbers [{len(names)}, samples], in mV, "
            f"one row for each of {', '.join(names)}."
        )
    if not FS_RANGE[0] <= fs <= FS_RANGE[1]:
        raise UserError(f"fs is {fs} Hz; give the sampling rate of the record, {FS_RANGE[0]:g} to {FS_RANGE[1]:g} Hz.")
    return ecg.astype(np.float64), names


def _choose_lead(ecg: np.ndarray, fs: float, leads: Sequence[str]) -> tuple[str, Lattice, Beats, list[str]]:
    """Lead II if it can be measured, else the first lead of `LEAD_PREFERENCE` in which beats are found."""
    none = Beats(np.empty(0), np.empty(0, dtype=bool))
    nothing = Lattice(np.empty(0), fs, 0.0)
    if ecg.shape[1] < MIN_SECONDS * fs:
        return "", nothing, none, [f"the record is shorter than {MIN_SECONDS:g} s"]
    usable: tuple[str, Lattice] | None = None
    reasons = [] if "II" in leads else ["lead II is absent"]
    for lead in (name for name in LEAD_PREFERENCE if name in leads):
        signal = ecg[leads.index(lead)]
        if not np.isfinite(signal).all():
            reasons.append(f"lead {lead} holds NaN or infinite values")
        elif np.ptp(signal) < FLAT_MV:
            reasons.append(f"lead {lead} is flat")
        else:
            lattice = to_lattice(signal, fs)
            beats = find_beats(lattice)
            if len(beats.times):
                return lead, lattice, beats, reasons + ([] if lead == "II" else [f"measured in {lead}"])
            usable = usable or (lead, lattice)
            reasons.append(f"no beat found in lead {lead}")
    if usable is None:
        return "", nothing, none, [*reasons, "no lead is usable"]
    return *usable, none, [*reasons, f"wavelets of {usable[0]}"]


def _wavelets(signal: np.ndarray, fs: float) -> np.ndarray:
    """`[4, T]`: approximation 4 and details 4, 3, 2 of `signal [T]`; each carries its share of the signal's energy."""
    lattice = to_lattice(signal, fs, WAVELET_FS)
    size = len(lattice.signal)
    # The transform is circular and takes a multiple of 2^level; half a second of mirror image keeps the ends apart.
    margin = 128
    padded = np.pad(lattice.signal, (margin, margin + -size % 2**WAVELET_LEVEL), mode="symmetric")
    bands = np.stack(pywt.swt(padded, WAVELET, level=WAVELET_LEVEL, trim_approx=True, norm=True)[: len(WAVELETS)])
    bands = bands[:, margin : margin + size]
    if lattice.fs == fs:
        return bands
    return CubicSpline(np.arange(size), bands, axis=1)(lattice.index(np.arange(len(signal)) / fs))


@dataclass
class _Record:
    """The lead with its beats, while the channels and values are being filled in."""

    signal: np.ndarray
    fs: float
    lattice: Lattice
    beats: Beats

    def __post_init__(self) -> None:
        times = self.beats.times
        self.rr = np.diff(times)
        self.plausible = (self.rr > RR_RANGE[0]) & (self.rr < RR_RANGE[1])
        typical = self.rr[self.plausible]
        found = median_beat(self.lattice, self.beats)
        usual = float(np.median(typical)) if len(typical) else 1.0
        self.waves = delineate(*found, self.lattice.fs, usual) if found else Waves()
        self.samples = np.clip(np.rint(times * self.fs).astype(int), 0, len(self.signal) - 1)
        # A sample belongs to the beat whose R peak is nearest.
        middle = (times[:-1] + times[1:]) / 2
        self.owner = np.searchsorted(middle, np.arange(len(self.signal)) / self.fs)
        clipped = clipped_samples(self.signal, self.fs)
        self.cut = np.bincount(self.owner, weights=clipped, minlength=len(times)) > 0
        self.notes = self._notes(found is not None)

    def _notes(self, delineated: bool) -> list[str]:
        notes = ["one beat only: no rate"] if len(self.beats.times) == 1 else []
        if self.cut.any():
            notes.append(f"clipped in {int(self.cut.sum())} of {len(self.cut)} beats")
        if np.isnan(self.waves.qrs_on):
            notes.append("the QRS has no clear bounds" if delineated else "no beat lies wholly inside the record")
        if self.waves.p_amplitude < 0:
            notes.append("P is negative: inverted lead or ectopic atrial rhythm")
        if not self.beats.normal.all():
            notes.append(f"{int((~self.beats.normal).sum())} of {len(self.cut)} beats have another shape")
        return notes

    def write_rhythm(self, channels: np.ndarray, valid: np.ndarray, values: dict[str, float]) -> None:
        """R peaks, rates and variability."""
        channels[ROW["r_peaks"], self.samples], valid[ROW["r_peaks"]] = 1.0, True
        if self.plausible.any():
            values["heart_rate_bpm"] = float(60.0 / self.rr[self.plausible].mean())
            moments = np.arange(len(self.signal)) / self.fs
            interval = np.clip(np.searchsorted(self.beats.times, moments, "right") - 1, 0, len(self.rr) - 1)
            valid[ROW["rolling_heart_rate"]] = self.plausible[interval]
            channels[ROW["rolling_heart_rate"]] = np.where(self.plausible, 60.0 / self.rr, 0.0)[interval]
        normal = normal_intervals(self.rr, self.beats.normal)
        if normal.sum() >= 3:
            values["sdnn_ms"] = float(1000 * self.rr[normal].std(ddof=1))
        steps = np.diff(self.rr)[normal[1:] & normal[:-1]]
        if len(steps) >= 2:
            values["rmssd_ms"] = float(1000 * np.sqrt(np.mean(steps**2)))
        for channel, value in (("heart_rate", "heart_rate_bpm"), ("sdnn", "sdnn_ms"), ("rmssd", "rmssd_ms")):
            if np.isfinite(values[value]):
                channels[ROW[channel]], valid[ROW[channel]] = values[value], True

    def write_beats(self, channels: np.ndarray, valid: np.ndarray, values: dict[str, float]) -> None:
        """ST and QRS amplitude of every beat, held through it, and the intervals of the median beat."""
        waves, normal, intact = self.waves, self.beats.normal, ~self.cut
        known = np.isfinite(waves.qrs_on) and np.isfinite(waves.qrs_off)
        # A beat of another shape has bounds of its own, which nobody measured: a window wide enough for any QRS.
        on, off = (waves.qrs_on, waves.qrs_off) if known else (-0.08, 0.08)
        bounds = (np.where(normal, on, -0.08), np.where(normal, off, 0.08))
        amplitude = self._over(*bounds, np.ptp)
        level = self._over(waves.qrs_off + 0.06, waves.qrs_off + 0.08, np.mean)
        level -= self._over(waves.qrs_on - 0.025, waves.qrs_on - 0.010, np.mean)
        level[~normal] = np.nan
        for name, per_beat in (("st_deviation", level), ("qrs_amplitude", amplitude)):
            per_beat[~intact] = np.nan
            made = np.isfinite(per_beat)
            channels[ROW[name]] = np.where(made, per_beat, 0.0)[self.owner]
            valid[ROW[name]] = made[self.owner]
            if made.any():
                values[f"{name}_mv"] = float(np.median(per_beat[made]))
        values["pr_ms"] = 1000 * (waves.qrs_on - waves.p_on)
        values["qrs_ms"] = 1000 * (waves.qrs_off - waves.qrs_on)
        values["qt_ms"] = 1000 * (waves.t_off - waves.qrs_on)
        values["qtc_ms"] = values["qt_ms"] * float(np.sqrt(values["heart_rate_bpm"] / 60))
        if intact.mean() > 0.5:  # the median beat is whole
            values["p_amplitude_mv"], values["t_amplitude_mv"] = waves.p_amplitude, waves.t_amplitude

    def _over(self, start: np.ndarray | float, stop: np.ndarray | float, measure: Callable[..., Any]) -> np.ndarray:
        """`measure` of the lead from `start` to `stop` (s, around each R peak): `[n]`, NaN where not all is recorded."""
        start, stop = (np.broadcast_to(side, self.beats.times.shape) for side in (start, stop))
        result = np.full(len(self.beats.times), np.nan)
        signal = self.lattice.signal
        for i, time in enumerate(self.beats.times):
            if np.isfinite(start[i]) and np.isfinite(stop[i]):
                low, high = np.rint(self.lattice.index(time + np.array([start[i], stop[i]]))).astype(int)
                if low >= 0 and high < len(signal):
                    result[i] = measure(signal[low : high + 1])
        return result

    def axis(self, ecg: np.ndarray, leads: Sequence[str]) -> float:
        """Frontal axis in degrees, or NaN.

        The net areas are projections on lead axes at 0° (I) and 90° (aVF); Goldberger's leads are sqrt(3)/2 as long.
        """
        try:
            limb, _ = arrange_leads(ecg, leads, ("I", "aVF"))
        except LeadError:
            return float("nan")
        left, down = (self._net_area(signal) for signal in limb)
        if not np.hypot(left, down) > 1e-4:  # also where one is NaN
            return float("nan")
        return float(np.rad2deg(np.arctan2(down * 2 / np.sqrt(3), left)))

    def _net_area(self, signal: np.ndarray) -> float:
        """Median over the normal beats of the QRS area above the line between its bounds, mV·s; NaN without bounds."""
        if not np.isfinite(self.waves.qrs_on + self.waves.qrs_off) or not np.isfinite(signal).all():
            return np.nan
        grid = np.arange(self.waves.qrs_on, self.waves.qrs_off, 0.002)
        moments = self.beats.times[self.beats.normal, None] + grid
        moments = moments[(moments[:, 0] >= 0) & (moments[:, -1] * self.fs <= len(signal) - 1)]
        if not len(moments):
            return np.nan
        beats = np.interp(moments * self.fs, np.arange(len(signal)), signal)
        line = beats[:, :1] + (beats[:, -1:] - beats[:, :1]) * np.linspace(0, 1, len(grid))
        return float(np.median((beats - line).sum(axis=1)) * 0.002)
