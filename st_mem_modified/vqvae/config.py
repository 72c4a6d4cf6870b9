"""Configs of the VQ-VAE over ST-MEM tokens."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from shared.config import RepoPath, Section
from shared.data.spec import DataConfig
from shared.evaluation.config import EvaluatedConfig
from shared.optim import OptimConfig
from shared.run import RunConfig
from st_mem_modified.config import ModelConfig
from st_mem_modified.vqvae.quantizers import AnyQuantizer, VQConfig


class VQModelConfig(ModelConfig):
    """Encoder and lead-wise decoder, as of ST-MEM; a VQ-VAE sees and reconstructs every patch."""

    norm_pix_loss: bool = Field(False, description="targets standardised per patch; `decode` then gives such patches")


class VQVAEConfig(Section):
    """The model: what a checkpoint needs to be rebuilt."""

    model: VQModelConfig = VQModelConfig()
    quantizer: AnyQuantizer = VQConfig()
    design: Literal["tokens", "pooled"] = Field(
        "tokens", description="codes per lead and patch, or one code per record as in the seed project"
    )
    patch_level: bool = Field(
        True, description="give the token its patch's mean and spread, which ST-MEM's patch embedding removes"
    )
    pooled_hidden: int = Field(1024, ge=1, description="hidden width of the pooled design's decoder")
    lead_balance: float = Field(
        1.0, ge=0, le=1, description="1: every lead of a record counts alike; 0: by its own energy"
    )
    spectral_weight: float = Field(0.0, ge=0, description="weight of the spectral distance beside the squared error")
    embed: Literal["quantized", "tokens", "encoder", "histogram", "tfidf"] = Field(
        "quantized", description="what `embed` returns"
    )

    @model_validator(mode="after")
    def _check(self) -> VQVAEConfig:
        if self.spectral_weight and self.model.norm_pix_loss:
            raise ValueError(
                "spectral_weight: patches standardised one by one (model.norm_pix_loss) have no common spectrum"
            )
        return self


class EncoderStart(Section):
    """Where the encoder comes from."""

    weights: RepoPath | None = Field(
        None,
        description="run folder, model.safetensors or released .pth; its encoder's sizes and input replace those of "
        "`model`. null: from scratch",
    )
    frozen: bool = Field(True, description="with `weights`: keep the encoder as it is")


class VQOptim(OptimConfig):
    """`OptimConfig` with this training's defaults."""

    epochs: int = Field(100, ge=1)
    batch_size: int = Field(128, ge=1)
    lr: float = Field(1e-3, gt=0)
    lr_reference_batch: int | None = Field(None, ge=1, description="the learning rate is taken as it is")
    warmup_epochs: float = Field(2.0, ge=0)
    weight_decay: float = Field(0.01, ge=0, description="not on biases, norms and other 1-D parameters")
    betas: tuple[float, float] = (0.9, 0.95)
    clip_grad: float | None = Field(1.0, gt=0)


class VQTrainConfig(VQVAEConfig, EvaluatedConfig):
    """`python -m st_mem_modified.vqvae.train`."""

    run: RunConfig
    data: DataConfig
    encoder: EncoderStart = EncoderStart()
    optim: VQOptim = VQOptim()
    log_every: int = Field(10, ge=1, description="steps between log lines")
    figure_every: int = Field(20, ge=1, description="epochs between figures")
    alarm_below: float = Field(
        0.1, ge=0, le=1, description="used fraction of the codebook that raises the alarm after warm-up"
    )

    @model_validator(mode="after")
    def _whole_batches(self) -> VQTrainConfig:
        if self.optim.micro_batch is not None:
            raise ValueError("optim.micro_batch: codes are averages over whole batches; lower batch_size instead")
        return self

    @property
    def fixed_epochs(self) -> str | None:
        """Why `optim.epochs` of a begun run may not change; None: it may."""
        return self.optim.fixed_epochs
