"""What makes an encoder from elsewhere one of this project's, and what is said where it cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from shared.data.spec import InputSpec
from shared.data.store import ECGStore
from shared.embeddings import embed_cached
from shared.errors import UserError
from shared.outside import OutsideEncoder, as_encoder


class Sums:
    """Two numbers of a record; no module, no weights."""

    factor = 1.0

    def __init__(self, **attributes: Any) -> None:
        self.input_spec: Any = {"fs": 250, "seconds": 2, "leads": ["V2", "I"]}
        self.__dict__.update(attributes)

    def embed(self, ecg: torch.Tensor) -> torch.Tensor:
        return self.factor * ecg.mean(-1)


class Whole(nn.Module):
    embed_dim = 2
    input_spec = InputSpec(leads=("I", "II"))

    def embed(self, ecg: torch.Tensor, leads: Any = None) -> torch.Tensor:
        return ecg.mean(-1)


def test_the_face_is_put_around_what_lacks_it() -> None:
    assert isinstance(as_encoder(Whole()), Whole)
    found = as_encoder(Sums())
    assert isinstance(found, OutsideEncoder) and found.embed_dim == 2
    assert found.input_spec == InputSpec(seconds=2, leads=("V2", "I"))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"input_spec": {"fs": 250, "second": 2}}, r"unknown key 'second'; did you mean 'seconds'\? \(input_spec of x\)"),
        ({"input_spec": {"fs": -1}}, "input_spec of x is wrong:\n  fs: .*greater than 0"),
        ({"input_spec": {"leads": ["V7"]}}, "unknown lead 'V7'"),
        ({"input_spec": None}, "x has no input_spec"),
        ({"embed_dim": 3}, "says embed_dim 3 and embeds to 2 numbers"),
        ({"embed": lambda ecg: ecg}, r"x makes \[1, 2, 500\] of \[1, 2, 500\]; expected finite numbers \[1, D\]"),
        ({"embed": lambda ecg: ecg.mean(-1) / 0}, "expected finite numbers"),
        ({"embed": lambda ecg: ecg @ torch.ones(9)}, r"cannot embed \[1, 2, 500\], which its input_spec says it takes"),
        ({"embed": 3}, "is a Sums without embed"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_before_anything_is_embedded(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        OutsideEncoder(Sums(**attributes), "x")


def test_other_code_is_embedded_anew(synthetic_store: Path, tmp_path: Path) -> None:
    """Embeddings are kept under what an encoder does; its name and weights are the same here."""
    store, some = ECGStore(synthetic_store), np.arange(3)
    first = embed_cached(tmp_path, OutsideEncoder(Sums(), "x"), store, some)
    np.testing.assert_array_equal(embed_cached(tmp_path, OutsideEncoder(Sums(), "x"), store, some), first)
    assert len(list(tmp_path.iterdir())) == 1
    other = embed_cached(tmp_path, OutsideEncoder(Sums(factor=2.0), "x"), store, some)
    np.testing.assert_allclose(other, 2 * first, rtol=1e-6)
