"""Config sections of ECG-JEPA: the model and its masks. Defaults are the paper's values (arXiv 2410.08559)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from shared.config import RepoPath, Section
from shared.data.spec import DataConfig, InputSpec
from shared.leads import INDEPENDENT_LEADS
from shared.monitors import MonitorConfig
from shared.optim import OptimConfig
from shared.run import RunConfig


class Input(InputSpec):
    """The method's input: 10 s of the eight independent leads, in mV as recorded."""

    leads: tuple[str, ...] = Field(
        INDEPENDENT_LEADS,
        description="names in order, or a group: all, limb, precordial, independent; none with features only",
    )


SIZES: dict[str, dict[str, Any]] = {
    "base": {
        "embed_dim": 768, "depth": 12, "num_heads": 16,
        "predictor_dim": 384, "predictor_depth": 6, "predictor_heads": 12,
    },
    "small": {
        "embed_dim": 384, "depth": 12, "num_heads": 8,
        "predictor_dim": 192, "predictor_depth": 6, "predictor_heads": 6,
    },
    "tiny": {
        "embed_dim": 64, "depth": 3, "num_heads": 4,
        "predictor_dim": 48, "predictor_depth": 2, "predictor_heads": 4,
    },
}  # fmt: skip
"""Widths and depths by name: `base` is the paper's, `tiny` trains on two CPU cores."""


class HybridConfig(Section):
    """How the features of `input.features` enter. The defaults are the seed project's: further rows, like leads."""

    join: Literal["rows", "tokens", "add"] = Field(
        "rows",
        description="rows: each feature is a row of the grid; tokens: one further row, a token a time for all features; "
        "add: added to the leads' tokens of the time",
    )
    predict_features: bool = Field(
        True, description="features are masked and predicted as the leads are; false: always visible, never predicted"
    )
    in_columns: bool = Field(True, description="features and leads of a time see each other; false: each for itself")

    @model_validator(mode="after")
    def _possible(self) -> HybridConfig:
        if self.join == "add" and not (self.predict_features and self.in_columns):
            raise ValueError("join: add makes no rows of their own: predict_features and in_columns must stay true")
        if not self.predict_features and not self.in_columns:
            raise ValueError(
                "features that are neither predicted nor in the columns would have no part in the training"
            )
        return self


class ModelConfig(Section):
    """Architecture and objective. `size` fills the widths and depths that are not written out."""

    size: Literal["base", "small", "tiny"] = Field("base", description="base (the paper's), small, or tiny (CPU demo)")
    input: Input = Field(default_factory=Input, description="the preprocessing contract")
    hybrid: HybridConfig = HybridConfig()
    patch_size: int = Field(50, ge=1, description="samples per patch")
    embed_dim: int = Field(768, ge=4)
    depth: int = Field(12, ge=1)
    num_heads: int = Field(16, ge=1)
    mlp_ratio: float = Field(4.0, gt=0)
    drop_path: float = Field(0.1, ge=0, lt=1, description="rate of the last block; rises linearly from 0 at the first")
    pos_embed: Literal["sincos", "learnable"] = Field("sincos", description="fixed 2-D table, or one that is trained")
    predictor: Literal["per_lead"] = Field("per_lead", description="each lead is predicted from its own tokens")
    predictor_dim: int = Field(384, ge=4)
    predictor_depth: int = Field(6, ge=1)
    predictor_heads: int = Field(12, ge=1)
    loss: Literal["smooth_l1", "l1"] = Field("smooth_l1", description="smooth_l1 (released code) or l1 (the text)")
    target_norm: Literal["layer", "none"] = Field(
        "layer", description="parameter-free LayerNorm of the targets, or none"
    )
    recompute: bool = Field(
        False, description="activations of a block anew for its gradient: less memory, a third more time"
    )
    cropa: Literal["auto", "grid", "flex", "masked"] = Field(
        "auto",
        description="kernel of CroPA: auto is fused calls on a CPU and grid elsewhere (ecg_jepa_modified/cropa.py)",
    )
    ema_momentum: tuple[float, float] = Field((0.996, 1.0), description="of the teacher, first and last step; linear")

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any) -> Any:
        """What `size` says, below what is written out."""
        if not isinstance(values, Mapping):
            return values
        return {**SIZES.get(str(values.get("size", "base")), {}), **values}

    @field_validator("ema_momentum")
    @classmethod
    def _momentum(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] <= value[1] <= 1:
            raise ValueError(f"two momenta with 0 <= first <= last <= 1 are expected, not {value[0]:g}, {value[1]:g}")
        return value

    @model_validator(mode="after")
    def _divisible(self) -> ModelConfig:
        for dim, heads in (("embed_dim", "num_heads"), ("predictor_dim", "predictor_heads")):
            width, count = getattr(self, dim), getattr(self, heads)
            if width % count or width % 4:
                raise ValueError(
                    f"{dim} {width} must be a multiple of {heads} ({count}) and of 4 (the 2-D sin-cos table)"
                )
        if self.input.num_samples % self.patch_size:
            raise ValueError(
                f"input.seconds {self.input.seconds:g} at {self.input.fs:g} Hz are {self.input.num_samples} samples, no "
                f"multiple of patch_size {self.patch_size}"
            )
        if not self.input.features and self.hybrid != HybridConfig():
            raise ValueError("hybrid is set but input.features is empty: name features (or all), or leave hybrid out")
        if not self.input.leads and (self.hybrid.join == "add" or not self.hybrid.predict_features):
            raise ValueError(
                "without leads, features must be predicted rows: hybrid.join rows or tokens, predict_features"
            )
        return self

    @property
    def rows(self) -> tuple[str, ...]:
        """Names of the rows of the grid: the leads, then what the features add."""
        if not self.input.features or self.hybrid.join == "add":
            return self.input.leads
        return self.input.leads + (self.input.features if self.hybrid.join == "rows" else ("features",))

    @property
    def num_patches(self) -> int:
        """Patches per lead."""
        return self.input.num_samples // self.patch_size


class MaskConfig(Section):
    """How the masked times are drawn; the defaults are the released multi-block masks."""

    kind: Literal["multi_block", "random"] = "multi_block"
    num_blocks: int = Field(4, ge=1, description="multi_block: blocks whose union is masked")
    block_ratio: tuple[float, float] = Field(
        (0.175, 0.225), description="multi_block: range of a block's share of times"
    )
    random_ratio: tuple[float, float] = Field((0.6, 0.7), description="random: range of the masked share of times")
    groups: int = Field(1, ge=1, description="masks per batch; each serves an equal, contiguous part of its records")

    @field_validator("block_ratio", "random_ratio")
    @classmethod
    def _range(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] <= value[1] < 1:
            raise ValueError(f"a range with 0 < low <= high < 1 is expected, not {value[0]:g}, {value[1]:g}")
        return value


class Optim(OptimConfig):
    """The published recipe for multi-block masks; random masks take lr 2.5e-5 and batch 128."""

    epochs: int = Field(100, ge=1)
    batch_size: int = Field(64, ge=1)
    lr: float = Field(5e-5, gt=0)
    lr_reference_batch: int | None = Field(None, ge=1)
    min_lr: float = Field(1e-6, ge=0)
    warmup_epochs: float = Field(5.0, ge=0)
    weight_decay: float = Field(0.05, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)


class PretrainConfig(Section):
    """`python -m ecg_jepa_modified.pretrain`."""

    run: RunConfig
    data: DataConfig
    model: ModelConfig = Field(default_factory=ModelConfig)
    mask: MaskConfig = MaskConfig()
    start_from: RepoPath | None = Field(
        None, description="run folder or weights of the same model that training starts from; null: random weights"
    )
    optim: Optim = Optim()
    monitor: MonitorConfig = MonitorConfig()
    log_every: int = Field(10, ge=1, description="steps between log lines")

    @property
    def fixed_epochs(self) -> str | None:
        """Why `optim.epochs` of a begun run may not change; None: it may."""
        first, last = self.model.ema_momentum
        if first != last:
            return f"the teacher's momentum rises from {first:g} to {last:g} over optim.epochs (model.ema_momentum)"
        return self.optim.fixed_epochs
