"""How much a disturbed setup costs: probes fitted on clean embeddings, test signals disturbed before preprocessing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from shared.data.store import ECGStore
from shared.errors import UserError
from shared.evaluation.conditions import CONDITION_TITLES, SPREADS, Draws, curve, merge, score_conditions
from shared.evaluation.context import Context, Picture, Protocol, Result
from shared.evaluation.protocols.knn import KNNSettings
from shared.evaluation.protocols.linear_probe import fit_row
from shared.lead_rows import LIMB_FROM_I_II
from shared.leads import subset_leads
from shared.statistics.knn import knn_scores
from shared.statistics.metrics import Array

CLEAN = "clean"


@dataclass(frozen=True)
class Setup:
    """What a disturbance is told of the signal it is given.

    Attributes:
        leads: names of the rows.
        seen: positions of the rows that the encoder sees.
        fs: Hz.
    """

    leads: tuple[str, ...]
    seen: tuple[int, ...]
    fs: float


Change = Callable[[Array, Setup, float, np.random.Generator], Array]
"""`(ecg [L, T] mV, setup, level, generator)` to the disturbed `[L, T]` mV."""


def add_white_noise(ecg: Array, setup: Setup, snr_db: float, rng: np.random.Generator) -> Array:
    """Independent Gaussian noise on each lead, `snr_db` below the power of that lead about its mean."""
    power = ecg.var(axis=1, keepdims=True) / 10 ** (snr_db / 10)
    return np.asarray(ecg + rng.standard_normal(ecg.shape) * np.sqrt(power))


def add_baseline_wander(ecg: Array, setup: Setup, amplitude: float, rng: np.random.Generator) -> Array:
    """Each lead's baseline moves slowly, four sines between 0.05 and 0.5 Hz, scaled to a peak of `amplitude` mV."""
    time = np.arange(ecg.shape[1]) / setup.fs
    shape = (len(ecg), 4, 1)
    waves = rng.standard_normal(shape) * np.sin(
        2 * np.pi * rng.uniform(0.05, 0.5, shape) * time + rng.uniform(0, 2 * np.pi, shape)
    )
    drift = waves.sum(axis=1)
    return np.asarray(ecg + amplitude * drift / np.abs(drift).max(axis=1, keepdims=True))


def add_mains(hertz: float) -> Change:
    """Mains hum of `hertz`: a sine of `amplitude` mV on each lead, its phase drawn per lead."""

    def change(ecg: Array, setup: Setup, amplitude: float, rng: np.random.Generator) -> Array:
        time = np.arange(ecg.shape[1]) / setup.fs
        return np.asarray(ecg + amplitude * np.sin(2 * np.pi * (hertz * time + rng.random((len(ecg), 1)))))

    return change


def swap_arms(ecg: Array, setup: Setup, _level: float, _rng: np.random.Generator) -> Array:
    """The electrodes of the left and the right arm are exchanged: I turns over, II becomes III, aVR becomes aVL.

    Chest leads stay: their reference is the mean of all three limbs. Every limb lead is computed from the new I and II.

    Raises:
        ValueError: the signal lacks I or II.
    """
    if "I" not in setup.leads or "II" not in setup.leads:
        raise ValueError(f"leads I and II are needed to exchange the arms; given {', '.join(setup.leads)}.")
    one, two = ecg[setup.leads.index("I")], ecg[setup.leads.index("II")]
    swapped = ecg.copy()
    for row, lead in enumerate(setup.leads):
        if lead in LIMB_FROM_I_II:
            a, b = LIMB_FROM_I_II[lead]
            swapped[row] = a * -one + b * (two - one)
    return swapped


def drop_leads(ecg: Array, setup: Setup, count: float, rng: np.random.Generator) -> Array:
    """`count` of the leads that the encoder sees, drawn per record, are zero."""
    dropped = ecg.copy()
    dropped[rng.permutation(np.array(setup.seen))[: int(count)]] = 0
    return dropped


@dataclass(frozen=True)
class Disturbance:
    """A kind of disturbance, its levels from mild to severe, and how a level is written."""

    title: str
    change: Change
    levels: tuple[float, ...]
    unit: str = ""
    explained: str = ""


DISTURBANCES: dict[str, Disturbance] = {
    "noise": Disturbance("white noise", add_white_noise, (20, 10, 5, 0), "dB", "signal-to-noise ratio"),
    "wander": Disturbance("baseline wander", add_baseline_wander, (0.25, 0.5, 1.0), "mV", "peak"),
    "mains50": Disturbance("mains hum, 50 Hz", add_mains(50.0), (0.05, 0.1, 0.2), "mV", "peak"),
    "mains60": Disturbance("mains hum, 60 Hz", add_mains(60.0), (0.05, 0.1, 0.2), "mV", "peak"),
    "arms_swapped": Disturbance("arm electrodes exchanged", swap_arms, (1,)),
    "dropped": Disturbance("leads lost", drop_leads, (1, 3, 6), "", "leads set to zero"),
}


class DisturbedStore(ECGStore):
    """The records of a store with a disturbance on their raw signals.

    A record's disturbance depends on the seed and the record only, and is the same pattern at every level.
    """

    def __init__(
        self,
        store: ECGStore,
        tag: str,
        change: Change,
        level: float,
        seed: int = 0,
        seen: Sequence[str] | None = None,
    ) -> None:
        self.__dict__.update(store.__dict__)
        self.fingerprint = f"{store.fingerprint}+{tag}+{level}+{seed}"
        self.change, self.level, self.seed = change, level, seed
        names = self.leads if seen is None else [lead for lead in self.leads if lead in seen]
        self.setup = Setup(self.leads, tuple(self.leads.index(lead) for lead in names), self.fs)

    def read_windows(
        self, indices: np.ndarray, starts: np.ndarray, length: int, rows: Sequence[int] | None = None
    ) -> np.ndarray:
        """As `ECGStore.read_windows`, but float32 in mV. Features stay those of the clean signal."""
        ecg = super().read_windows(indices, starts, length).astype(np.float64) * self.scale
        changed = [
            self.change(record, self.setup, self.level, np.random.default_rng([self.seed, int(index)]))
            for record, index in zip(ecg, indices, strict=True)
        ]
        lead_rows, feature_rows = self.split_rows(rows)
        signals = np.stack(changed)[:, lead_rows].astype(np.float32)
        if not feature_rows:
            return signals
        clean = super().read_windows(indices, starts, length, [len(self.leads) + row for row in feature_rows])
        return np.concatenate([signals, clean], axis=1)


def robustness(context: Context) -> Result:
    """Linear probe and kNN (Euclidean) on disturbed test records, both fitted on clean training records.

    Raises:
        UserError: the context has no encoders to embed anew.
    """
    conditions, notes = find_conditions(context)
    labels, split, k = context.labels, context.split, context.config.settings(KNNSettings).k
    probed: dict[str, dict[str, Draws]] = {}
    voted: dict[str, dict[str, Draws]] = {}
    for row, clean in context.rows.items():
        probe = fit_row(context, clean, split.train)
        probed[row], voted[row] = {}, {}
        for name, store in conditions.items():
            test = clean[split.test]
            if store is not None:
                test = context.embed(row, store=store, indices=context.indices[split.test])
            probed[row][name] = [probe.predict(test)]
            voted[row][name] = [knn_scores(clean[split.train], labels[split.train], test, k, device=context.device)]
    result = merge([score_conditions(context, probed), score_conditions(context, voted, "knn/")])
    result.notes += notes
    result.figures.append(draw_disturbances(context, result, list(conditions)))
    return result


def draw_disturbances(context: Context, result: Result, conditions: Sequence[str]) -> Picture:
    """Macro AUROC over the levels of each kind of disturbance."""
    from shared.plots.scores import Curve, plot_curves

    path = context.out / "figures" / "robustness.png"
    panels: dict[str, dict[str, Curve]] = {}
    xlabels: dict[str, str] = {}
    for kind, disturbance in DISTURBANCES.items():
        names = [CLEAN, *(name for name in conditions if name.partition("_at_")[0] == kind)]
        if len(names) > 1:
            panels[disturbance.title] = {
                row: [
                    (name.partition("_at_")[2] or name.replace("_", " "), value, low, high)
                    for name, value, low, high in curve(scores, "auroc_macro", names)
                ]
                for row, scores in result.scores.items()
            }
            xlabels[disturbance.title] = disturbance.explained
    plot_curves(path, panels, xlabels)
    caption = "Macro AUROC of the linear probe (fitted on clean records) on disturbed test records, 95 % intervals."
    return Picture(path, caption)


def find_conditions(context: Context) -> tuple[dict[str, ECGStore | None], list[str]]:
    """Condition (`noise_at_10dB`) to the disturbed store, None for the clean one; and what is left out.

    Raises:
        UserError: the context has no encoders.
    """
    if not context.encoders:
        raise UserError("robustness must embed disturbed signals, but the encoders are not at hand.")
    encoder, store = next(iter(context.encoders.values())), context.store
    own = encoder.input_spec.leads
    seen = own if context.config.encoder.leads is None else subset_leads(context.config.encoder.leads, own)
    conditions: dict[str, ECGStore | None] = {CLEAN: None}
    notes: list[str] = []
    if encoder.input_spec.features:
        notes.append("robustness: only the signals are disturbed; the features are those measured on the clean record")
    for kind, disturbance in DISTURBANCES.items():
        for level in disturbance.levels:
            if kind.startswith("mains") and float(kind.removeprefix("mains")) >= store.fs / 2:
                notes.append(f"robustness: {disturbance.title} left out, the store is at {store.fs:g} Hz")
                break
            if disturbance.unit == "mV" and store.unit != "mV":
                notes.append(f"robustness: {disturbance.title} left out, the store is in {store.unit}")
                break
            if kind == "arms_swapped" and not {"I", "II"} <= set(store.leads):
                notes.append("robustness: exchanged arms left out, the store has no leads I and II")
                break
            if kind == "dropped" and level >= len(seen):
                notes.append(f"robustness: loss of {level:g} leads left out, the encoder sees {len(seen)}")
                break
            name = f"{kind}_at_{level:g}{disturbance.unit}" if len(disturbance.levels) > 1 else kind
            conditions[name] = DisturbedStore(store, kind, disturbance.change, level, context.config.seed, seen)
    return conditions, notes


ROBUSTNESS = Protocol(robustness, titles=CONDITION_TITLES, unranked=SPREADS)
