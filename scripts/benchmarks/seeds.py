"""How often the interval over patients and seeds holds the truth, in simulated studies; its width and false positives beside it."""

from __future__ import annotations

import argparse

import numpy as np

from shared.statistics.hierarchical import score_seeds

SPREADS = {
    "patients alone": (1.0, 0.0, 0.0),
    "patients, and seeds a little": (1.0, 0.03, 0.3),
    "both": (1.0, 0.13, 0.5),
    "seeds more than patients": (0.3, 0.3, 1.0),
    "each seed its own patients": (0.1, 0.0, 1.0),
    "seeds alone": (0.0, 0.5, 0.0),
    "patients, skewed": (-1.0, 0.05, 0.3),
}
"""Standard deviations of a patient, of a seed, and of a patient with a seed; below 0: exponential instead of normal."""


def simulate(
    num_seeds: int, spread: tuple[float, float, float], num: int, draws: int, rng: np.random.Generator
) -> np.ndarray:
    """Values `[S, 1 + draws]` of a mean over `num` patients that is truly 0."""
    of_patient = rng.normal(size=num) if spread[0] >= 0 else rng.exponential(size=num) - 1
    scores = abs(spread[0]) * of_patient + spread[1] * rng.normal(size=(num_seeds, 1))
    scores = scores + spread[2] * rng.normal(size=(num_seeds, num))
    counts = rng.multinomial(num, [1 / num] * num, size=draws)
    return np.concatenate([scores.mean(1, keepdims=True), scores @ counts.T / num], axis=1)


def main() -> None:
    """Print a line for each number of seeds and each way to vary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--patients", type=int, default=100)
    parser.add_argument("--draws", type=int, default=1000)
    args = parser.parse_args()
    print(f"{args.studies} studies, {args.patients} test patients, {args.draws} draws; expected: 95 % and 5 %")
    for num_seeds in (2, 3, 5, 10):
        for name, spread in SPREADS.items():
            rng = np.random.default_rng(0)
            found = [
                score_seeds(simulate(num_seeds, spread, args.patients, args.draws, rng), args.patients, seed=i)
                for i in range(args.studies)
            ]
            covered = np.mean([score.low <= 0 <= score.high for score in found])
            positive = np.mean([score.p < 0.05 for score in found])
            width = np.median([score.high - score.low for score in found])
            print(
                f"{num_seeds:>2} seeds  {name:<30} covers {covered:.1%}  p < 0.05 {positive:.1%}  width {width:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
