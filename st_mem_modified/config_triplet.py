"""Configs of metric learning on an ST-MEM encoder: the seed project's triplet model, and better ones."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from shared.config import RepoPath, Section
from shared.data.spec import DataConfig
from shared.evaluation.config import EvaluatedConfig
from shared.optim import OptimConfig
from shared.run import RunConfig
from st_mem_modified.config import ModelConfig, refuse_unread

LOSS_KEYS = {
    "triplet": ("margin", "squared", "mean_over"),
    "multi_similarity": ("alpha", "beta", "base"),
    "supcon": ("temperature",),
}
"""Which keys each loss reads."""
LOSSES_OF_MINERS = {
    "all": ("triplet", "multi_similarity", "supcon"),
    "random": ("triplet",),
    "semihard": ("triplet",),
    "hard": ("triplet",),
    "batch_hard": ("triplet",),
    "multi_similarity": ("multi_similarity",),
}
"""Which losses a miner serves."""


class HeadConfig(Section):
    """The projection on the pooled embedding."""

    hidden: tuple[int, ...] = Field((256,), description="widths of hidden layers, ReLU between them")
    dim: int = Field(64, ge=1, description="width of the projection")
    normalize: bool = Field(True, description="projections of unit length")
    embed: Literal["after", "before"] = Field(
        "after", description="what is evaluated: the projection, or the embedding before the head"
    )


class LossConfig(Section):
    """What pulls records together, and on which triplets or pairs."""

    name: Literal["triplet", "multi_similarity", "supcon"] = "triplet"
    miner: Literal["all", "random", "semihard", "hard", "batch_hard", "multi_similarity"] = Field(
        "all", description="which triplets (or, for multi_similarity, pairs) of the batch count"
    )
    positives: Literal["same", "jaccard"] = Field(
        "same",
        description="same: one label per record; jaccard: records with several labels, graded by the overlap of label sets",
    )
    margin: float = Field(0.2, gt=0, description="of triplets; of unit-length projections, squared distances reach 4")
    squared: bool = Field(True, description="squared Euclidean distances")
    mean_over: Literal["active", "all"] = Field("active", description="triplets in the mean: with a loss, or all")
    alpha: float = Field(2.0, gt=0)
    beta: float = Field(50.0, gt=0)
    base: float = 0.5
    temperature: float = Field(0.1, gt=0)

    @model_validator(mode="after")
    def _check(self) -> LossConfig:
        refuse_unread(self, self.name, LOSS_KEYS)
        if self.name not in LOSSES_OF_MINERS[self.miner]:
            fitting = [miner for miner, losses in LOSSES_OF_MINERS.items() if self.name in losses]
            raise ValueError(f"miner {self.miner} is not for the loss {self.name}; expected {' or '.join(fitting)}")
        if self.positives == "jaccard" and self.miner in ("batch_hard", "multi_similarity"):
            raise ValueError(f"miner {self.miner} knows equal labels only; with positives=jaccard use all")
        return self


class TunedEncoder(Section):
    """The encoder and how much of it learns."""

    weights: RepoPath | None = Field(None, description="run folder, model.safetensors or released .pth of ST-MEM")
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
    clip_grad: float | None = Field(1.0, gt=0)


class TripletModelConfig(Section):
    """The model: what a checkpoint needs to be rebuilt."""

    model: ModelConfig | None = Field(None, description="read from encoder.weights; not to be given")
    head: HeadConfig = HeadConfig()


class TripletConfig(TripletModelConfig, EvaluatedConfig):
    """`python -m st_mem_modified.triplet`."""

    run: RunConfig
    data: DataConfig
    task: str = Field("ptbxl_superclass", description="a key of TASKS or a label column of the store")
    single_label: bool = Field(True, description="use only records with exactly one label")
    encoder: TunedEncoder = TunedEncoder()
    loss: LossConfig = LossConfig()
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
        if self.optim.micro_batch is not None:
            raise ValueError("optim.micro_batch: triplets are formed within a whole batch; lower batch_size instead")
        return self
