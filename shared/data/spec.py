"""InputSpec: the preprocessing contract between a model and its data. Free of torch, so that preparing stays light."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, field_validator, model_validator

from shared.config import RepoPath, Section
from shared.leads import LEADS, parse_leads
from shared.signals import FS, SECONDS


def parse_features(features: str | Sequence[str]) -> tuple[str, ...]:
    """Read a selection of features: names of `FEATURES` in the order wanted, `all`, or nothing.

    Raises:
        UserError: an unknown or repeated name.
    """
    names = [part.strip() for part in features.split(",")] if isinstance(features, str) else list(features)
    if not names:
        return ()
    from shared.measurements.catalog import FEATURES, check_names  # where features are named; most models take none

    if names == ["all"]:
        return tuple(FEATURES)
    return check_names(names)


class InputSpec(Section):
    """What a model's input is. Part of its config and checkpoint; every evaluation applies it from there."""

    fs: float = Field(FS, gt=0, le=10_000, description="sampling rate, Hz")
    leads: tuple[str, ...] = Field(
        LEADS, description="names in order, or a group: all, limb, precordial, independent; none with features only"
    )
    features: tuple[str, ...] = Field(
        (), description="rows of measurements below the leads, names of shared.features.FEATURES, or all"
    )
    num_samples: int = Field(2250, ge=1, description="window length, samples")
    highpass: float | None = Field(None, gt=0, description="Hz; zero-phase Butterworth of order 5, before the low-pass")
    lowpass: float | None = Field(None, gt=0, description="Hz; zero-phase Butterworth of order 5")
    standardize: Literal["none", "record", "lead"] = Field(
        "none", description="mean 0, sd 1 over leads and time together (record) or over time per lead (lead)"
    )

    @field_validator("leads", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        return parse_leads(value) if isinstance(value, str | list | tuple) and value else value

    @field_validator("features", mode="before")
    @classmethod
    def _features(cls, value: object) -> object:
        return parse_features(value) if isinstance(value, str | list | tuple) else value

    @model_validator(mode="after")
    def _band(self) -> InputSpec:
        if not self.features:
            parse_leads(self.leads)  # no lead and no feature is no input
        for name, edge in (("highpass", self.highpass), ("lowpass", self.lowpass)):
            if edge is not None and edge >= self.fs / 2:
                raise ValueError(f"{name} {edge:g} Hz is not below half the sampling rate ({self.fs / 2:g} Hz)")
        if self.highpass is not None and self.lowpass is not None and self.highpass >= self.lowpass:
            raise ValueError(f"highpass {self.highpass:g} Hz is not below lowpass {self.lowpass:g} Hz")
        return self

    def with_leads(self, leads: Sequence[str] | None) -> InputSpec:
        """The same input of these leads alone; None takes all."""
        return self if leads is None else self.model_copy(update={"leads": tuple(leads)})


class DataConfig(Section):
    """Which records of which store a training reads."""

    store: RepoPath = Field(description="a folder that `python -m shared.data.prepare` wrote")
    folds: tuple[int, ...] | None = Field(
        (1, 2, 3, 4, 5, 6, 7, 8), description="training folds; null takes every record"
    )
    val_folds: tuple[int, ...] | None = Field(
        (9,), description="records for the validation loss and the pictures; null: none"
    )
