"""Config of a study: rows, seeds, store, protocols, the baseline and the hypotheses, all said before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from shared.config import RepoPath, Section, load_config
from shared.errors import UserError, did_you_mean
from shared.evaluation.following import find_preset
from shared.evaluation.presets import EVALUATION

PROGRAM = "shared.evaluation.study"
Settings = dict[str, Any]
"""Dotted key of another program's config → value."""


class Space(Section):
    """The values that a search tries for one key."""

    low: float | None = Field(None, description="smallest value")
    high: float | None = Field(None, description="largest value")
    log: bool = Field(False, description="even on a log scale")
    whole: bool = Field(False, description="whole numbers")
    choices: tuple[Any, ...] | None = Field(None, min_length=1, description="in place of low and high: the values")

    @model_validator(mode="after")
    def _one_kind(self) -> Space:
        if (self.choices is None) == (self.low is None) or (self.low is None) != (self.high is None):
            raise ValueError("a space has either `low` and `high`, or `choices`")
        if self.choices is not None and (self.log or self.whole):
            raise ValueError("`log` and `whole` are for `low` and `high`, `choices` stand as they are")
        if self.low is not None and self.high is not None:
            if not self.low < self.high or (self.log and self.low <= 0):
                raise ValueError(
                    f"low {self.low:g} and high {self.high:g}; low must be smaller, and above 0 with `log`"
                )
            if self.whole and not (self.low.is_integer() and self.high.is_integer()):
                raise ValueError(f"low {self.low:g} and high {self.high:g} of whole numbers must be whole")
        return self

    @property
    def ends(self) -> list[Any]:
        """All choices, or the smallest and the largest value."""
        if self.choices is not None:
            return list(self.choices)
        ends = [end for end in (self.low, self.high) if end is not None]
        return [int(end) for end in ends] if self.whole else ends


class SearchPart(Section):
    """How the settings of rows with a `space` are searched for: on validation, before these rows are run with all seeds."""

    trials: int = Field(20, ge=1, description="of each row; one that fails counts")
    sampler: Literal["tpe", "random", "grid"] = Field(
        "tpe", description="what draws the trials; grid: every combination"
    )
    metric: str = Field("knn/auroc_macro", description="PROTOCOL/METRIC on validation, which ranks them")
    seed: int = Field(0, ge=0, description="of the sampler")


class Row(Section):
    """One line of the tables: something that is trained with each seed, or a part of another row's evaluation."""

    config: str | None = Field(None, description="YAML of the program that makes it: a training or an evaluation")
    set: Settings = Field({}, description="settings over the YAML's: `section.key: value`")
    space: dict[str, Space] = Field({}, description="`section.key` → the values that a search tries")
    after: str | None = Field(None, description="row whose run of the same seed it starts from")
    start: str = Field("encoder.weights", description="the key that takes the run of `after`")
    evaluation: Settings = Field({}, description="settings of its evaluation alone, e.g. `num_crops`")
    of: str | None = Field(None, description="in place of a config: the row in whose evaluation this one stands")
    part: str | None = Field(None, description="how that evaluation calls it, e.g. `histogram of codes`")

    @model_validator(mode="after")
    def _one_kind(self) -> Row:
        if (self.config is None) == (self.of is None) or (self.of is None) != (self.part is None):
            raise ValueError("a row has either `config` (and, if it follows another, `after`) or `of` and `part`")
        both = sorted(self.set.keys() & self.space.keys())
        if both:
            raise ValueError(f"{both[0]} stands in `set` and in `space`")
        if self.of is not None and (self.set or self.space or self.after or self.evaluation):
            raise ValueError("`of` names what another row's evaluation holds: there is nothing to set or to follow")
        return self


class Hypothesis(Section):
    """A claim about two rows."""

    row: str
    than: str | None = Field(None, description="the row it is compared with; null: the baseline")
    metric: str = Field("knn/auroc_macro", description="PROTOCOL/METRIC")
    direction: Literal["higher", "lower"] = Field("higher", description="what is claimed of `row`'s score")


class EvaluationPart(Section):
    """What the evaluations of all rows have in common."""

    protocol: str | None = Field(
        None, description="a published protocol whose settings are taken, but for keys written out: a name in PRESETS"
    )
    task: str = Field("ptbxl_superclass", description="a key of TASKS or a label column of the store")
    single_label: bool = Field(False, description="use only records with exactly one label")
    train_folds: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8)
    val_folds: tuple[int, ...] = (9,)
    test_folds: tuple[int, ...] = (10,)
    protocols: tuple[str, ...] = ("knn", "linear_probe", "clusters")
    min_positives: int = Field(5, ge=1, description="classes with fewer test positives are left out of averages")
    resamples: int = Field(1000, ge=1, description="draws of patients in each evaluation's own page")
    set: Settings = Field({}, description="further settings of the evaluations: `section.key: value`")

    @model_validator(mode="before")
    @classmethod
    def _under_preset(cls, values: Any) -> Any:
        """Of the preset, what fine-tunings take over too; the rest is the evaluations' own to take."""
        if not isinstance(values, Mapping) or values.get("protocol") is None:
            return values
        settings = find_preset(values["protocol"]).parts[EVALUATION].settings
        return {**{key: value for key, value in settings.items() if key in cls.model_fields}, **values}


class Size(Section):
    """What differs at one size; what is left out is the study's."""

    store: RepoPath | None = None
    prepare: str | None = None
    prepare_with: Settings = Field({})
    out: RepoPath | None = None
    seeds: tuple[int, ...] | None = None
    rows: dict[str, Settings] = Field({}, description="row → keys that differ; those of its `set` are added to it")
    train: Settings = Field({}, description="settings of all trainings that have these keys")
    evaluation: Settings = Field({})


class StudyConfig(Section):
    """`python -m shared.evaluation.study`: train rows with each seed, evaluate them alike, and conclude."""

    title: str = ""
    size: str = Field("demo", description="a key of `sizes`, where there are any")
    sizes: dict[str, Size] = Field({}, description="what differs at each size; `size` chooses")
    out: RepoPath | None = Field(None, description="folder of the runs and the page; null: runs/studies/NAME/SIZE")
    store: RepoPath | None = Field(None, description="the records of all rows")
    prepare: str | None = Field(None, description="YAML that prepares the store where it is not there yet")
    prepare_with: Settings = Field({}, description="settings over those of `prepare`")
    root: RepoPath | None = Field(None, description="the database's folder, for `prepare`")
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    rows: dict[str, Row] = Field(min_length=1)
    baseline: str = Field(description="the row that the others are compared with")
    hypotheses: tuple[Hypothesis, ...] = ()
    search: SearchPart | None = Field(None, description="null: no row is searched for")
    train: Settings = Field({}, description="settings of all trainings that have these keys")
    evaluation: EvaluationPart = EvaluationPart()
    draws: int = Field(2000, ge=20, description="of patients and seeds, for the study's intervals and p-values")
    seed: int = Field(0, ge=0, description="of these draws")
    device: str = "auto"

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
        if twice:
            raise ValueError(f"seed {twice[0]} stands twice; a training that is counted twice is no second one")
        if min(seeds, default=0) < 0:
            raise ValueError(f"seed {min(seeds)} is negative")
        return seeds

    @model_validator(mode="after")
    def _names_are_rows(self) -> StudyConfig:
        self._require_row(self.baseline, "baseline")
        for name, row in self.rows.items():
            for key, other in (("after", row.after), ("of", row.of)):
                if other is not None:
                    self._require_row(other, f"rows.{name}.{key}")
            self._require_chain(name)
            self._require_search(name, row)
            if row.after is not None and self.rows[row.after].of is not None:
                raise ValueError(
                    f"rows.{name} follows {row.after}, which is a part of an evaluation and has no run to start from"
                )
        for hypothesis in self.hypotheses:
            self._require_row(hypothesis.row, "hypotheses: row")
            self._require_row(hypothesis.than or self.baseline, "hypotheses: than")
            if hypothesis.row == (hypothesis.than or self.baseline):
                raise ValueError(f"hypotheses: {hypothesis.row} is compared with itself")
        for size, part in self.sizes.items():
            for name in part.rows:
                self._require_row(name, f"sizes.{size}.rows")
        return self

    @property
    def searched(self) -> list[str]:
        """Rows that are searched for."""
        return [name for name, row in self.rows.items() if row.space]

    def _require_search(self, name: str, row: Row) -> None:
        if row.space and self.search is None:
            raise ValueError(f"rows.{name} has a `space`, but there is no `search` that says how to look through it")
        if self.search is not None and not self.searched:
            raise ValueError("there is a `search`, but no row has a `space` to look through")
        ranges = [key for key, space in row.space.items() if space.choices is None]
        if self.search is not None and self.search.sampler == "grid" and ranges:
            raise ValueError(f"rows.{name}.space.{ranges[0]} has no `choices`, of which a grid is made")

    def _require_row(self, name: str, where: str) -> None:
        if name not in self.rows:
            raise ValueError(
                f"{where}: there is no row {name!r}{did_you_mean(name, self.rows)} Rows: {', '.join(self.rows)}"
            )

    def _require_chain(self, name: str) -> None:
        seen, at = [name], self.rows[name]
        while (other := at.after or at.of) is not None:
            if other in seen or other not in self.rows:
                raise ValueError(f"rows.{name} follows itself: {' → '.join([*seen, other])}")
            seen.append(other)
            at = self.rows[other]


def read_study(path: str, overrides: Sequence[str] = ()) -> StudyConfig:
    """The study of a YAML at its size: the size's part over the study's, `key=value` over both.

    Raises:
        ConfigError: what the YAML or an override gets wrong.
        UserError: an unknown size, or no store.
    """
    config = load_config(StudyConfig, path, overrides, PROGRAM)
    if config.sizes:
        if config.size not in config.sizes:
            raise UserError(
                f"size={config.size}: unknown{did_you_mean(config.size, config.sizes)} {path} has "
                f"{', '.join(config.sizes)}."
            )
        part = config.sizes[config.size].model_dump(mode="json", exclude_unset=True)
        given = [f"{key}={json.dumps(value)}" for key, value in part.items() if value is not None]
        # Row names may hold dots, so that rows are given as one value.
        config = load_config(StudyConfig, path, [*given, *overrides], PROGRAM)
    if config.store is None:
        raise UserError(f"{path}: no store is given. Add `store: data/…` (or store=… on the command line).")
    return config
