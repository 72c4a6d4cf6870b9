"""Embedding a store: a plain loop, the cache and what its keys depend on, rows of one model in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shared.data.loader import eval_batches
from shared.data.spec import InputSpec
from shared.data.store import ECGStore
from shared.data.transforms import Preprocess
from shared.embeddings import OneKind, Options, embed_cached, embed_rows, embed_store, weights_digest
from tests.shared.evaluation.test_evaluate import Statistics

KINDS = {"mean": 12, "spread": 12, "both": 24}


class Several(nn.Module):
    """Three kinds of embedding; counts its passes."""

    def __init__(self) -> None:
        super().__init__()
        self.input_spec = InputSpec(num_samples=1000, standardize="none")
        self.scale = nn.Parameter(torch.ones(1))
        self.passes = 0

    def width_of(self, kind: str) -> int:
        return KINDS[kind]

    def embed_kinds(self, ecg: Tensor, leads: Sequence[str] | None, kinds: Sequence[str]) -> dict[str, Tensor]:
        self.passes += 1
        own = ecg.new_zeros(len(ecg), 12, ecg.shape[-1])
        own[:, [self.input_spec.leads.index(lead) for lead in leads or self.input_spec.leads]] = ecg
        mean, spread = own.mean(-1) * self.scale, own.std(-1) * self.scale
        found = {"mean": mean, "spread": spread, "both": torch.cat([mean, spread], dim=1)}
        return {kind: found[kind] for kind in kinds}


def test_embedding_equals_a_plain_loop(synthetic_store: Path) -> None:
    store, encoder = ECGStore(synthetic_store), Statistics()
    indices = np.array([5, 3, 199])
    got = embed_store(encoder, store, indices, num_crops=2, batch_size=2)
    for row, index in enumerate(indices):
        crops = next(iter(eval_batches(store, [index], encoder.input_spec, 1, 2)))[0]  # type: ignore[arg-type]
        want = encoder.embed(Preprocess(encoder.input_spec)(crops)).mean(0)
        np.testing.assert_allclose(got[row], want.detach().numpy(), rtol=1e-5, atol=1e-7)


def test_cache_follows_weights_records_and_options(synthetic_store: Path, tmp_path: Path) -> None:
    store, encoder = ECGStore(synthetic_store), Statistics()
    indices = np.arange(20)
    first = embed_cached(tmp_path, encoder, store, indices)
    calls = encoder.calls
    np.testing.assert_array_equal(embed_cached(tmp_path, encoder, store, indices), first)
    assert encoder.calls == calls
    embed_cached(tmp_path, encoder, store, indices[::-1].copy())
    embed_cached(tmp_path, encoder, store, indices, num_crops=2)
    with torch.no_grad():
        encoder.mix += 1
    embed_cached(tmp_path, encoder, store, indices)
    assert encoder.calls == calls + 3
    assert weights_digest(Statistics(0)) != weights_digest(Statistics(1))


@pytest.mark.parametrize("leads", [None, ("I", "V2")])
def test_rows_of_one_model_share_a_pass(leads: tuple[str, ...] | None, synthetic_store: Path, tmp_path: Path) -> None:
    store, indices, model = ECGStore(synthetic_store), np.arange(7), Several()
    rows: dict[str, nn.Module] = {f"row {kind}": OneKind(model, kind) for kind in KINDS}
    stranger = Statistics()
    expected = {
        name: embed_store(row, store, indices, leads=leads, num_crops=2, batch_size=4)  # type: ignore[arg-type]
        for name, row in rows.items()
    }
    assert model.passes == 6  # two batches for each row alone
    model.passes = 0
    for name, row in rows.items():
        others = {**rows, "stranger": stranger}
        del others[name]
        found = embed_cached(
            tmp_path, row, store, indices, leads=leads, num_crops=2, batch_size=4, name=name, others=others
        )
        np.testing.assert_array_equal(found, expected[name])
        assert found.shape == (7, KINDS[name.removeprefix("row ")])
    assert model.passes == 2 and stranger.calls == 0
    assert len(list(tmp_path.glob("*.npy"))) == 3


def test_kinds_of_one_name_are_kept_apart(synthetic_store: Path, tmp_path: Path) -> None:
    store, indices, model = ECGStore(synthetic_store), np.arange(3), Several()
    mean, spread = (embed_cached(tmp_path, OneKind(model, kind), store, indices) for kind in ("mean", "spread"))
    assert not np.array_equal(mean, spread)


def test_rows_of_two_models_do_not_share(synthetic_store: Path) -> None:
    store = ECGStore(synthetic_store)
    rows = {"a": OneKind(Several(), "mean"), "b": OneKind(Several(), "mean")}
    with pytest.raises(ValueError, match="a, b do not share a model"):
        embed_rows(rows, store, np.arange(3), Options())


def test_a_damaged_file_is_made_anew(synthetic_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    store, encoder, indices = ECGStore(synthetic_store), Statistics(), np.arange(5)
    whole = embed_cached(tmp_path, encoder, store, indices)
    (file,) = tmp_path.glob("*.npy")
    for damaged in (file.read_bytes()[:-7], file.read_bytes()[:9], b""):
        file.write_bytes(damaged)
        np.testing.assert_array_equal(embed_cached(tmp_path, encoder, store, indices), whole)
        assert "is damaged" in capsys.readouterr().out
    np.testing.assert_array_equal(np.load(file), whole)
