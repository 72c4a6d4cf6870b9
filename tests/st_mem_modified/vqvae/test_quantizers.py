"""Every quantiser behind the one interface: round trip, gradients, range checks, k-means start; health of a codebook."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from vector_quantize_pytorch import LFQ

from shared.config import REPO_ROOT, ConfigError, load_config
from shared.errors import UserError
from st_mem_modified.vqvae.codebook import (
    CodeCensus,
    codebook_health,
    count_codes,
    describe_alarm,
    lead_correlation,
)
from st_mem_modified.vqvae.config import VQTrainConfig, VQVAEConfig
from st_mem_modified.vqvae.model import VQVAE
from st_mem_modified.vqvae.quantizers import (
    QUANTIZERS,
    SAVED_TOGETHER,
    FSQConfig,
    QuantizerConfig,
    ResidualVQConfig,
    VQConfig,
    make_quantizer,
)
from tests.ranks import run_two_ranks
from tests.st_mem_modified.vqvae.small import tiny

SMALL: dict[str, dict[str, object]] = {
    "vq": {"codebook_size": 16, "code_dim": 4},
    "residual_vq": {"codebook_size": 16, "code_dim": 4, "num_quantizers": 3},
    "simvq": {"codebook_size": 16, "code_dim": 4},
    "fsq": {"levels": (5, 3)},
    "lfq": {"codebook_size": 16},
}


def small(name: str, **more: object) -> QuantizerConfig:
    return QUANTIZERS[name][0].model_validate({**SMALL[name], **more})


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


def test_lookup_free_losses_are_the_librarys_on_one_rank() -> None:
    config = small("lfq", entropy_weight=0.3, commitment=0.5)
    tokens = tokens_for(config).mul(0.02).requires_grad_(True)
    loss = make_quantizer(config)(tokens).loss
    (own,) = torch.autograd.grad(loss, tokens)
    library = LFQ(codebook_size=16, dim=4, entropy_loss_weight=0.3, commitment_loss_weight=0.5)
    _, _, expected = library(tokens)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(own, torch.autograd.grad(expected, tokens)[0])


# ---------------------------------------------------------------- configs


def quantizer_of(*given: str, path: str | Path | None = None) -> QuantizerConfig:
    return load_config(VQVAEConfig, path, given).quantizer


def test_the_name_chooses_the_config_and_vq_is_the_default() -> None:
    assert quantizer_of("quantizer.name=fsq", "quantizer.levels=[8,5,5]") == FSQConfig(levels=(8, 5, 5))
    assert quantizer_of("quantizer.codebook_size=64") == VQConfig(codebook_size=64)
    assert quantizer_of() == VQConfig()
    for name, (config, _) in QUANTIZERS.items():
        assert config.model_fields["name"].default == name
        assert VQVAEConfig.model_validate({"quantizer": {"name": name}}).quantizer == config.model_validate({})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ["quantizer.levels=4,4"],
            "quantizer.levels is a key of fsq; quantizer.name is vq, whose keys are codebook_size, ",
        ),
        (["quantizer.levels=8,8,5,3"], "quantizer.levels is a key of fsq"),  # its default, yet not what was meant
        (
            ["quantizer.name=fsq", "quantizer.codebook_size=32"],
            "codebook_size is a key of vq, residual_vq, simvq, lfq; quantizer.name is fsq, whose keys are levels",
        ),
        (["quantizer.name=lfq", "quantizer.codebook_size=100"], "not a power of 2, which lfq needs; 128 is near"),
        (["quantizer.name=fsq", "quantizer.levels=2,4"], "fewer than 3 steps"),
        (["quantizer.name=fqs"], "quantizer.name: 'fqs' is none of vq, .*; did you mean 'fsq'"),
        (["quantizer.codebook_sise=3"], "did you mean 'quantizer.codebook_size'"),
        (["quantizer.level=3"], "did you mean 'quantizer.levels'"),
    ],
)
def test_keys_of_other_quantizers_and_impossible_sizes_are_refused(given: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        quantizer_of(*given)


def test_a_quantizer_saved_with_the_keys_of_all_is_read(tmp_path: Path) -> None:
    """As runs did before each quantiser had its own config; also of a time when a codebook had 1024 codes by default."""
    saved = {"codebook_size": 1024, "code_dim": 16, "commitment": 0.25, "decay": 0.95, "kmeans_init": True}
    saved |= {"kmeans_iters": 10, "revive_below": 2.0, "cosine": True, "rotation_trick": False, "num_quantizers": 3}
    saved |= {"levels": [5, 4, 3], "entropy_weight": 0.1}
    assert set(saved) == set(SAVED_TOGETHER)
    for name, expected in {
        "fsq": FSQConfig(levels=(5, 4, 3)),
        "residual_vq": ResidualVQConfig(codebook_size=1024, num_quantizers=3),
    }.items():
        values = {"quantizer": {"name": name, **saved}}
        assert VQVAEConfig.model_validate(values).quantizer == expected
        (tmp_path / "config.yaml").write_text(json.dumps(values))
        assert quantizer_of(path=tmp_path / "config.yaml") == expected
    with pytest.raises(ConfigError, match="levels is a key of fsq"):  # a key given beside the saved file still counts
        quantizer_of("quantizer.levels=4,4", path=tmp_path / "config.yaml")


def test_a_later_name_leaves_the_earlier_quantizers_keys_behind() -> None:
    residual, lfq = "configs/demo/st_mem_vqvae_frozen.yaml", "configs/st_mem/vqvae_lfq.yaml"
    whole = {"run.out=x", "data.store=x"}
    config = load_config(VQTrainConfig, residual, [*whole, "quantizer.name=vq"]).quantizer
    assert config == VQConfig(codebook_size=256, code_dim=16)
    assert load_config(VQTrainConfig, lfq, [*whole, "quantizer.name=fsq"]).quantizer == FSQConfig()
    seed = load_config(VQTrainConfig, "configs/demo/st_mem_vqvae_seed.yaml").quantizer
    assert seed == VQConfig(codebook_size=64, code_dim=64, cosine=False)


def test_the_library_is_imported_by_what_is_built() -> None:
    code = "import sys, st_mem_modified.vqvae.train; print('vector_quantize_pytorch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO_ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# ---------------------------------------------------------------- health of a codebook


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


def test_correlation_at_its_ends() -> None:
    wave = torch.sin(torch.arange(100) / 5.0).expand(1, 2, -1)
    assert lead_correlation(3 * wave + 1, wave).flatten().tolist() == pytest.approx([1, 1])
    assert lead_correlation(-wave, wave)[0, 0] == pytest.approx(-1)
    assert float(lead_correlation(torch.zeros(1, 1, 9), torch.ones(1, 1, 9))) == 0


# ---------------------------------------------------------------- ranks

PLAIN = {"kmeans_init": False, "revive_below": 0.0, "decay": 0.5}
"""Moving averages without anything random: two ranks must then do what one process does on both their tokens."""
CASES: dict[str, QuantizerConfig] = {name: small(name) for name in SMALL} | {
    f"{name}, plain": small(name, **PLAIN) for name in ("vq", "residual_vq")
}
STEPS = 4


def learn(config: QuantizerConfig, rank: int, world_size: int) -> dict[str, list[float]]:
    """All weights and codes after a few steps on this rank's share of the same tokens."""
    torch.manual_seed(0)
    model: nn.Module = nn.Sequential(nn.Linear(config.width, config.width), make_quantizer(config))
    torch.manual_seed(rank)  # ranks draw their own k-means starts and revivals
    wrapped = model
    if world_size > 1:
        wrapped = nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for step in range(STEPS):
        noise = torch.Generator().manual_seed(step)
        tokens = torch.randn(8, 30, config.width, generator=noise)[rank::world_size] * 0.3
        out = wrapped(tokens)
        (out.codes.square().mean() + out.loss).backward()
        optimizer.step()
        optimizer.zero_grad()
    return {name: value.double().flatten().tolist() for name, value in model.state_dict().items()}


def take_census(rank: int, world_size: int) -> dict[str, Any]:
    """Counts and inverse document frequencies after two steps on this rank's share of the same codes."""
    census = CodeCensus(VQVAE(tiny()), all_ranks=True)
    for step in range(2):
        draw = torch.Generator().manual_seed(step)
        census.add(torch.randint(0, 16, (8, 3, 2), generator=draw)[rank::world_size])
    return {"counts": census.counts.tolist(), "records": census.num_records, "idf": census.idf().tolist()}


RANK = """
import json, sys
import torch.distributed as dist
sys.path.insert(0, sys.argv[2])
from test_quantizers import CASES, learn, take_census
dist.init_process_group("gloo")
learned = {name: learn(config, dist.get_rank(), 2) for name, config in CASES.items()}
learned["census"] = take_census(dist.get_rank(), 2)
with open(f"{sys.argv[1]}/{dist.get_rank()}.json", "w") as file:
    json.dump(learned, file)
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What `learn` gives on each of two gloo ranks, for every case."""
    out = tmp_path_factory.mktemp("ranks")
    run_two_ranks(RANK, str(out), str(Path(__file__).parent))
    return [json.loads((out / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.slow
def test_the_census_is_of_all_ranks(two_ranks: list[dict[str, Any]]) -> None:
    assert two_ranks[0]["census"] == two_ranks[1]["census"] == take_census(0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_ranks_hold_the_same_codes(case: str, two_ranks: list[dict[str, Any]]) -> None:
    first, second = (report[case] for report in two_ranks)
    assert first.keys() == second.keys()
    for name, values in first.items():
        assert values == pytest.approx(second[name], abs=1e-6), name


@pytest.mark.slow
@pytest.mark.parametrize("case", [name for name in CASES if name not in ("vq", "residual_vq")])
def test_two_ranks_learn_what_one_process_learns(case: str, two_ranks: list[dict[str, Any]]) -> None:
    for name, values in learn(CASES[case], 0, 1).items():
        assert two_ranks[0][case][name] == pytest.approx(values, abs=1e-5), name
