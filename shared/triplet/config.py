"""Config of metric learning on an encoder; each method package adds its `model` section."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from shared.config import RepoPath, Section
from shared.data.spec import DataConfig
from shared.evaluation.config import EvaluatedConfig
from shared.optim import OptimConfig
from shared.run import RunConfig
from shared.triplet.losses import AnyLoss, TripletLossConfig
from shared.triplet.model import HeadConfig


class TunedEncoder(Section):
    """The encoder and how much of it learns."""

    weights: RepoPath | None = Field(None, description="run folder, model.safetensors or released .pth of the method")
    train: Literal["none", "last_blocks", "all"] = Field("none", description="none: its features are computed once")
    last_blocks: int = Field(2, ge=1, description="how many, for train=last_blocks")
    lr_scale: float = Field(0.1, gt=0, description="the encoder's learning rate relative to the head's")


class TripletOptim(OptimConfig):
    """`OptimConfig` with this training's defaults."""

    epochs: int = Field(50, ge=1)
    batch_size: int = Field(128, ge=1)
    lr: float = Field(1e-3, gt=0)
    lr_reference_batch: int | None = Field(None, ge=1, description="the learning rate is taken as it is")
    warmup_epochs: float = Field(2.0, ge=0)
    weight_decay: float = Field(0.01, ge=0, description="not on biases, norms and other 1-D parameters")
    betas: tuple[float, float] = (0.9, 0.95)
    clip_grad: float | None = Field(1.0, gt=0)


class TripletConfig(EvaluatedConfig):
    """`python -m <method>.triplet`: tune a projection (and, if asked, the encoder) so that records of a class are near."""

    run: RunConfig
    data: DataConfig
    task: str = Field("ptbxl_superclass", description="a key of TASKS or a label column of the store")
    single_label: bool = Field(True, description="use only records with exactly one label")
    encoder: TunedEncoder = TunedEncoder()
    head: HeadConfig = HeadConfig()
    loss: AnyLoss = TripletLossConfig()
    per_class: int = Field(
        16, ge=0, description="records of a class in a batch, classes in turn; 0: shuffled as they come"
    )
    optim: TripletOptim = TripletOptim()
    choose_k: int = Field(20, ge=1, description="neighbours of the validation kNN that chooses the epoch")

    @model_validator(mode="after")
    def _check(self) -> TripletConfig:
        if self.encoder.train == "none" and self.head.embed == "before":
            raise ValueError("head.embed=before with encoder.train=none would evaluate the untuned encoder")
        if self.per_class == 1 or (self.per_class and self.optim.batch_size % self.per_class):
            raise ValueError(
                f"per_class {self.per_class} must be 2 or more and divide optim.batch_size {self.optim.batch_size}"
            )
        stores = self.data.store if isinstance(self.data.store, list) else []
        if self.data.shuffle != "full" or any(share.weight != 1 for share in stores):
            raise ValueError(
                "batches are drawn by class from all labelled records: leave out data.shuffle and the weights of data.store"
            )
        if self.optim.micro_batch is not None:
            raise ValueError("optim.micro_batch: triplets are formed within a whole batch; lower batch_size instead")
        return self

    @property
    def fixed_epochs(self) -> str | None:
        """Why `optim.epochs` of a begun run may not change; None: it may."""
        return "its last checkpoint holds the weights of the epoch that validation chose, not those of the last one"
