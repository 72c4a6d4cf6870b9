"""Config of fine-tuning; each method package adds its `model` section."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from shared.config import Section
from shared.data.augment import OPERATIONS
from shared.data.spec import DataConfig
from shared.evaluation.config import EncoderConfig, EvaluateConfig
from shared.evaluation.following import under_preset
from shared.finetune.classifier import Pool
from shared.optim import OptimConfig
from shared.run import RunConfig

Mode = Literal["finetune", "linear_probe", "scratch"]


class AugmentConfig(Section):
    """RandAugment on the training batches. Amplitudes are in units of the input: standard deviations, or mV."""

    num_operations: int = Field(2, ge=0, description="drawn per record, each applied with probability 0.5; 0: none")
    level: float = Field(10.0, ge=0, le=10, description="strength; 10 is the strongest")
    operations: tuple[str, ...] = Field(tuple(OPERATIONS), min_length=1, description="to draw from")

    @model_validator(mode="after")
    def _known(self) -> AugmentConfig:
        unknown = [name for name in self.operations if name not in OPERATIONS]
        if unknown:
            raise ValueError(f"unknown operation {', '.join(unknown)}; the operations are {', '.join(OPERATIONS)}")
        if self.num_operations > len(self.operations):
            raise ValueError(f"num_operations {self.num_operations} of only {len(self.operations)} operations")
        return self


class FinetuneOptim(OptimConfig):
    """`OptimConfig` with the published fine-tuning's defaults, and the learning rates of the layers."""

    epochs: int = Field(100, ge=1)
    batch_size: int = Field(64, ge=1)
    lr: float = Field(1e-3, gt=0)
    warmup_epochs: float = Field(5.0, ge=0)
    weight_decay: float = Field(0.05, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    clip_grad: float | None = Field(1.0, gt=0)
    layer_decay: float = Field(
        0.75, gt=0, le=1, description="a layer's learning rate over the next one's; 1 is the same for all"
    )


class FinetuneConfig(Section):
    """`python -m <method>.finetune`: train a classifier on an encoder, choose on validation, score the test fold once."""

    protocol: str | None = Field(
        None, description="a published protocol whose settings are taken, but for keys written out: a name in PRESETS"
    )
    run: RunConfig
    mode: Mode = Field("finetune", description="whole model, head only, or whole model from random weights")
    encoder: EncoderConfig = EncoderConfig()
    data: DataConfig
    test_folds: tuple[int, ...] = (10,)
    task: str = Field("ptbxl_superclass", description="a key of TASKS or a label column of the store")
    single_label: bool = Field(False, description="use only records with exactly one label; softmax and cross-entropy")
    keep_unlabelled: bool = Field(
        False, description="records without a label of the task take part, as negatives of every class"
    )
    fraction: float = Field(
        1.0, gt=0, le=1, description="share of the training patients whose labels are used, stratified"
    )
    optim: FinetuneOptim = FinetuneOptim()
    drop_path: float = Field(0.1, ge=0, lt=1, description="rate of the encoder's last block; rises linearly from 0")
    head_norm: Literal["none", "batch"] = Field(
        "none",
        description="batch: features are standardised over the batch before the head, for a head that learns fast",
    )
    augment: AugmentConfig = AugmentConfig()
    num_crops: int = Field(3, ge=1, description="evenly spaced windows per tested record")
    pool: Pool = Field(
        "mean_logits",
        description="of the windows' outputs; max: the largest probability of each class, for several labels",
    )
    keep: Literal["best", "last"] = Field(
        "best", description="the epoch that is tested: best on validation, or the last"
    )
    patience: int | None = Field(10, ge=1, description="epochs without a better validation AUROC; null: no early stop")
    control: bool = Field(True, description="train the same from random weights too, for the random row of the table")
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

    @model_validator(mode="before")
    @classmethod
    def _under_preset(cls, values: Any) -> Any:
        mode = values.get("mode", "finetune") if isinstance(values, Mapping) else ""
        return under_preset(values, str(mode), cls)

    @field_validator("data")
    @classmethod
    def _folds(cls, value: DataConfig) -> DataConfig:
        if value.folds is None or value.val_folds is None:
            raise ValueError("folds and val_folds must be named: validation chooses the epoch")
        if isinstance(value.store, list):
            raise ValueError("fine-tuning reads one store, on which it is tested too; give the path of one")
        return value

    @model_validator(mode="after")
    def _micro(self) -> FinetuneConfig:
        if self.optim.micro_batch is not None:
            raise ValueError("optim.micro_batch is not read by fine-tuning; lower optim.batch_size instead")
        return self

    @model_validator(mode="after")
    def _testing(self) -> FinetuneConfig:
        if self.pool == "max" and self.single_label:
            raise ValueError("pool=max is for several labels a record; with single_label use mean_probabilities")
        if self.keep == "last" and self.patience is not None:
            raise ValueError("keep=last trains all epochs, patience would stop early; set patience=null")
        return self

    @property
    def fixed_epochs(self) -> str | None:
        """Why `optim.epochs` of a begun run may not change; None: it may."""
        return "its last checkpoint holds the weights of the epoch that validation chose, not those of the last one"

    def as_evaluation(self) -> EvaluateConfig:
        """The same task, splits and statistics as an evaluation's config."""
        return EvaluateConfig.model_validate(
            {
                "out": self.run.out / "evaluation",
                "encoder": self.encoder,
                "store": self.data.store,
                "task": self.task,
                "single_label": self.single_label,
                "keep_unlabelled": self.keep_unlabelled,
                "train_folds": self.data.folds or (),
                "val_folds": self.data.val_folds or (),
                "test_folds": self.test_folds,
                "protocols": ("finetune",),
                "label_fractions": (self.fraction,),
                "label_draws": 1,
                "num_crops": self.num_crops,
                "resamples": self.resamples,
                "min_positives": self.min_positives,
                "near_copies": self.near_copies,
                "leave_out_copies": self.leave_out_copies,
                "seed": self.run.seed,
                "device": self.run.device,
            }
        )
