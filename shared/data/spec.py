"""InputSpec: the preprocessing contract between a model and its data. Free of torch, so that preparing stays light."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from shared.config import RepoPath, Section
from shared.leads import LEADS, parse_leads

FS = 250.0
"""Hz, of a store and of both published models."""
SECONDS = 10.0
"""Length of a record, and so of a store's segments."""


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
    """What a model's input is. Part of its config and checkpoint; every evaluation applies it from there.

    The window is given in seconds, so that another rate sees the same stretch of ECG; `num_samples` in its place, as older
    checkpoints have it, is understood.
    """

    also_read: ClassVar[Mapping[str, str]] = {"num_samples": "seconds"}

    fs: float = Field(FS, gt=0, le=10_000, description="sampling rate, Hz")
    leads: tuple[str, ...] = Field(
        LEADS, description="names in order, or a group: all, limb, precordial, independent; none with features only"
    )
    features: tuple[str, ...] = Field(
        (), description="rows of measurements below the leads, names of shared.features.FEATURES, or all"
    )
    seconds: float = Field(SECONDS, gt=0, description="window length, s")
    highpass: float | None = Field(None, gt=0, description="Hz; zero-phase Butterworth of order 5, before the low-pass")
    lowpass: float | None = Field(None, gt=0, description="Hz; zero-phase Butterworth of order 5")
    standardize: Literal["none", "record", "lead"] = Field(
        "none", description="mean 0, sd 1 over leads and time together (record) or over time per lead (lead)"
    )

    @property
    def num_samples(self) -> int:
        """Window length, samples."""
        return round(self.seconds * self.fs)

    def __eq__(self, other: object) -> bool:
        """Whether both ask for the same input, whichever method they belong to."""
        return isinstance(other, InputSpec) and self.model_dump() == other.model_dump()

    def __hash__(self) -> int:
        return hash(tuple(self.model_dump().values()))

    @model_validator(mode="before")
    @classmethod
    def _samples(cls, values: Any) -> Any:
        """Seconds for `num_samples`; the input of another method as values."""
        if isinstance(values, InputSpec):
            return values if isinstance(values, cls) else values.model_dump()
        if not isinstance(values, Mapping) or "num_samples" not in values:
            return values
        values = dict(values)
        count, fs = values.pop("num_samples"), values.get("fs", cls.model_fields["fs"].default)
        try:
            seconds = int(count) / float(fs)
        except (TypeError, ValueError, ZeroDivisionError):
            raise ValueError(f"num_samples {count!r} at fs {fs!r} is no number of samples; give seconds") from None
        if seconds * float(fs) < 1 or int(count) != float(count):
            raise ValueError(f"num_samples {count!r} is no number of samples; expected 1 or more, or give seconds")
        if "seconds" in values and values["seconds"] != seconds:
            raise ValueError(
                f"seconds {values['seconds']} and num_samples {count} at {fs:g} Hz disagree; give seconds alone"
            )
        return {**values, "seconds": seconds}

    @field_validator("leads", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        return parse_leads(value, others=True) if isinstance(value, str | list | tuple) and value else value

    @field_validator("features", mode="before")
    @classmethod
    def _features(cls, value: object) -> object:
        return parse_features(value) if isinstance(value, str | list | tuple) else value

    @model_validator(mode="after")
    def _band(self) -> InputSpec:
        if not self.features:
            parse_leads(self.leads, others=True)  # no lead and no feature is no input
        if self.num_samples < 1:
            raise ValueError(f"seconds {self.seconds:g} at {self.fs:g} Hz are less than a sample")
        for name, edge in (("highpass", self.highpass), ("lowpass", self.lowpass)):
            if edge is not None and edge >= self.fs / 2:
                raise ValueError(f"{name} {edge:g} Hz is not below half the sampling rate ({self.fs / 2:g} Hz)")
        if self.highpass is not None and self.lowpass is not None and self.highpass >= self.lowpass:
            raise ValueError(f"highpass {self.highpass:g} Hz is not below lowpass {self.lowpass:g} Hz")
        return self

    def with_leads(self, leads: Sequence[str] | None) -> InputSpec:
        """The same input of these leads alone; None takes all."""
        return self if leads is None else self.model_copy(update={"leads": tuple(leads)})


class StoreShare(Section):
    """One store of several, and how often its records are drawn."""

    path: RepoPath = Field(description="a folder that `python -m shared.data.prepare` wrote")
    weight: float = Field(1.0, gt=0, description="how often an epoch draws each of its records; 0.5: half of them")


class DataConfig(Section):
    """Which records of which stores a training reads."""

    store: RepoPath | list[StoreShare] = Field(
        description="a folder that `python -m shared.data.prepare` wrote, or a list of {path, weight}"
    )
    folds: tuple[int, ...] | None = Field(
        (1, 2, 3, 4, 5, 6, 7, 8), description="training folds; null takes every record"
    )
    val_folds: tuple[int, ...] | None = Field(
        (9,), description="records for the validation loss and the pictures; null: none"
    )
    shuffle: Literal["full", "shards"] = Field(
        "full",
        description="full: over all records; shards: files in random order, records within a few files at a time",
    )

    @field_validator("store", mode="before")
    @classmethod
    def _stores(cls, value: object) -> object:
        if not isinstance(value, list | tuple):
            return value
        from shared.data.mixed import read_shares  # where a list is given

        return read_shares(value)
