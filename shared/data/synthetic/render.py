"""Synthetic 12-lead ECG with known truth: the embedded default data set.

A beat is a sum of bell-shaped movements of the heart dipole in Frank's space (after McSharry et al., IEEE Trans Biomed
Eng 2003;50:289, and its dipole form by Sameni et al., EURASIP J Adv Signal Process 2007:043407), rendered around the
true beat times and projected on the leads by Dower's matrix. `shared.data.synthetic.patients` draws the patients.

Two choices keep the truth exact. Every record owns its seed, so a subset or a chunk renders the very same signals. And
all that is random lives in continuous time or on one 500 Hz lattice, so a record at another `fs` is the same signal
sampled anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from shared.data.synthetic.patients import draw_patients
from shared.lead_rows import LIMB_FROM_I_II
from shared.leads import INDEPENDENT_LEADS, LEADS

# Dipole (x left, y feet, z back) -> lead. Source: Dower, Machado, Osborne, Clin Cardiol 1980;3:87-95.
DOWER: dict[str, tuple[float, float, float]] = {
    "I": (0.632, -0.235, 0.059),
    "II": (0.235, 1.066, -0.132),
    "V1": (-0.515, 0.157, -0.917),
    "V2": (0.044, 0.164, -1.387),
    "V3": (0.882, 0.098, -1.277),
    "V4": (1.213, 0.127, -0.601),
    "V5": (1.125, 0.127, -0.086),
    "V6": (0.831, 0.076, 0.230),
}
WAVES: tuple[str, ...] = ("p_right", "p_left", "q", "r", "s", "late", "st", "t")
QRS = slice(2, 6)
T_WAVE = WAVES.index("t")

# Noise arises at electrodes, not at leads: RA, LA, LL, V1–V6, each chest lead against Wilson's central terminal.
ELECTRODES = 9
ELECTRODE_TO_LEAD = np.zeros((8, ELECTRODES), dtype=np.float32)
ELECTRODE_TO_LEAD[0, :2] = (-1.0, 1.0)  # I = LA − RA
ELECTRODE_TO_LEAD[1, [0, 2]] = (-1.0, 1.0)  # II = LL − RA
ELECTRODE_TO_LEAD[2:, :3] = -1.0 / 3.0
ELECTRODE_TO_LEAD[2:, 3:] = np.eye(6)
NOISE_FS = 500.0  # Hz, the lattice of the muscle noise
MAINS_HZ = 50.0
MIN_DURATION = 5.0  # s: three beats at the slowest rate, the fewest that give an RMSSD

# The eight independent leads -> all twelve; the limb leads follow from I and II (columns 0 and 1).
TO_TWELVE = np.zeros((len(LEADS), len(INDEPENDENT_LEADS)), dtype=np.float32)
for _row, _lead in enumerate(LEADS):
    if _lead in LIMB_FROM_I_II:
        TO_TWELVE[_row, :2] = LIMB_FROM_I_II[_lead]
    else:
        TO_TWELVE[_row, INDEPENDENT_LEADS.index(_lead)] = 1.0

PARAMETERS: tuple[str, ...] = (
    *("record", "seed", "heart_rate", "rsa", "lf", "resp_hz", "p_ms", "pr_ms", "qrs_ms", "qt_ms", "q_width", "slur"),
    *("frontal_deg", "horizontal_deg", "tilt_deg", "noise_mv", "wander_mv", "hum_mv"),
    *(f"gain_{lead}" for lead in INDEPENDENT_LEADS),
    *(f"{wave}_{axis}" for wave in WAVES for axis in "xyz"),
)


@dataclass(frozen=True)
class SyntheticBatch:
    """Rendered records and the truth about them.

    Attributes:
        ecg: `[n, 12, T]` float32, millivolt, leads in the order of `shared.leads.LEADS`.
        fs: sampling rate, Hz.
        r_peaks: per record the times (s, from the first sample) at which the QRS dipole is longest.
        truth: one row per record: `record`; `heart_rate` (bpm, 60 / mean RR), `sdnn_ms` (n − 1), `rmssd_ms`, all from
            `r_peaks`; `pr_ms` (P onset to QRS onset), `qrs_ms` (QRS onset to J), `qt_ms` (QRS onset to T end, mean over
            the beats); `st_mv`, the noise-free level of lead II 60 ms after J against the level 20 ms before the QRS.
            A wave begins and ends two standard deviations from its peak, where the tangent at a Gaussian's steepest
            point meets the baseline: the tangent method (Lepeschkin & Surawicz, Circulation 1952;6:378) is exact here.
        records: the patients' table, in the same order.
    """

    ecg: np.ndarray
    fs: float
    r_peaks: list[np.ndarray]
    truth: pd.DataFrame
    records: pd.DataFrame


@dataclass(frozen=True)
class _Beats:
    """The template beat of every record: bells around the R peak, already seen from the leads.

    `center`, `left`, `right` are `[n, K]` in seconds (sigma before and after the peak), `leads` is `[n, 8, K]` in mV,
    and `onset` `[n]` is the QRS onset in seconds from the R peak (negative).
    """

    center: np.ndarray
    left: np.ndarray
    right: np.ndarray
    leads: np.ndarray
    onset: np.ndarray


def simulate(
    num_records: int, seed: int = 0, fs: float = 250.0, duration: float = 10.0, records_per_patient: int = 1
) -> SyntheticBatch:
    """Draw patients and render their records in one call; see `draw_patients` and `render`."""
    return render(draw_patients(num_records, seed, records_per_patient), fs, duration)


def render(patients: pd.DataFrame, fs: float = 250.0, duration: float = 10.0, noise: bool = True) -> SyntheticBatch:
    """Turn a table of patients into 12-lead signals.

    Args:
        patients: rows of `draw_patients`; any subset, in any order.
        fs: sampling rate, Hz.
        duration: seconds, at least 5.
        noise: False leaves out muscle noise, baseline wander and mains hum; heart beats and truth stay the same.

    Returns:
        The batch; `ecg` is `[n, 12, round(fs · duration)]`. A record depends on its own row only.

    Raises:
        ValueError: no record, a missing column, `fs` not positive or `duration` below 5 s.
    """
    if not (np.isfinite(fs) and fs > 0):
        raise ValueError(f"fs is {fs}; give a sampling rate in Hz above 0, e.g. 250.")
    if not (np.isfinite(duration) and duration >= MIN_DURATION):
        raise ValueError(f"duration is {duration} s; give at least {MIN_DURATION:g} s, enough to measure intervals.")
    missing = [name for name in PARAMETERS if name not in patients.columns]
    if missing:
        raise ValueError(f"patients lacks the column(s) {', '.join(missing)}; make the table with draw_patients().")
    if len(patients) == 0:
        raise ValueError("patients has no row; there is nothing to render.")
    beats = _template_beats(patients)
    num_samples = round(fs * duration)
    ecg = np.empty((len(patients), len(LEADS), num_samples), dtype=np.float32)
    r_peaks: list[np.ndarray] = []
    rows = []
    for i, row in enumerate(patients[list(PARAMETERS)].to_dict("records")):
        rng = np.random.default_rng(int(row["seed"]))
        times, stretch, breath = _beat_times(rng, row, duration)
        signal = _render_beats(beats, i, times, stretch, breath, fs, num_samples)
        if noise:
            signal += _render_noise(rng, row, fs, num_samples, duration)
        np.matmul(TO_TWELVE, signal, out=ecg[i])
        inside = (times >= 0) & (times < duration)
        r_peaks.append(times[inside])
        rows.append(_measure(beats, i, row, times[inside], stretch[inside]))
    return SyntheticBatch(ecg, float(fs), r_peaks, pd.DataFrame(rows), patients.reset_index(drop=True))


def _template_beats(patients: pd.DataFrame) -> _Beats:
    """Place the waves of each record's beat in time (from the QRS onset, then from the R peak) and project them."""
    column = {name: patients[name].to_numpy(dtype=float) for name in PARAMETERS if name != "record"}
    p, pr, qrs, qt = (column[name] / 1000 for name in ("p_ms", "pr_ms", "qrs_ms", "qt_ms"))
    q_width, slur = column["q_width"], column["slur"]
    r_width, late_width = 0.10 + 0.05 * slur, 0.10 + 0.04 * slur
    # (center, sigma before, sigma after) in seconds. First and last wave of P and QRS end two sigma from their bounds.
    timing = {
        "p_right": (0.32 * p - pr, 0.16 * p, 0.16 * p),
        "p_left": (0.66 * p - pr, 0.17 * p, 0.17 * p),
        "q": (2 * q_width * qrs, q_width * qrs, q_width * qrs),
        "r": ((0.45 + 0.03 * slur) * qrs, r_width * qrs, r_width * qrs),
        "s": (0.72 * qrs, 0.14 * qrs, 0.14 * qrs),
        "late": ((1 - 2 * late_width) * qrs, late_width * qrs, late_width * qrs),
        "st": (qrs + 0.012, 0.015 + 0 * qt, 0.22 * qt),
        "t": (0.83 * qt, 0.13 * qt, 0.085 * qt),
    }
    center, left, right = (np.stack([timing[wave][k] for wave in WAVES], axis=1) for k in range(3))
    dipole = np.stack([np.stack([column[f"{wave}_{axis}"] for axis in "xyz"], axis=1) for wave in WAVES], axis=2)
    gain = np.stack([column[f"gain_{lead}"] for lead in INDEPENDENT_LEADS], axis=1)
    matrix = np.array([DOWER[lead] for lead in INDEPENDENT_LEADS])
    turned = _rotations(column["frontal_deg"], column["horizontal_deg"], column["tilt_deg"]) @ dipole  # [n, 3, K]
    leads = gain[:, :, None] * (matrix @ turned)  # [n, 8, K]

    # The R peak is where the whole QRS dipole is longest: with a block that is not the peak of any single wave.
    share = np.linspace(0.0, 1.0, 201)
    offset = share * qrs[:, None, None] - center[:, QRS, None]
    bells = np.exp(-0.5 * (offset / left[:, QRS, None]) ** 2)  # [n, 4, 201]
    length = np.linalg.norm(dipole[:, :, QRS] @ bells, axis=1)
    peak = share[np.argmax(length, axis=1)] * qrs
    return _Beats(center - peak[:, None], left, right, leads, -peak)


def _rotations(frontal: np.ndarray, horizontal: np.ndarray, tilt: np.ndarray) -> np.ndarray:
    """`[n, 3, 3]` rotations from degrees: about z (axis turns to the feet), about y (to the back), about x."""
    c, s = np.cos(np.deg2rad([frontal, horizontal, tilt])), np.sin(np.deg2rad([frontal, horizontal, tilt]))
    zero, one = np.zeros_like(c[0]), np.ones_like(c[0])

    def stack(*entries: np.ndarray) -> np.ndarray:
        return np.stack(entries, axis=-1).reshape(-1, 3, 3)

    about_z = stack(c[0], -s[0], zero, s[0], c[0], zero, zero, zero, one)
    about_y = stack(c[1], zero, -s[1], zero, one, zero, s[1], zero, c[1])
    about_x = stack(one, zero, zero, zero, c[2], -s[2], zero, s[2], c[2])
    return about_z @ about_y @ about_x


def _beat_times(rng: np.random.Generator, row: dict, duration: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """R-peak times with respiratory (RSA) and 0.1 Hz variability, a little beyond the record at both ends.

    Returns:
        `(times [n] s, stretch [n] of the J–T interval after each RR, breath [n] in −1…1)`.
    """
    period = 60.0 / row["heart_rate"]
    phase = rng.uniform(0.0, 2 * np.pi, 2)
    start = -1.2 - rng.random() * period
    count = int((duration + 3.5) / (0.75 * period)) + 2
    nominal = start + period * np.arange(count)
    respiration = np.sin(2 * np.pi * row["resp_hz"] * nominal + phase[0])
    slow = np.sin(2 * np.pi * 0.1 * nominal + phase[1])
    jitter = 0.005 * np.clip(rng.standard_normal(count), -3, 3)
    relative = 1.0 + row["rsa"] * respiration + row["lf"] * slow + jitter
    times = start + np.concatenate([[0.0], np.cumsum(period * relative[:-1])])
    # QT follows the rate slowly: within a record it takes up only part of each RR change (hysteresis).
    stretch = np.concatenate([[1.0], relative[:-1]]) ** 0.25
    near = (times > -0.9) & (times < duration + 0.6)
    return times[near], stretch[near], respiration[near]


def _render_beats(
    beats: _Beats, i: int, times: np.ndarray, stretch: np.ndarray, breath: np.ndarray, fs: float, num_samples: int
) -> np.ndarray:
    """Sum the beats of record `i` into `[8, num_samples]` float32, each evaluated only where it is not 0."""
    center = np.repeat(beats.center[i][:, None], len(times), axis=1)  # [K, beats]
    center[T_WAVE] += (stretch - 1.0) * (center[T_WAVE] - beats.onset[i])
    before = float(np.max(4.0 * beats.left[i] - center.min(axis=1)))
    after = float(np.max(4.0 * beats.right[i] + center.max(axis=1)))
    width = int((before + after) * fs) + 2
    first = np.ceil((times - before) * fs).astype(int)
    tau = ((first[:, None] + np.arange(width)) / fs - times[:, None]).astype(np.float32)  # [beats, width]
    offset = tau - center[:, :, None].astype(np.float32)  # [K, beats, width]
    left, right = (1 / beats.left[i]).astype(np.float32), (1 / beats.right[i]).astype(np.float32)
    offset *= np.where(offset < 0, left[:, None, None], right[:, None, None])
    np.multiply(offset, offset, out=offset)
    offset *= np.float32(-0.5)
    np.exp(offset, out=offset)
    wave = (beats.leads[i].astype(np.float32) @ offset.reshape(len(offset), -1)).reshape(8, len(times), width)
    # Breathing moves the heart under the electrodes: the whole beat swells and shrinks by a few percent.
    wave *= (1.0 + 0.04 * breath[:, None]).astype(np.float32)
    signal = np.zeros((8, num_samples), dtype=np.float32)
    for beat, begin in enumerate(first):
        low, high = max(begin, 0), min(begin + width, num_samples)
        if low < high:
            signal[:, low:high] += wave[:, beat, low - begin : high - begin]
    return signal


def _render_noise(rng: np.random.Generator, row: dict, fs: float, num_samples: int, duration: float) -> np.ndarray:
    """Muscle noise, baseline wander and mains hum of nine electrodes, seen from the leads: `[8, num_samples]` mV."""
    lattice = rng.standard_normal((ELECTRODES, int(np.ceil(duration * NOISE_FS)) + 3), dtype=np.float32)
    frequency = np.array([rng.uniform(0.05, 0.12), row["resp_hz"], rng.uniform(0.35, 0.6), MAINS_HZ])
    size = np.array([0.8, 0.6, 0.25, 0.0]) * row["wander_mv"]
    # A recorder that samples at 100 Hz or less has filtered the mains away; sampling it here would only alias.
    size[3] = row["hum_mv"] if fs > 2 * MAINS_HZ else 0.0
    weights = (rng.standard_normal((ELECTRODES, 2, 4)) * size).astype(np.float32).reshape(ELECTRODES, 8)
    angle = np.outer(2 * np.pi * frequency, np.arange(num_samples) / fs).astype(np.float32)  # [4, T]
    slow = weights @ np.concatenate([np.sin(angle), np.cos(angle)])

    step = NOISE_FS / fs
    if step.is_integer():
        muscle = lattice[:, :: int(step)][:, :num_samples] + lattice[:, 1 :: int(step)][:, :num_samples]
    else:
        lattice = lattice[:, :-1] + lattice[:, 1:]
        position = np.arange(num_samples) * step
        index = position.astype(int)
        part = (position - index).astype(np.float32)
        muscle = lattice[:, index] * (1 - part) + lattice[:, index + 1] * part
    # The sum of two neighbours (variance 2) takes the top off the spectrum, as a recorder's 150 Hz filter does.
    slow += np.float32(row["noise_mv"] / np.sqrt(2)) * muscle
    return ELECTRODE_TO_LEAD @ slow


def _measure(beats: _Beats, i: int, row: dict, peaks: np.ndarray, stretch: np.ndarray) -> dict:
    """The truth of record `i` (units and definitions at `SyntheticBatch`)."""
    rr = np.diff(peaks) * 1000
    qrs_end = beats.onset[i] + row["qrs_ms"] / 1000
    tau = np.array([qrs_end + 0.060, beats.onset[i] - 0.020])[:, None]  # J + 60 ms, PQ segment
    sigma = np.where(tau < beats.center[i], beats.left[i], beats.right[i])
    level = np.exp(-0.5 * ((tau - beats.center[i]) / sigma) ** 2) @ beats.leads[i, INDEPENDENT_LEADS.index("II")]
    t_peak = (beats.center[i, T_WAVE] - beats.onset[i]) * stretch.mean()
    return {
        "record": row["record"],
        "heart_rate": 60000.0 / rr.mean(),
        "sdnn_ms": rr.std(ddof=1),
        "rmssd_ms": np.sqrt(np.mean(np.diff(rr) ** 2)),
        "pr_ms": row["pr_ms"],
        "qrs_ms": row["qrs_ms"],
        "qt_ms": 1000.0 * (t_peak + 2 * beats.right[i, T_WAVE]),
        "st_mv": level[0] - level[1],
    }
