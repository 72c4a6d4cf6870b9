"""Config of an evaluation, alone or at the end of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from shared.config import RepoPath, Section

Positive = Annotated[float, Field(gt=0)]


Share = Annotated[float, Field(gt=0, le=1)]


class KNNConfig(Section):
    """k nearest neighbours."""

    k: int = Field(20, ge=1)
    temperature: float = Field(0.07, gt=0, description="of the cosine votes")


class ProbeConfig(Section):
    """Linear probes (classes by logistic regression, numbers by ridge) and the attentive probe."""

    l2: tuple[Positive, ...] = Field(
        (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0),
        min_length=1,
        description="strengths tried: mean loss + l2/2 |w|^2 on standardised features; validation chooses",
    )
    attentive_epochs: int = Field(30, ge=1, description="at most; stops 5 epochs after the best on validation")
    attentive_lr: float = Field(1e-3, gt=0)


class SurvivalConfig(Section):
    """Cox proportional hazards on embeddings."""

    time: str = Field("time_to_event", description="column of the store: time to the event or to the end of watching")
    event: str = Field("event", description="column of the store: 1 where the event was seen, 0 where not")
    components: int = Field(32, ge=1, description="principal components of the training embeddings")
    penalizers: tuple[Positive, ...] = Field(
        (0.001, 0.01, 0.1, 1.0), min_length=1, description="ridge strengths tried; validation chooses"
    )


class EncoderConfig(Section):
    """What is evaluated."""

    weights: RepoPath | None = Field(None, description="run folder, model.safetensors, or a released .pth")
    module: str | None = Field(
        None, description="in place of weights: `module:object`, an outside encoder, or what makes one when called"
    )
    leads: tuple[str, ...] | None = Field(None, description="a subset of the encoder's leads; null takes them all")


class EvaluateConfig(Section):
    """`python -m <method>.evaluate`: an encoder on a task of a store. Choices on validation, test once."""

    out: RepoPath | None = Field(None, description="folder of results; null: `evaluation/` in the encoder's run folder")
    encoder: EncoderConfig = EncoderConfig()
    store: RepoPath
    task: str = Field("ptbxl_superclass", description="a key of TASKS or a label column of the store")
    single_label: bool = Field(False, description="use only records with exactly one label")
    train_folds: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8)
    val_folds: tuple[int, ...] = (9,)
    test_folds: tuple[int, ...] = (10,)
    protocols: tuple[str, ...] = ("knn", "knn_cosine", "clusters")
    knn: KNNConfig = KNNConfig()
    probe: ProbeConfig = ProbeConfig()
    label_fractions: tuple[Share, ...] = Field(
        (0.01, 0.05, 0.1, 1.0), min_length=1, description="shares of the training patients"
    )
    label_draws: int = Field(3, ge=1, description="draws of patients per share below 1")
    lead_subsets: tuple[str, ...] = Field(
        ("all", "limb", "I+II+V2", "II+V1", "II", "I"), min_length=1, description="leads joined by +, or groups"
    )
    regression: tuple[str, ...] = Field(
        ("true_heart_rate", "true_pr_ms", "true_qrs_ms", "true_qt_ms", "age", "sex"),
        min_length=1,
        description="number columns of the store; one of only 0 and 1 is scored as a class",
    )
    impostor_pairs: int = Field(20_000, ge=1, description="pairs of two patients drawn for the biometrics")
    survival: SurvivalConfig = SurvivalConfig()
    num_crops: int = Field(1, ge=1, description="evenly spaced windows per record, embeddings averaged")
    resamples: int = Field(1000, ge=1, description="patient-level bootstrap draws")
    min_positives: int = Field(
        5, ge=1, description="classes with fewer test positives are listed and left out of averages"
    )
    seed: int = Field(0, ge=0)
    batch_size: int = Field(64, ge=1)
    device: str = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"


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
            if name in ("task", "single_label")
        }
        for section, names in (
            ("data", {"store": "store", "folds": "train_folds", "val_folds": "val_folds"}),
            ("run", {"seed": "seed", "device": "device"}),
        ):
            part = values.get(section)
            if isinstance(part, Mapping):
                given |= {own: part[name] for name, own in names.items() if part.get(name) is not None}
        return {**values, "evaluate": {**given, **values["evaluate"]}}
