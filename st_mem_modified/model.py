"""ST-MEM: a masked autoencoder over lead × time patches (Na et al., ICLR 2024, arXiv 2402.09450).

Downwards as in the paper's figure 2: patchify, mask, encoder over all leads, decoder lead by lead, loss.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from shared.checkpoints import CheckpointError, load_state, read_released
from shared.data.spec import InputSpec
from shared.leads import LEADS, lead_indices, parse_leads, subset_leads
from shared.nn import Block, Terms, check_ecg, init_xavier, run_block, sincos_1d
from st_mem_modified.config import ModelConfig


def draw_noise(batch: int, num_leads: int, num_patches: int, generator: torch.Generator) -> Tensor:
    """Uniform noise `[B, L, N]` on the generator's device. Per lead of each record the patches with the smallest stay."""
    return torch.rand(batch, num_leads, num_patches, generator=generator, device=generator.device)


def visible_patches(noise_or_mask: Tensor, mask_ratio: float) -> tuple[Tensor, Tensor, Tensor]:
    """Which patches stay.

    Args:
        noise_or_mask: `[B, L, N]`; float noise, of which the int(N·(1−mask_ratio)) smallest stay, or a bool mask
            (True = masked) that leaves the same number in every lead.
        mask_ratio: used with noise only.

    Returns:
        `ids_keep [B, L, K]` (by rising noise, or in time order for a mask), `ids_restore [B, L, N]` with
        `cat(kept, removed)[ids_restore]` in time order, `mask [B, L, N]` bool, True = masked.

    Raises:
        ValueError: a mask that leaves a different number of patches in different leads, or none, or masks nothing.
    """
    num_patches = noise_or_mask.shape[-1]
    if noise_or_mask.dtype == torch.bool:
        kept = (~noise_or_mask).sum(-1)
        num_keep = int(kept.flatten()[0])
        if not bool((kept == num_keep).all()) or not 0 < num_keep < num_patches:
            raise ValueError(
                f"a mask must leave the same number of patches in every lead, at least 1 and fewer than {num_patches}; "
                f"this one leaves {int(kept.min())} to {int(kept.max())}."
            )
        order = torch.argsort(noise_or_mask.to(torch.uint8), dim=-1, stable=True)
    else:
        num_keep = int(num_patches * (1 - mask_ratio))
        order = torch.argsort(noise_or_mask, dim=-1)
    ids_restore = torch.argsort(order, dim=-1)
    return order[..., :num_keep], ids_restore, ids_restore >= num_keep


class STMEMEncoder(nn.Module):
    """Vision transformer over the patches of all leads in one sequence.

    Args:
        config: sizes and InputSpec; `config.input.leads` names the rows of the lead table.
    """

    pos_embed: Tensor

    def __init__(self, config: ModelConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or ModelConfig()
        self.input_spec: InputSpec = config.input
        self.embed_dim: int = config.embed_dim
        dim, patch = config.embed_dim, config.patch_size
        self.patch_embed = nn.Sequential(nn.LayerNorm(patch), nn.Linear(patch, dim), nn.LayerNorm(dim))
        self.register_buffer("pos_embed", position_table(config.num_patches, dim))
        self.sep_token = nn.Parameter(torch.empty(dim))
        self.lead_embed = nn.Parameter(torch.empty(len(config.input.leads), dim))
        drops = torch.linspace(0, config.drop_path, config.depth).tolist()
        self.blocks = nn.ModuleList(
            Block(dim, config.num_heads, head_dim=config.head_dim, mlp_ratio=config.mlp_ratio, drop_path=drop)
            for drop in drops
        )
        self.norm = nn.LayerNorm(dim)
        self.apply(init_xavier)
        nn.init.normal_(self.sep_token, std=0.02)
        nn.init.normal_(self.lead_embed, std=0.02)

    def forward(self, ecg: Tensor, leads: str | Sequence[str] | None = None, ids_keep: Tensor | None = None) -> Tensor:
        """Encode patches, all or some.

        Args:
            ecg: `[B, L, T]`, preprocessed as `input_spec` says; T a multiple of the patch size, at most num_samples.
            leads: names of the L rows, or a group; None means the model's own leads, all of them.
            ids_keep: `[B, L, K]` patches to encode; None takes all.

        Returns:
            `[B, L, K + 2, D]`: per lead SEP, patches, SEP, before the final norm.

        Raises:
            UserError: shape and leads disagree, T does not suit, or a lead that the model lacks.
        """
        lead_rows = self._lead_rows(ecg, leads)
        x = self.patch_embed(patchify(ecg, self.config.patch_size))  # [B, L, n, D]
        x = x + self.pos_embed[1 : x.shape[2] + 1]
        if ids_keep is not None:
            x = x.gather(2, ids_keep[..., None].expand(-1, -1, -1, x.shape[-1]))
        # After masking, so that both separators of every lead are always seen.
        # Slices, not lists of indices: a list is copied to the GPU, which stops for it.
        separators = self.sep_token + self.pos_embed[:: len(self.pos_embed) - 1]  # [2, D]
        first, last = repeat(separators, "s d -> s b l 1 d", b=x.shape[0], l=x.shape[1])
        lead_embed = self.lead_embed if leads is None else self.lead_embed[lead_rows]
        x = torch.cat([first, x, last], dim=2) + lead_embed[:, None]
        num_leads = x.shape[1]
        x = rearrange(x, "b l k d -> b (l k) d")
        for block in self.blocks:
            x = run_block(block, self.config.recompute, x)
        return rearrange(x, "b (l k) d -> b l k d", l=num_leads)

    def tokens(self, ecg: Tensor, leads: str | Sequence[str] | None = None) -> Tensor:
        """Patch tokens `[B, L, N, D]` after the final norm, separators dropped."""
        return self.norm(self(ecg, leads)[:, :, 1:-1])

    def embed(self, ecg: Tensor, leads: str | Sequence[str] | None = None) -> Tensor:
        """Representation `[B, D]`: mean over leads and patches, then the final norm.

        Args:
            ecg: `[B, L, T]`, preprocessed as `input_spec` says.
            leads: names of the L rows; None means the model's own leads.
        """
        return self.norm(self(ecg, leads)[:, :, 1:-1].mean(dim=(1, 2)))

    def _lead_rows(self, ecg: Tensor, leads: str | Sequence[str] | None) -> list[int]:
        own = self.input_spec.leads
        names = subset_leads(leads, own)
        advice = "For fewer leads name them: leads=('II',)."
        check_ecg(ecg, names, self.config.patch_size, self.input_spec.num_samples, advice)
        return lead_indices(names, own)


class STMEM(nn.Module):
    """The masked autoencoder: encoder, lead-wise decoder, loss."""

    compiles = True

    def __init__(self, config: ModelConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or ModelConfig()
        self.encoder = STMEMEncoder(config)
        self.decoder = LeadWiseDecoder(config)

    def forward(self, ecg: Tensor, noise_or_mask: Tensor, leads: str | Sequence[str] | None = None) -> Terms:
        """Reconstruct the masked patches.

        Args:
            ecg: `[B, L, T]`, preprocessed as the InputSpec says.
            noise_or_mask: `[B, L, N]`, see `visible_patches`.
            leads: names of the L rows; None means the model's own leads.

        Returns:
            Terms: `loss`, `pred [B, L, N, P]`, `mask [B, L, N]` bool (True = masked), `record_loss [B]` detached.
        """
        ids_keep, ids_restore, mask = visible_patches(noise_or_mask, self.config.mask_ratio)
        latent = self.encoder.norm(self.encoder(ecg, leads, ids_keep))  # [B, L, K + 2, D]
        pred = self.decoder(latent, ids_restore)
        error = patch_errors(pred, patchify(ecg, self.config.patch_size), self.config.norm_pix_loss) * mask
        of_records = error.detach().sum((1, 2)) / mask.sum((1, 2))
        return Terms(loss=error.sum() / mask.sum(), pred=pred, mask=mask, record_loss=of_records)


class LeadWiseDecoder(nn.Module):
    """Reconstructs each lead from its own tokens alone; all leads of all records are one batch."""

    pos_embed: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim, self.recompute = config.decoder_dim, config.recompute
        self.embed = nn.Linear(config.embed_dim, dim)
        self.mask_token = nn.Parameter(torch.empty(dim))
        self.register_buffer("pos_embed", position_table(config.num_patches, dim))
        self.blocks = nn.ModuleList(
            Block(dim, config.decoder_heads, head_dim=config.head_dim, mlp_ratio=config.mlp_ratio)
            for _ in range(config.decoder_depth)
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, config.patch_size)
        self.apply(init_xavier)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, latent: Tensor, ids_restore: Tensor) -> Tensor:
        """`latent [B, L, K + 2, D]` (SEP, kept patches, SEP), `ids_restore [B, L, N]` → patches `[B, L, N, P]`."""
        num_leads, num_patches = ids_restore.shape[1:]
        x = self.embed(latent)
        first, kept, last = x[:, :, :1], x[:, :, 1:-1], x[:, :, -1:]
        removed = self.mask_token.to(x.dtype).expand(*ids_restore.shape[:2], num_patches - kept.shape[2], -1)
        patches = torch.cat([kept, removed], dim=2)
        patches = patches.gather(2, ids_restore[..., None].expand(-1, -1, -1, x.shape[-1]))
        position = torch.cat([self.pos_embed[: num_patches + 1], self.pos_embed[-1:]])
        x = torch.cat([first, patches, last], dim=2) + position
        x = rearrange(x, "b l k d -> (b l) k d")
        for block in self.blocks:
            x = run_block(block, self.recompute, x)
        x = self.head(self.norm(x[:, 1:-1]))
        return rearrange(x, "(b l) n p -> b l n p", l=num_leads)


def patchify(ecg: Tensor, patch_size: int) -> Tensor:
    """`[B, L, T]` → `[B, L, N, P]`."""
    return rearrange(ecg, "b l (n p) -> b l n p", p=patch_size)


def position_table(num_patches: int, dim: int) -> Tensor:
    """`[N + 2, D]`: rows 1…N sin-cos, rows 0 and N + 1 (the separators) zero."""
    table = torch.zeros(num_patches + 2, dim)
    table[1:-1] = sincos_1d(torch.arange(num_patches), dim)
    return table


def standardize_patches(patches: Tensor) -> Tensor:
    """Each patch `[…, P]` with mean 0 and sd 1 (unbiased variance + 1e-6), the target of `norm_pix_loss`."""
    return (patches - patches.mean(-1, keepdim=True)) / (patches.var(-1, keepdim=True) + 1e-6).sqrt()


def masked_mse(pred: Tensor, target: Tensor, mask: Tensor, norm_pix: bool) -> Tensor:
    """Mean squared error per patch, averaged over the masked patches only (paper, section 3.2)."""
    return (patch_errors(pred, target, norm_pix) * mask).sum() / mask.sum()


def patch_errors(pred: Tensor, target: Tensor, norm_pix: bool) -> Tensor:
    """Mean squared error of each patch, `[B, L, N]`."""
    if norm_pix:
        target = standardize_patches(target)
    return (pred.float() - target).square().mean(-1)


# ---------------------------------------------------------------- released checkpoints

_RELEASED_NAMES = (
    (r"^to_decoder_embedding\.", "decoder.embed."),
    (r"^mask_embedding$", "decoder.mask_token"),
    (r"^decoder_pos_embed$", "decoder.pos_embed"),
    (r"^decoder_(blocks|norm|head)\.", r"decoder.\1."),
    (r"pos_embedding$", "pos_embed"),
    (r"sep_embedding$", "sep_token"),
    (r"to_patch_embedding\.1\.", "patch_embed.0."),
    (r"to_patch_embedding\.2\.", "patch_embed.1."),
    (r"to_patch_embedding\.3\.", "patch_embed.2."),
    (r"(^|\.)block(\d+)\.", r"\1blocks.\2."),
    (r"\.attn\.norm\.", ".norm1."),
    (r"\.attn\.fn\.to_qkv\.", ".attn.qkv."),
    (r"\.attn\.fn\.to_out\.0\.", ".attn.proj."),
    (r"\.ff\.norm\.", ".norm2."),
    (r"\.ff\.fn\.net\.0\.", ".mlp.fc1."),
    (r"\.ff\.fn\.net\.3\.", ".mlp.fc2."),
)


def load_official(
    path: str | Path, leads: str | Sequence[str] | None = None, *, head_dim: int = 64, norm_pix_loss: bool = True
) -> STMEM | STMEMEncoder:
    """Read a released checkpoint: the full masked autoencoder, or the encoder alone.

    Args:
        path: `.pth` with `{"model": state_dict}`, or a bare state dict.
        leads: names of the file's lead embeddings; None means the standard order of twelve.
        head_dim: size of an attention head; the file does not tell (64 in all released ones).
        norm_pix_loss: loss option of the full model; the file does not tell.

    Returns:
        `STMEM` for a full file, else `STMEMEncoder`, in evaluation mode. A classifier (`head.*`) is named and left out.

    Raises:
        CheckpointError: anything less than a complete match.
    """
    state = from_released(read_released(path))
    full = any(name.startswith("decoder.") for name in state)
    config = _config_of(state, "encoder." if full else "", leads, head_dim, norm_pix_loss, path)
    head = [name for name in state if name.startswith("head.")]
    if head:
        print(f"{path}: {', '.join(head)} belong to a classifier and are left out")
    model: STMEM | STMEMEncoder = STMEM(config) if full else STMEMEncoder(config)
    load_state(model, {k: v for k, v in state.items() if k not in head}, path, verbose=True)
    return model.eval()


def from_released(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Released names and shapes to this module's own. Unknown names pass through and are refused on loading."""
    own: dict[str, Tensor] = {}
    leads: dict[str, dict[int, Tensor]] = {}
    for name, value in state.items():
        # A full file holds the patch embedding twice, the same tensors; the encoder's copy is read.
        if name.startswith("to_patch_embedding.") and f"encoder.{name}" in state:
            continue
        lead = re.fullmatch(r"(.*)lead_embeddings\.(\d+)", name)
        if lead:
            leads.setdefault(f"{lead[1]}lead_embed", {})[int(lead[2])] = value
            continue
        for pattern, replacement in _RELEASED_NAMES:
            name = re.sub(pattern, replacement, name)
        own[name] = value.flatten() if name.endswith("mask_token") else value[0] if "pos_embed" in name else value
    for name, rows in leads.items():
        own[name] = torch.stack([rows[i] for i in sorted(rows)])
    return own


def _config_of(
    state: Mapping[str, Tensor],
    prefix: str,
    leads: Sequence[str] | None,
    head_dim: int,
    norm_pix: bool,
    path: str | Path,
) -> ModelConfig:
    """Sizes read off the shapes."""
    try:
        patch_size = state[f"{prefix}patch_embed.0.weight"].shape[0]
        num_leads, dim = state[f"{prefix}lead_embed"].shape
        num_patches = state[f"{prefix}pos_embed"].shape[0] - 2
        values: dict[str, object] = {
            "embed_dim": dim,
            "num_heads": state[f"{prefix}blocks.0.attn.qkv.weight"].shape[0] // (3 * head_dim),
            "mlp_ratio": state[f"{prefix}blocks.0.mlp.fc1.weight"].shape[0] / dim,
            "depth": len({k for k in state if re.fullmatch(prefix + r"blocks\.\d+\.norm1\.weight", k)}),
        }
        if prefix:
            decoder_dim = state["decoder.embed.weight"].shape[0]
            values |= {
                "decoder_dim": decoder_dim,
                "decoder_depth": len({k for k in state if re.fullmatch(r"decoder\.blocks\.\d+\.norm1\.weight", k)}),
                "decoder_heads": state["decoder.blocks.0.attn.qkv.weight"].shape[0] // (3 * head_dim),
            }
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path} is not an ST-MEM checkpoint: {error} was not found in it.") from None
    names = parse_leads(leads) if leads is not None else LEADS
    if len(names) != num_leads:
        raise CheckpointError(f"{path} has {num_leads} lead embeddings but {len(names)} leads are named; give `leads`.")
    spec = {"leads": names, "num_samples": num_patches * patch_size}
    return ModelConfig.model_validate(
        {**values, "patch_size": patch_size, "head_dim": head_dim, "norm_pix_loss": norm_pix, "input": spec}
    )
