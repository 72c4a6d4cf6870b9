"""Second stage: an ST-MEM encoder learns to predict the codes of masked patches from a frozen VQ-VAE.

As BEiT does for images (Bao et al. 2022, arXiv 2106.08254): what is predicted is a word of the tokenizer's vocabulary, not a
waveform. Mask, encoder and lead-wise decoder are ST-MEM's; only the decoder's last layer speaks codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from shared.errors import UserError
from shared.nn import Terms, init_xavier
from st_mem_modified.config import ModelConfig
from st_mem_modified.loading import load_vqvae
from st_mem_modified.model import LeadWiseDecoder, STMEMEncoder, visible_patches
from st_mem_modified.vqvae.model import VQVAE


class MaskedTokens(nn.Module):
    """Encoder, lead-wise decoder with a logit per code, and the frozen tokenizer, which travels in the checkpoint.

    Args:
        config: sizes and InputSpec of the encoder that learns.
        tokenizer: a trained VQ-VAE on the same input and patch grid.

    Raises:
        UserError: another input, another grid, or a tokenizer with one code per record.
    """

    def __init__(self, config: ModelConfig, tokenizer: VQVAE) -> None:
        super().__init__()
        check_grid(config, tokenizer)
        self.config = config
        self.encoder = STMEMEncoder(config)
        self.decoder = LeadWiseDecoder(config)
        self.levels, self.num_codes = tokenizer.quantizer.num_levels, tokenizer.quantizer.num_codes
        self.decoder.head = nn.Linear(config.decoder_dim, self.levels * self.num_codes).apply(init_xavier)
        self.tokenizer = tokenizer.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> MaskedTokens:
        """As usual, but the tokenizer stays as it is: in training mode its codebook would move."""
        super().train(mode)
        self.tokenizer.eval()
        return self

    def forward(self, ecg: Tensor, noise_or_mask: Tensor, leads: Sequence[str] | None = None) -> Terms:
        """Predict the codes of the masked patches.

        Args:
            ecg: `[B, L, T]`, preprocessed as the InputSpec says.
            noise_or_mask: `[B, L, N]`, see `visible_patches`.
            leads: names of the L rows; None means the model's own leads.

        Returns:
            Terms: `loss` (cross-entropy, nats), `pred [B, L, N, Q, C]` logits, `mask [B, L, N]` bool (True = masked),
            `accuracy` on masked patches.
        """
        codes = self.tokenizer.tokenize(ecg, leads)
        codes = codes if codes.ndim == 4 else codes[..., None]  # [B, L, N, Q]
        ids_keep, ids_restore, mask = visible_patches(noise_or_mask, self.config.mask_ratio)
        latent = self.encoder.norm(self.encoder(ecg, leads, ids_keep))
        logits = self.decoder(latent, ids_restore).float().unflatten(-1, (self.levels, self.num_codes))
        asked, truth = logits[mask].flatten(0, 1), codes[mask].flatten()
        accuracy = (asked.detach().argmax(-1) == truth).float().mean()
        return Terms(loss=F.cross_entropy(asked, truth), pred=logits, mask=mask, accuracy=accuracy)


def make_masked_tokens(config: ModelConfig, tokenizer: Path) -> MaskedTokens:
    """The model with the VQ-VAE of a run folder as its tokenizer.

    Raises:
        CheckpointError: no VQ-VAE there.
        UserError: one that does not fit.
    """
    return MaskedTokens(config, load_vqvae(tokenizer))


def check_grid(config: ModelConfig, tokenizer: VQVAE) -> None:
    """Refuse a tokenizer whose codes do not belong to this model's patches."""
    own = tokenizer.config
    if own.design != "tokens":
        raise UserError("the tokenizer gives one code per record (design: pooled); masked patches need design: tokens.")
    if own.model.patch_size != config.patch_size:
        raise UserError(
            f"the tokenizer's patches have {own.model.patch_size} samples, the model's {config.patch_size}."
        )
    if own.model.input != config.input:
        theirs, ours = own.model.input.model_dump(), config.input.model_dump()
        other = ", ".join(f"{k} {theirs[k]} and {ours[k]}" for k in theirs if theirs[k] != ours[k])
        raise UserError(
            f"the tokenizer and the model see different inputs: {other}. Give model.input as the tokenizer's."
        )
