"""Every quantiser behind the one interface: round trip, gradients, range checks, k-means start; health of a codebook."""

from __future__ import annotations

import math

import pytest
import torch

from shared.config import ConfigError, load_config
from shared.errors import UserError
from st_mem_modified.codebook import (
    codebook_health,
    count_codes,
    describe_alarm,
    effective_rank,
    lead_correlation,
)
from st_mem_modified.config_vqvae import QUANTIZER_KEYS, QuantizerConfig
from st_mem_modified.quantizers import QUANTIZERS, make_quantizer

SMALL: dict[str, dict[str, object]] = {
    "vq": {"codebook_size": 16, "code_dim": 4},
    "residual_vq": {"codebook_size": 16, "code_dim": 4, "num_quantizers": 3},
    "simvq": {"codebook_size": 16, "code_dim": 4},
    "fsq": {"levels": (5, 3)},
    "lfq": {"codebook_size": 16},
}


def small(name: str, **more: object) -> QuantizerConfig:
    return QuantizerConfig.model_validate({"name": name, **SMALL[name], **more})


def tokens_for(config: QuantizerConfig, batch: int = 4, length: int = 30) -> torch.Tensor:
    return torch.randn(batch, length, config.width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", QUANTIZERS)
def test_codes_are_what_their_indices_say(name: str) -> None:
    config = small(name)
    torch.manual_seed(0)
    quantizer, tokens = make_quantizer(config), tokens_for(config).requires_grad_(True)
    first = quantizer(tokens)
    assert first.codes.shape == tokens.shape
    assert first.indices.shape == (4, 30, config.num_levels) and first.indices.dtype == torch.int64
    assert first.loss.ndim == 0 and torch.isfinite(first.loss)
    first.codes.square().sum().backward()
    assert tokens.grad is not None and tokens.grad.abs().sum() > 0
    quantizer.eval()
    out = quantizer(tokens)
    torch.testing.assert_close(quantizer.lookup(out.indices), out.codes, atol=1e-5, rtol=1e-4)
    assert int(out.indices.min()) >= 0 and int(out.indices.max()) < config.num_codes
    again = quantizer(tokens)
    assert torch.equal(out.indices, again.indices)


@pytest.mark.parametrize("name", QUANTIZERS)
def test_an_index_out_of_range_is_named(name: str) -> None:
    config = small(name)
    quantizer = make_quantizer(config)
    wrong = torch.full((1, 2, config.num_levels), config.num_codes)
    with pytest.raises(
        UserError, match=rf"code {config.num_codes} is not in the codebook.* 0 to {config.num_codes - 1}"
    ):
        quantizer.lookup(wrong)
    with pytest.raises(UserError, match="code -1 is not"):
        quantizer.lookup(-torch.ones_like(wrong))
    with pytest.raises(UserError, match="expects integers"):
        quantizer.lookup(wrong[..., :0])


def test_nearest_code_against_a_loop() -> None:
    config = small("vq", cosine=False)
    quantizer, tokens = make_quantizer(config), tokens_for(config)
    quantizer(tokens)
    quantizer.eval()
    book = quantizer.lookup(torch.arange(16)[None, :, None])[0]
    found = quantizer(tokens).indices[..., 0]
    for b in range(2):
        for s in range(30):
            distances = [float((tokens[b, s] - code).square().sum()) for code in book]
            assert distances[int(found[b, s])] == pytest.approx(min(distances), abs=1e-5)


def test_first_update_does_not_erase_the_codebook() -> None:
    """The seed project's averages started at zero, so one update shrank every code."""
    config = small("vq", cosine=False, revive_below=0.0)
    quantizer, tokens = make_quantizer(config), tokens_for(config) + 5
    for _ in range(3):
        quantizer(tokens)
    book = quantizer.lookup(torch.arange(16)[None, :, None])[0]
    assert book.norm(dim=-1).min() > 5


@pytest.mark.parametrize("name", ["vq", "residual_vq"])
def test_codebook_larger_than_the_first_batch_is_refused(name: str) -> None:
    config = small(name, codebook_size=128)
    quantizer = make_quantizer(config)
    with pytest.raises(UserError, match="codebook of 128 codes cannot start from the 120 tokens"):
        quantizer(tokens_for(config))
    with pytest.raises(UserError, match="has not started"):
        quantizer.eval()(tokens_for(config))
    make_quantizer(small(name, codebook_size=128, kmeans_init=False))(tokens_for(config))


def test_unread_keys_and_impossible_sizes_are_refused() -> None:
    for given, message in (
        ({"name": "vq", "levels": (4, 4)}, "levels is a key of fsq; vq reads none"),
        ({"name": "fsq", "codebook_size": 32}, "codebook_size is a key of vq, residual_vq, simvq, lfq"),
        ({"name": "lfq", "codebook_size": 100}, "not a power of 2, which lfq needs; 128 is near"),
        ({"name": "fsq", "levels": (2, 4)}, "fewer than 3 steps"),
    ):
        with pytest.raises(ValueError, match=message):
            QuantizerConfig.model_validate(given)
    with pytest.raises(ConfigError, match="did you mean 'codebook_size'"):
        load_config(QuantizerConfig, None, ["codebook_sise=3"])
    assert set(QUANTIZER_KEYS) == set(QUANTIZERS)
    assert {key for keys in QUANTIZER_KEYS.values() for key in keys} == set(QuantizerConfig.model_fields) - {"name"}


def test_health_at_its_ends() -> None:
    even = codebook_health(torch.full((1, 32), 7))
    assert even["perplexity"] == pytest.approx(32) and even["used_fraction"] == 1 and even["dead_codes"] == 0
    one = torch.zeros(2, 32, dtype=torch.int64)
    one[:, 3] = 100
    collapsed = codebook_health(one)
    assert collapsed["perplexity"] == pytest.approx(1) and collapsed["dead_codes"] == 31
    assert "3% of the codes" in describe_alarm(collapsed, 0.1)


def test_counts_against_a_loop() -> None:
    indices = torch.randint(0, 5, (3, 2, 4, 2), generator=torch.Generator().manual_seed(1))
    counts = count_codes(indices, 2, 5)
    for level in range(2):
        for code in range(5):
            assert counts[level, code] == sum(int(i == code) for i in indices[..., level].flatten())


def test_rank_and_correlation_at_their_ends() -> None:
    assert effective_rank(torch.eye(20)) == pytest.approx(19, abs=0.2)
    line = torch.randn(50, 1, generator=torch.Generator().manual_seed(0)) * torch.ones(1, 10)
    assert effective_rank(line) == pytest.approx(1, abs=1e-4)
    wave = torch.sin(torch.arange(100) / 5.0).expand(1, 2, -1)
    assert lead_correlation(3 * wave + 1, wave).flatten().tolist() == pytest.approx([1, 1])
    assert lead_correlation(-wave, wave)[0, 0] == pytest.approx(-1)
    assert float(lead_correlation(torch.zeros(1, 1, 9), torch.ones(1, 1, 9))) == 0
    assert math.isfinite(effective_rank(torch.zeros(4, 3)))
