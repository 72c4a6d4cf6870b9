"""What both methods share. `from shared import embed, load_encoder`: from an array to embeddings in three lines."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shared.encoders import embed as embed
    from shared.encoders import load_encoder as load_encoder

__all__ = ["embed", "load_encoder"]


def __getattr__(name: str) -> Any:
    """The names above, imported when they are asked for: no training loads what embeds."""
    if name in __all__:
        return getattr(importlib.import_module("shared.encoders"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
