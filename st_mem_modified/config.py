"""Configs of ST-MEM. Defaults are the paper's (arXiv 2402.09450)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from shared.config import RepoPath, Section
from shared.data.spec import DataConfig, InputSpec
from shared.monitors import MonitorConfig
from shared.optim import OptimConfig
from shared.run import RunConfig


class Input(InputSpec):
    """The method's input: 9 s, 0.67-40 Hz, standardised over leads and time together."""

    seconds: float = Field(9.0, gt=0, description="window length, s")
    highpass: float | None = Field(0.67, gt=0, description="Hz; zero-phase Butterworth of order 5, before the low-pass")
    lowpass: float | None = Field(40.0, gt=0, description="Hz; zero-phase Butterworth of order 5")
    standardize: Literal["none", "record", "lead"] = Field(
        "record", description="mean 0, sd 1 over leads and time together (record) or over time per lead (lead)"
    )


SIZES: dict[str, dict[str, int]] = {
    "tiny": {
        "embed_dim": 64, "depth": 3, "num_heads": 2, "head_dim": 32,
        "decoder_dim": 64, "decoder_depth": 1, "decoder_heads": 2,
    },
    "small": {"embed_dim": 384, "depth": 12, "num_heads": 6},
    "base": {"embed_dim": 768, "depth": 12, "num_heads": 12},
}  # fmt: skip


class ModelConfig(Section):
    """Architecture. `size` sets what is not given; the sizes are `tiny` (for the demo), `small` and `base`."""

    size: Literal["tiny", "small", "base"] = "base"
    input: Input = Field(default_factory=Input, description="the preprocessing contract")
    patch_size: int = Field(75, ge=1, description="samples")
    embed_dim: int = Field(768, ge=2)
    depth: int = Field(12, ge=1)
    num_heads: int = Field(12, ge=1)
    head_dim: int = Field(64, ge=1)
    mlp_ratio: float = Field(4.0, gt=0)
    drop_path: float = Field(0.0, ge=0, lt=1)
    mask_ratio: float = Field(0.75, gt=0, lt=1)
    norm_pix_loss: bool = Field(True, description="targets standardised per patch")
    recompute: bool = Field(
        False, description="activations of a block anew for its gradient: less memory, a third more time"
    )
    decoder_dim: int = Field(256, ge=2)
    decoder_depth: int = Field(4, ge=1)
    decoder_heads: int = Field(4, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any) -> Any:
        """What `size` says, below what is written out."""
        if not isinstance(values, Mapping):
            return values
        return {**SIZES.get(str(values.get("size", "base")), {}), **values}

    @model_validator(mode="after")
    def _whole_patches(self) -> ModelConfig:
        if self.input.features:
            raise ValueError("input.features: ST-MEM takes signals only; features enter ecg_jepa_modified")
        if self.input.num_samples % self.patch_size:
            raise ValueError(
                f"input.seconds {self.input.seconds:g} at {self.input.fs:g} Hz are {self.input.num_samples} samples, no "
                f"multiple of patch_size {self.patch_size}"
            )
        if int(self.num_patches * (1 - self.mask_ratio)) < 1:
            raise ValueError(f"mask_ratio {self.mask_ratio} leaves none of {self.num_patches} patches per lead")
        return self

    @property
    def num_patches(self) -> int:
        """Patches per lead (N)."""
        return self.input.num_samples // self.patch_size


class Optim(OptimConfig):
    """The published recipe."""

    epochs: int = Field(800, ge=1)
    batch_size: int = Field(1024, ge=1)
    lr: float = Field(1.5e-4, gt=0)
    warmup_epochs: float = Field(40.0, ge=0)
    weight_decay: float = Field(0.01, ge=0, description="not on biases, norms and other 1-D parameters")
    betas: tuple[float, float] = (0.9, 0.95)


class PretrainConfig(Section):
    """`python -m st_mem_modified.pretrain`."""

    run: RunConfig
    data: DataConfig
    model: ModelConfig = ModelConfig()
    objective: Literal["reconstruct", "masked_tokens"] = Field(
        "reconstruct", description="what is said of masked patches: their samples, or their codes (needs `tokenizer`)"
    )
    tokenizer: RepoPath | None = Field(None, description="run folder of a trained VQ-VAE, for objective=masked_tokens")
    start_from: RepoPath | None = Field(
        None, description="run folder or weights of the same model that training starts from; null: random weights"
    )
    optim: Optim = Optim()
    monitor: MonitorConfig | None = Field(None, description="watch the embeddings for collapse; null: no")
    log_every: int = Field(10, ge=1, description="steps between log lines")
    figure_every: int = Field(20, ge=1, description="epochs between reconstruction figures")

    @model_validator(mode="after")
    def _tokenizer(self) -> PretrainConfig:
        if (self.tokenizer is not None) != (self.objective == "masked_tokens"):
            raise ValueError("objective=masked_tokens and tokenizer=RUN belong together: give both or neither")
        return self

    @property
    def fixed_epochs(self) -> str | None:
        """Why `optim.epochs` of a begun run may not change; None: it may."""
        return self.optim.fixed_epochs
