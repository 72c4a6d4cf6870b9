"""The shared transformer parts equal the formulas, written out here as plain loops."""

from __future__ import annotations

import math

import pytest
import timm.layers
import torch
from torch import Tensor, nn

from shared.nn import (
    Attention,
    Block,
    DropPath,
    Mlp,
    Terms,
    init_trunc_normal,
    init_xavier,
    rescale_blocks,
    sincos_1d,
    sincos_2d,
)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(("num_heads", "head_dim", "qkv_bias"), [(2, None, True), (3, 5, False), (1, 8, True)])
def test_attention_equals_a_loop_over_heads(num_heads: int, head_dim: int | None, qkv_bias: bool) -> None:
    attention = Attention(8, num_heads, head_dim, qkv_bias)
    width = head_dim or 8 // num_heads
    x = torch.randn(2, 7, 8)
    bias = attention.qkv.bias if qkv_bias else torch.zeros(3 * num_heads * width)
    expected = []
    for sequence in x:
        heads = []
        for h in range(num_heads):
            rows = [slice((k * num_heads + h) * width, (k * num_heads + h + 1) * width) for k in range(3)]
            q, k, v = (sequence @ attention.qkv.weight[r].T + bias[r] for r in rows)
            heads.append(torch.softmax(q @ k.T / math.sqrt(width), dim=-1) @ v)
        expected.append(torch.cat(heads, dim=-1) @ attention.proj.weight.T + attention.proj.bias)
    torch.testing.assert_close(attention(x), torch.stack(expected))


def test_attend_decides_who_sees_whom() -> None:
    attention = Attention(8, 2)
    x = torch.randn(1, 5, 8)

    def own_only(_q: Tensor, _k: Tensor, v: Tensor) -> Tensor:
        return v

    changed = x.clone()
    changed[:, 2] += 1.0
    difference = (attention(x, own_only) - attention(changed, own_only)).abs().sum(-1)[0]
    assert (difference > 0).tolist() == [False, False, True, False, False]
    assert ((attention(x) - attention(changed)).abs().sum(-1) > 0).all()


def test_block_is_pre_norm_with_exact_gelu() -> None:
    block = Block(8, 2, mlp_ratio=3.0).eval()
    x = torch.randn(2, 5, 8)
    mid = x + block.attn(nn.functional.layer_norm(x, (8,), block.norm1.weight, block.norm1.bias))
    hidden = block.mlp.fc1(nn.functional.layer_norm(mid, (8,), block.norm2.weight, block.norm2.bias))
    assert hidden.shape[-1] == 24
    gelu = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    torch.testing.assert_close(block(x), mid + block.mlp.fc2(gelu))


def test_drop_path_acts_in_training_only() -> None:
    block = Block(8, 2, drop_path=0.99)
    x = torch.randn(64, 3, 8)
    whole = (block.train()(x) == x).all(dim=(1, 2))
    assert whole.float().mean() > 0.8
    assert not torch.equal(block.eval()(x), x)


@pytest.mark.parametrize("positions", [torch.arange(6), torch.tensor([0.5, 3.0, 1000.0])])
def test_sincos_1d_equals_the_formula(positions: Tensor) -> None:
    table = sincos_1d(positions, 10)
    assert table.dtype == torch.float32
    for i, position in enumerate(positions.tolist()):
        for j in range(5):
            angle = position / 10000 ** (j / 5)
            assert table[i, j].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[i, 5 + j].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_sincos_2d_is_time_then_lead() -> None:
    table = sincos_2d(3, 5, 8)
    assert table.shape == (3, 5, 8)
    for lead in range(3):
        for time in range(5):
            torch.testing.assert_close(table[lead, time, :4], sincos_1d(torch.tensor([time]), 4)[0])
            torch.testing.assert_close(table[lead, time, 4:], sincos_1d(torch.tensor([lead]), 4)[0])


@pytest.mark.parametrize("dim", [5, 6, 9])
def test_tables_of_impossible_width_are_refused(dim: int) -> None:
    with pytest.raises(ValueError, match=f"{dim} was given"):
        sincos_2d(2, 3, dim)
    if dim % 2:
        with pytest.raises(ValueError, match="even width"):
            sincos_1d(torch.arange(3), dim)


def test_xavier_initialisation() -> None:
    layer = nn.Linear(300, 500)
    init_xavier(layer)
    bound = math.sqrt(6 / 800)
    assert 0.99 * bound < layer.weight.abs().max().item() <= bound
    assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert not layer.bias.any()


def test_trunc_normal_initialisation() -> None:
    layer = nn.Linear(300, 500)
    init_trunc_normal(layer)
    assert layer.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert not layer.bias.any()


@pytest.mark.parametrize("init", [init_xavier, init_trunc_normal])
def test_initialisation_leaves_other_layers_alone_and_needs_no_bias(init: object) -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.LayerNorm(4), nn.Conv1d(4, 4, 1))
    before = [p.clone() for p in model[1:].parameters()]
    model.apply(init)  # type: ignore[arg-type]
    assert all(torch.equal(a, b) for a, b in zip(before, model[1:].parameters(), strict=True))


def test_rescaling_divides_by_the_root_of_twice_the_depth() -> None:
    blocks = nn.ModuleList(Block(8, 2) for _ in range(3))
    before = {name: p.clone() for name, p in blocks.named_parameters()}
    rescale_blocks(blocks)
    for name, now in blocks.named_parameters():
        scaled = name.endswith(("attn.proj.weight", "mlp.fc2.weight"))
        factor = math.sqrt(2 * (int(name.split(".")[0]) + 1)) if scaled else 1.0
        torch.testing.assert_close(now * factor, before[name])


def test_terms_are_reached_by_name_both_ways() -> None:
    terms = Terms(loss=torch.tensor(1.0), pred=2)
    assert terms.loss is terms["loss"]
    assert not hasattr(terms, "mask")
    with pytest.raises(AttributeError, match="no term 'los'; the terms are loss, pred"):
        _ = terms.los


def test_mlp_and_drop_path_are_timms() -> None:
    """The same numbers, parameters and draws; ours only load faster."""
    torch.manual_seed(0)
    ours, drop = Mlp(8, 32), DropPath(0.4).train()
    torch.manual_seed(0)
    theirs = timm.layers.Mlp(8, 32)
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())
    x = torch.randn(6, 5, 8)
    assert torch.equal(ours(x), theirs(x))
    torch.manual_seed(1)
    dropped = drop(x)
    torch.manual_seed(1)
    assert torch.equal(dropped, timm.layers.DropPath(0.4).train()(x))
    assert torch.equal(drop.eval()(x), x)
