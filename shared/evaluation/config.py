"""Config of an evaluation, alone or at the end of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import Field, create_model, model_validator

from shared.config import RepoPath, Section
from shared.evaluation.following import set_by_preset, under_preset
from shared.evaluation.presets import EVALUATION
from shared.evaluation.protocols import PROTOCOLS

S = TypeVar("S", bound=Section)


class EncoderConfig(Section):
    """What is evaluated."""

    weights: RepoPath | None = Field(None, description="run folder, model.safetensors, or a released .pth")
    module: str | None = Field(
        None, description="in place of weights: `module:object`, an outside encoder, or what makes one when called"
    )
    leads: tuple[str, ...] | None = Field(None, description="a subset of the encoder's leads; null takes them all")


class CommonSettings(Section):
    """What every evaluation has, whatever its protocols."""

    protocol: str | None = Field(
        None, description="a published protocol whose settings are taken, but for keys written out: a name in PRESETS"
    )
    out: RepoPath | None = Field(None, description="folder of results; null: `evaluation/` in the encoder's run folder")
    encoder: EncoderConfig = EncoderConfig()
    store: RepoPath
    task: str = Field("ptbxl_superclass", description="a key of TASKS or a label column of the store")
    single_label: bool = Field(False, description="use only records with exactly one label")
    keep_unlabelled: bool = Field(
        False, description="records without a label of the task take part, as negatives of every class"
    )
    train_folds: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8)
    val_folds: tuple[int, ...] = (9,)
    test_folds: tuple[int, ...] = (10,)
    protocols: tuple[str, ...] = ("knn", "knn_cosine", "clusters")
    num_crops: int = Field(1, ge=1, description="evenly spaced windows per record, embeddings averaged")
    resamples: int = Field(1000, ge=1, description="patient-level bootstrap draws")
    min_positives: int = Field(
        5, ge=1, description="classes with fewer test positives are listed and left out of all averages but one"
    )
    near_copies: bool = Field(
        True, description="look for copies of test records that are shifted, cut, resampled, rescaled or filtered, too"
    )
    leave_out_copies: bool = Field(
        False, description="take copies of test records out of training and validation (never out of the test records)"
    )
    seed: int = Field(0, ge=0)
    batch_size: int = Field(64, ge=1)
    device: str = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"

    @model_validator(mode="before")
    @classmethod
    def _under_preset(cls, values: Any) -> Any:
        return under_preset(values, EVALUATION, cls)

    def settings(self, kind: type[S]) -> S:
        """A protocol's settings, by their class: they stand in a section of their own or among the top-level keys."""
        if isinstance(self, kind):
            return self
        for _, value in self:
            if isinstance(value, kind):
                return value
        raise TypeError(f"no protocol of PROTOCOLS brings {kind.__name__}.")


def _section(name: str, *parts: type[Section], doc: str | None = None, **fields: Any) -> type[Section]:
    """One section that is each of `parts`, their keys in this order."""
    bases = tuple(reversed(parts))  # pydantic lists the last base's keys first
    return create_model(name, __base__=bases, __module__=__name__, __doc__=doc or parts[0].__doc__, **fields)


def _build() -> type[Section]:
    """`CommonSettings` with the settings of every protocol, each below its `section` or among the top-level keys."""
    below: dict[str | None, list[type[Section]]] = {}
    for protocol in PROTOCOLS.values():
        kinds = below.setdefault(protocol.section, [])
        if protocol.settings is not None and protocol.settings not in kinds:
            kinds.append(protocol.settings)
    top = below.pop(None, [])
    sections = {
        key: kinds[0] if len(kinds) == 1 else _section(f"{key.title()}Settings", *kinds)
        for key, kinds in below.items()
        if key is not None
    }
    doc = "`python -m <method>.evaluate`: an encoder on a task of a store. Choices on validation, test once."
    fields = {key: (kind, kind()) for key, kind in sections.items()}
    return _section("EvaluateConfig", CommonSettings, *top, doc=doc, **fields)


if TYPE_CHECKING:

    class EvaluateConfig(CommonSettings):
        """`python -m <method>.evaluate`: an encoder on a task of a store. Choices on validation, test once."""

else:
    EvaluateConfig = _build()


class EvaluatedConfig(Section):
    """A training that is evaluated at its end. What the `evaluate` section leaves out is taken from the training."""

    evaluate: EvaluateConfig | None = Field(None, description="keys left out are the training's; null: no evaluation")

    @model_validator(mode="before")
    @classmethod
    def _as_trained(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or not isinstance(values.get("evaluate"), Mapping):
            return values
        given: dict[str, Any] = {
            name: values.get(name, field.default)
            for name, field in cls.model_fields.items()
            if name in ("task", "single_label", "keep_unlabelled")
        }
        for section, names in (
            ("data", {"store": "store", "folds": "train_folds", "val_folds": "val_folds"}),
            ("run", {"seed": "seed", "device": "device"}),
        ):
            part = values.get(section)
            if isinstance(part, Mapping):
                given |= {own: part[name] for name, own in names.items() if part.get(name) is not None}
        own = set_by_preset(values["evaluate"].get("protocol"))
        given = {key: value for key, value in given.items() if key not in own}
        return {**values, "evaluate": {**given, **values["evaluate"]}}
