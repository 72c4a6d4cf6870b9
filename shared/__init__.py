"""What both methods share. `from shared import embed, load_encoder`: from an array to embeddings in three lines."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shared.apply import embed as embed
    from shared.apply import load_encoder as load_encoder

__all__ = ["embed", "load_encoder"]


def __getattr__(name: str) -> Any:
    """The names above, imported when they are asked for: no training loads what applies."""
    if name in __all__:
        return getattr(importlib.import_module("shared.apply"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
