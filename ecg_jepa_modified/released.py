"""Released ECG-JEPA encoders, read into this project's."""

from __future__ import annotations

from pathlib import Path

from ecg_jepa_modified.config import Input, ModelConfig
from ecg_jepa_modified.encoder import ECGJEPAEncoder
from shared.checkpoints import CheckpointError, load_state, read_released

OFFICIAL_NAMES: tuple[tuple[str, str], ...] = (
    ("encoder_blocks.blocks.", "blocks."),
    ("predictor_blocks.blocks.", "blocks."),
    ("W_P.", "patch_embed."),
    ("predictor_", ""),
)
"""Released parameter names → ours, replaced in this order."""


def load_official(path: str | Path, num_heads: int = 16, pos_embed: str = "sincos") -> ECGJEPAEncoder:
    """Read a released ECG-JEPA encoder; sizes come from the tensors' shapes.

    Args:
        path: a file `{"encoder": state_dict, …}` or the state dict alone; nothing in it is executed.
        num_heads: attention heads, the one size that no shape tells (published: 16).
        pos_embed: how the position table is kept: `sincos` fixed, `learnable` as a parameter. The file's values are
            taken either way; a note is printed where a fixed one is not the sin-cos table.

    Returns:
        The encoder, in eval mode.

    Raises:
        CheckpointError: no such file, another model's checkpoint, or any tensor missing, left over or of another shape.
    """
    released = read_released(path)
    state = {official_name(key): tensor for key, tensor in released.items()}
    lacking = {"patch_embed.weight", "pos_embed", "blocks.0.mlp.fc1.weight"} - state.keys()
    if lacking:
        kind = "an ST-MEM checkpoint" if any("to_patch_embedding" in key for key in state) else "another model's"
        raise CheckpointError(
            f"{path} is no ECG-JEPA encoder but {kind}: W_P, pos_embed and encoder_blocks.* are needed, "
            f"it holds {', '.join([*released][:4])}, …."
        )
    dim, patch_size = state["patch_embed.weight"].shape
    spec = Input()
    rows, num_patches = len(spec.leads), spec.num_samples // patch_size
    table = state["pos_embed"]
    if table.numel() != rows * num_patches * dim:
        raise CheckpointError(
            f"{path} has a position table {list(table.shape)}; the plain model needs {rows} leads × {num_patches} "
            f"patches = {rows * num_patches} rows. A hybrid checkpoint needs the hybrid model."
        )
    state["pos_embed"] = table.reshape(rows, num_patches, dim)
    config = ModelConfig.model_validate({
        "embed_dim": dim, "num_heads": num_heads, "patch_size": patch_size, "pos_embed": pos_embed,
        "depth": 1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks.")),
        "mlp_ratio": len(state["blocks.0.mlp.fc1.weight"]) / dim,
    })  # fmt: skip
    model = ECGJEPAEncoder(config)
    away = (model.pos_embed - state["pos_embed"]).abs().max().item()
    load_state(model, state, path, verbose=True)
    if pos_embed == "sincos" and not away < 1e-5:
        print(f"{path}: its position table is {away:.2g} away from sin-cos and is used as it is")
    return model.eval()


def official_name(key: str) -> str:
    """Our name of a released parameter."""
    for theirs, ours in OFFICIAL_NAMES:
        key = key.replace(theirs, ours)
    return key
