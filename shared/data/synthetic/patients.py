"""Synthetic patients: who they are, how their hearts lie and beat, and what each diagnosis changes.

Everything here is one table, one row per record; `shared.data.synthetic` turns a row into a 12-lead signal. The heart
is a dipole in Frank's axes (x to the left, y to the feet, z to the back), and each wave of the beat is one vector in
mV, so a diagnosis is written the way a cardiologist describes it: forces lost towards a wall, a late vector to the
right. Sizes follow textbook criteria (Surawicz & Knilans, *Chou's Electrocardiography in Clinical Practice*); they are
chosen to look right and to overlap between classes, not fitted to any database.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from shared.leads import INDEPENDENT_LEADS

Columns = dict[str, np.ndarray]
Waves = dict[str, np.ndarray]  # name -> [n, 3] dipole vectors, mV

SUPERCLASSES: tuple[str, ...] = ("CD", "HYP", "MI", "NORM", "STTC")
# How often each set of labels occurs: 45 % NORM, 75 % with one label, the pairs PTB-XL also shows most often.
COMBINATIONS: dict[tuple[str, ...], float] = {
    ("NORM",): 0.45, ("MI",): 0.10, ("STTC",): 0.095, ("CD",): 0.075, ("HYP",): 0.03,
    ("CD", "MI"): 0.065, ("HYP", "STTC"): 0.05, ("MI", "STTC"): 0.035, ("CD", "STTC"): 0.03, ("CD", "HYP"): 0.02,
    ("HYP", "MI", "STTC"): 0.02, ("HYP", "MI"): 0.01, ("CD", "HYP", "STTC"): 0.01, ("CD", "MI", "STTC"): 0.01,
}  # fmt: skip

# The reference beat of a 55-year-old man: dipole vectors (x left, y feet, z back) in mV.
REFERENCE_WAVES: dict[str, tuple[float, float, float]] = {
    "p_right": (0.04, 0.09, -0.05),
    "p_left": (0.09, 0.05, 0.04),
    "q": (-0.16, -0.06, -0.28),
    "r": (1.10, 0.85, 0.35),
    "s": (-0.12, -0.22, 0.62),
    "late": (0.0, 0.0, 0.0),
    "st": (0.01, 0.01, -0.01),
    "t": (0.31, 0.23, -0.14),
}
# Towards the wall that died: lost forces point away from it, acute ST shifts point to it.
WALLS: dict[str, tuple[float, float, float]] = {
    "anterior": (0.30, 0.0, -0.90),
    "inferior": (-0.05, 1.0, 0.10),
    "lateral": (0.95, -0.30, 0.10),
}
WALL_SHARES = (0.45, 0.40, 0.15)
STAGES: tuple[str, ...] = ("acute", "evolving", "old")
STAGE_SHARES = (0.35, 0.35, 0.30)
STAGE_ST = np.array([1.0, 0.45, 0.12])  # how much of the ST shift is left at each stage
STAGE_T = np.array([0.6, -1.0, -0.3])  # T towards the wall when acute, away from it later
CONDUCTION: tuple[str, ...] = ("lbbb", "rbbb", "lafb", "avb")
CONDUCTION_SHARES = (0.27, 0.35, 0.20, 0.18)
LEFT_FORCES = np.array([0.78, 0.52, -0.35])  # the direction in which a healthy ST-T segment points

# Log hazard per year of age and per unit of severity of each class.
LOG_HAZARD = {"age": 0.055, "MI": 0.7, "STTC": 0.4, "CD": 0.35, "HYP": 0.45}


def draw_patients(num_records: int, seed: int, records_per_patient: int = 1) -> pd.DataFrame:
    """Draw patients and their records.

    Records of one patient share anatomy, intervals corrected for rate, diagnosis, fold and survival; heart rate and its
    variability, posture (a few degrees), electrode contact, noise and phase are drawn per record.

    Args:
        num_records: rows to return, at least 1.
        seed: same seed, same arguments, same table.
        records_per_patient: consecutive rows that belong to one patient; the last patient may have fewer.

    Returns:
        One row per record.
        Identity: `record`, `patient`, `seed` (of this record's noise and phase), `strat_fold` (1–10, by patient,
        stratified by labels). Diagnosis: `superclass` (sorted list), `territory`, `mi_stage`, `conduction` ("" where
        they do not apply), `<class>_severity` (0 where absent, else 0.2–1.1). Person: `age` (years), `sex` (0 man,
        1 woman, as PTB-XL). Rhythm: `heart_rate` (bpm), `rsa`, `lf` (share of RR), `resp_hz`. Intervals: `p_ms`,
        `pr_ms`, `qrs_ms`, `qt_ms`, `qtc_ms` (Bazett). Shape: `q_width` (sigma as share of QRS), `slur` (0 sharp,
        1 broad), `<wave>_x|y|z` (mV). Position: `frontal_deg`, `horizontal_deg`, `tilt_deg`, `gain_<lead>`.
        Disturbance: `noise_mv`, `wander_mv`, `hum_mv`. Survival: `time_to_event` (years), `event` (1 seen, 0 censored).

    Raises:
        ValueError: a count below 1 or a negative seed.
    """
    if num_records < 1:
        raise ValueError(f"num_records is {num_records}; ask for at least 1 record.")
    if records_per_patient < 1:
        raise ValueError(f"records_per_patient is {records_per_patient}; a patient has at least 1 record.")
    if seed < 0:
        raise ValueError(f"seed is {seed}; give an integer of 0 or more.")
    rng = np.random.default_rng(seed)
    num_patients = -(-num_records // records_per_patient)
    people, labels = _draw_people(rng, num_patients)
    anatomy, waves = _draw_anatomy(rng, people)
    _apply_conduction(people, anatomy, waves)
    _apply_hypertrophy(rng, people, anatomy, waves)
    _apply_infarction(people, anatomy, waves)
    _apply_repolarisation(rng, people, anatomy, waves)
    for name, vectors in waves.items():
        for axis, letter in enumerate("xyz"):
            anatomy[f"{name}_{letter}"] = vectors[:, axis]
    survival = _draw_survival(rng, people)

    owner = np.arange(num_records) // records_per_patient
    shared_columns = {**people, **survival, **anatomy}
    columns = {name: values[owner] for name, values in shared_columns.items()}
    columns.update(_draw_recordings(rng, columns))
    table = pd.DataFrame(columns)
    table.insert(0, "record", [f"syn{i:06d}" for i in range(num_records)])
    table.insert(1, "patient", [f"patient{i:06d}" for i in owner])
    table.insert(2, "superclass", pd.Series([list(labels[i]) for i in owner], dtype=object))
    return table


def _draw_people(rng: np.random.Generator, num: int) -> tuple[Columns, list[tuple[str, ...]]]:
    """Labels, severities, folds, age and sex of `num` patients."""
    names = list(COMBINATIONS)
    shares = np.array(list(COMBINATIONS.values()))
    combination = rng.choice(len(names), size=num, p=shares / shares.sum())
    labels = [names[i] for i in combination]
    people: Columns = {}

    # Patients are dealt to the folds label set by label set, so every fold has the same mix.
    fold = np.empty(num, dtype=np.int64)
    shuffled = rng.permutation(num)
    fold[shuffled[np.argsort(combination[shuffled], kind="stable")]] = np.arange(num) % 10 + 1
    people["strat_fold"] = fold
    for name in ("CD", "HYP", "MI", "STTC"):
        present = np.array([name in label for label in labels])
        people[f"{name.lower()}_severity"] = present * (0.2 + 0.9 * rng.beta(2.2, 1.5, size=num))

    sick = np.array(["NORM" not in label for label in labels])
    people["age"] = np.clip(rng.normal(np.where(sick, 65.0, 53.0), 14.0), 18.0, 95.0).round(1)
    people["sex"] = (rng.random(num) < np.where(sick, 0.44, 0.54)).astype(np.int64)
    territory = rng.choice(list(WALLS), size=num, p=WALL_SHARES)
    stage = rng.choice(STAGES, size=num, p=STAGE_SHARES)
    conduction = rng.choice(CONDUCTION, size=num, p=CONDUCTION_SHARES)
    people["territory"] = np.where(people["mi_severity"] > 0, territory, "").astype(object)
    people["mi_stage"] = np.where(people["mi_severity"] > 0, stage, "").astype(object)
    people["conduction"] = np.where(people["cd_severity"] > 0, conduction, "").astype(object)
    return people, labels


def _draw_anatomy(rng: np.random.Generator, people: Columns) -> tuple[Columns, Waves]:
    """The healthy heart of each patient: position, voltages and intervals, with their trends in age and sex."""
    num = len(people["age"])
    years = people["age"] - 55.0
    woman = people["sex"].astype(float)
    anatomy: Columns = {
        "mean_rate": np.clip(rng.normal(69.0 + 3.0 * woman, 10.0), 48.0, 115.0),
        "vagal": np.exp(rng.normal(-0.018 * years, 0.45)),
        "p_ms": np.clip(rng.normal(102.0 + 0.1 * years, 8.0), 80.0, 130.0),
        "mean_pr": np.clip(rng.normal(158.0 + 0.3 * years, 16.0), 122.0, 200.0),
        "qrs_ms": np.clip(rng.normal(93.0 - 6.0 * woman, 7.5), 74.0, 112.0),
        "qtc_ms": np.clip(rng.normal(411.0 + 14.0 * woman + 0.15 * years, 14.0), 365.0, 460.0),
        "q_width": rng.normal(0.11, 0.005, num),
        "slur": rng.uniform(0.0, 0.15, num),
        # The axis turns left with age (Surawicz & Knilans).
        "frontal_deg": rng.normal(6.0 - 0.35 * years, 17.0),
        "horizontal_deg": rng.normal(0.0, 10.0, num),
        "tilt_deg": rng.normal(0.0, 7.0, num),
    }
    for lead in INDEPENDENT_LEADS:
        chest = lead.startswith("V")
        anatomy[f"gain_{lead}"] = np.exp(rng.normal(-0.10 * woman * chest, 0.10 if chest else 0.05, num))

    voltage = np.exp(rng.normal(-0.004 * years - 0.04 * woman, 0.20))
    waves: Waves = {}
    for name, reference in REFERENCE_WAVES.items():
        vector = np.array(reference)
        size = max(float(np.linalg.norm(vector)), 0.05)
        gain = np.exp(rng.normal(0.0, 0.14, (num, 1))) * voltage[:, None]
        waves[name] = gain * (vector + rng.normal(0.0, 0.16 * size, (num, 3)))
    # Men carry a little ST elevation and a taller T in V2–V3.
    man = 1.0 - woman
    waves["st"] = rng.normal(0.0, 0.022, (num, 3)) + man[:, None] * np.array([0.008, 0.005, -0.025])
    waves["t"] *= np.exp(rng.normal(-0.005 * years + 0.10 * man, 0.27))[:, None]
    return anatomy, waves


def _apply_conduction(people: Columns, anatomy: Columns, waves: Waves) -> None:
    """CD: left or right bundle-branch block, left anterior fascicular block, first-degree AV block (in place)."""
    severity, kind = people["cd_severity"], people["conduction"]
    size = np.linalg.norm(waves["r"], axis=1, keepdims=True)

    left = kind == "lbbb"
    anatomy["qrs_ms"] = np.where(left, 0.35 * anatomy["qrs_ms"] + 88 + 30 * severity, anatomy["qrs_ms"])
    # No septal q; the free wall is reached late through muscle: one broad vector left and back, T opposed to it.
    for name, vector in {"q": (0.18, 0.12, 0.10), "r": (0.62, 0.24, 0.45), "late": (0.62, 0.02, 0.55)}.items():
        waves[name][left] = size[left] * np.array(vector) + 0.25 * waves[name][left]
    waves["s"][left] *= 0.25
    _add(waves["st"], left, -0.09 * severity, waves["late"])
    _add(waves["t"], left, -0.42 * severity - 0.1, waves["late"])

    right = kind == "rbbb"
    anatomy["qrs_ms"] = np.where(right, 0.4 * anatomy["qrs_ms"] + 72 + 30 * severity, anatomy["qrs_ms"])
    # The right ventricle comes last and unopposed: R' in V1, broad S in I and V6.
    waves["late"][right] = (size * severity[:, None] * np.array([-0.36, 0.02, -0.44]))[right]
    waves["s"][right] *= 0.35
    _add(waves["t"], right, -0.28 * np.ones_like(severity), waves["late"])

    fascicular = kind == "lafb"
    anatomy["frontal_deg"] = anatomy["frontal_deg"] - np.where(fascicular, 40.0 + 25.0 * severity, 0.0)
    anatomy["qrs_ms"] = anatomy["qrs_ms"] + np.where(fascicular, 8.0 + 8.0 * severity, 0.0)
    # The repolarisation does not follow the turned QRS, so T is turned back.
    turn = np.deg2rad(np.where(fascicular, 25.0 + 20.0 * severity, 0.0))
    x, y = waves["t"][:, 0].copy(), waves["t"][:, 1].copy()
    waves["t"][:, 0], waves["t"][:, 1] = x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)

    slow = kind == "avb"
    anatomy["mean_pr"] = np.where(slow, 0.4 * anatomy["mean_pr"] + 132 + 65 * severity, anatomy["mean_pr"])
    anatomy["slur"] = anatomy["slur"] + np.where(left, 0.8, np.where(right, 0.35, 0.0))


def _apply_hypertrophy(rng: np.random.Generator, people: Columns, anatomy: Columns, waves: Waves) -> None:
    """HYP: tall R to the left and deep S to the back, often a large left atrium, sometimes strain (in place)."""
    severity = people["hyp_severity"]
    ill = severity > 0
    waves["r"] *= (1.0 + 0.75 * severity)[:, None]
    waves["late"] *= (1.0 + 0.45 * severity)[:, None]
    waves["s"] *= (1.0 + 0.75 * severity)[:, None]
    waves["r"][:, 2] += 0.25 * severity
    anatomy["qrs_ms"] = anatomy["qrs_ms"] + 6.0 * severity
    anatomy["frontal_deg"] = anatomy["frontal_deg"] - 8.0 * severity
    atrium = ill & (rng.random(len(severity)) < 0.5)
    waves["p_left"][atrium] *= 1.6
    anatomy["p_ms"] = anatomy["p_ms"] + 12.0 * atrium
    # Strain: with STTC it is what earns that label, so a HYP record without STTC shows a trace of it at most.
    strain = severity * np.where(people["sttc_severity"] > 0, 0.6, 0.15)
    _add(waves["st"], ill, -0.10 * strain, LEFT_FORCES)
    _add(waves["t"], ill, -0.40 * strain, LEFT_FORCES)


def _apply_infarction(people: Columns, anatomy: Columns, waves: Waves) -> None:
    """MI: Q waves, lost R, ST elevation and T change over the infarcted wall, by stage (in place)."""
    severity = people["mi_severity"]
    ill = severity > 0
    wall = np.array([WALLS.get(name, (0.0, 0.0, 0.0)) for name in people["territory"]])
    stage = np.array([STAGES.index(name) if name else 0 for name in people["mi_stage"]])
    _add(waves["q"], ill, -0.55 * severity, wall)
    _add(waves["r"], ill, -0.28 * severity, wall)
    _add(waves["st"], ill, 0.26 * severity * STAGE_ST[stage], wall)
    _add(waves["t"], ill, 0.36 * severity * STAGE_T[stage], wall)
    anatomy["q_width"] = anatomy["q_width"] + 0.03 * np.minimum(severity, 1.0)
    anatomy["qrs_ms"] = anatomy["qrs_ms"] + 4.0 * severity
    anatomy["vagal"] = anatomy["vagal"] * np.exp(-0.3 * severity)


def _apply_repolarisation(rng: np.random.Generator, people: Columns, anatomy: Columns, waves: Waves) -> None:
    """STTC: ST depression and flat or inverted T, in varying proportion (in place)."""
    severity = people["sttc_severity"]
    ill = severity > 0
    share = rng.uniform(0.1, 1.0, len(severity))  # 0 all in the T wave, 1 all in the ST segment
    _add(waves["st"], ill, -0.17 * severity * share, LEFT_FORCES)
    _add(waves["t"], ill, -0.62 * severity * (1.1 - 0.6 * share), LEFT_FORCES)
    anatomy["qtc_ms"] = anatomy["qtc_ms"] + 14.0 * severity


def _add(vectors: np.ndarray, where: np.ndarray, weight: np.ndarray, direction: np.ndarray) -> None:
    """Add `weight · direction` to the rows of `vectors [n, 3]` where `where [n]` holds (in place)."""
    vectors += (where * weight)[:, None] * direction


def _draw_survival(rng: np.random.Generator, people: Columns) -> Columns:
    """Weibull proportional-hazards times, censored uniformly (Bender et al., Stat Med 2005;24:1713)."""
    num = len(people["age"])
    log_hazard = LOG_HAZARD["age"] * (people["age"] - 60.0)
    for name in ("MI", "STTC", "CD", "HYP"):
        log_hazard = log_hazard + LOG_HAZARD[name] * people[f"{name.lower()}_severity"]
    time = 14.0 * (rng.exponential(size=num) * np.exp(-log_hazard)) ** (1 / 1.2)
    censoring = rng.uniform(1.0, 10.0, num)
    return {"time_to_event": np.minimum(time, censoring), "event": (time <= censoring).astype(np.int64)}


def _draw_recordings(rng: np.random.Generator, columns: Columns) -> Columns:
    """What differs from one recording of a patient to the next; patient means become this record's values."""
    num = len(columns["age"])
    vagal, mean_pr = columns.pop("vagal"), columns.pop("mean_pr")
    rate = np.clip(columns.pop("mean_rate") * np.exp(rng.normal(0.0, 0.09, num)), 45.0, 130.0)
    block = np.maximum(columns["qrs_ms"] - 110.0, 0.0)  # a late QRS ends late: QT grows with it
    session: Columns = {
        "seed": rng.integers(0, 2**31 - 1, num),
        "heart_rate": rate,
        "rsa": np.minimum(0.030 * vagal * np.exp(rng.normal(0.0, 0.25, num)), 0.10),
        "lf": np.minimum(0.018 * vagal * np.exp(rng.normal(0.0, 0.25, num)), 0.07),
        "resp_hz": rng.uniform(0.18, 0.34, num),
        "pr_ms": np.maximum(mean_pr - 0.25 * (rate - 70.0), columns["p_ms"] + 12.0),
        "qt_ms": columns["qtc_ms"] * np.sqrt(60.0 / rate) + 0.7 * block,
        "noise_mv": 0.011 * np.exp(rng.normal(0.0, 0.5, num)),
        "wander_mv": 0.045 * np.exp(rng.normal(0.0, 0.6, num)),
        "hum_mv": 0.003 * np.exp(rng.normal(0.0, 0.6, num)),
    }
    session["qtc_ms"] = session["qt_ms"] * np.sqrt(rate / 60.0)
    for name in ("frontal_deg", "horizontal_deg", "tilt_deg"):
        session[name] = columns[name] + rng.normal(0.0, 2.5, num)
    for lead in INDEPENDENT_LEADS:
        session[f"gain_{lead}"] = columns[f"gain_{lead}"] * np.exp(rng.normal(0.0, 0.03, num))
    return session
