"""A VQ-VAE over ST-MEM's tokens."""

from st_mem_modified.vqvae.model import VQVAE

__all__ = ["VQVAE"]
