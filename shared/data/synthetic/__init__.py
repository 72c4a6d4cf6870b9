"""Synthetic 12-lead ECG with known truth: `draw_patients` says who, `render` makes their signals."""

from shared.data.synthetic.patients import COMBINATIONS, SUPERCLASSES, draw_patients
from shared.data.synthetic.render import MIN_DURATION, SyntheticBatch, render, simulate

__all__ = ["COMBINATIONS", "MIN_DURATION", "SUPERCLASSES", "SyntheticBatch", "draw_patients", "render", "simulate"]
