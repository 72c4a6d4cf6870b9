"""CroPA against the dense masked softmax, written out here."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ecg_jepa_modified.cropa import cropa_attention, cropa_reference
from shared.errors import UserError


def dense_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax over all tokens of the grid, those outside the pattern at -inf; one token at a time."""
    _, _, num_leads, num_times, head_dim = q.shape
    grid = [(lead, time) for lead in range(num_leads) for time in range(num_times)]
    allowed = torch.tensor([[a == b or i == j for b, j in grid] for a, i in grid])
    flat = [tokens.flatten(2, 3) for tokens in (q, k, v)]
    scores = flat[0] @ flat[1].transpose(-2, -1) / math.sqrt(head_dim)
    return (scores.masked_fill(~allowed, -math.inf).softmax(-1) @ flat[2]).unflatten(2, (num_leads, num_times))


def draw_qkv(shape: tuple[int, ...], dtype: torch.dtype, scale: float = 1.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        (scale * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype).requires_grad_()
        for _ in range(3)
    ]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("leads", [1, 2, 3, 8, 19])
@pytest.mark.parametrize("times", [1, 2, 21, 50])
@pytest.mark.parametrize("heads", [1, 3])
def test_equals_the_dense_masked_softmax_forward_and_backward(
    leads: int, times: int, heads: int, dtype: torch.dtype, tolerance: float
) -> None:
    qkv = draw_qkv((2, heads, leads, times, 12), dtype)
    upstream = torch.randn(qkv[0].shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    results = []
    ours_of = [cropa_attention] if leads == 1 else [cropa_attention, cropa_reference]
    for attend in (*ours_of, dense_attention):
        out = attend(*qkv)
        results.append([out, *torch.autograd.grad(out, qkv, upstream)])
    *own, dense = results
    for ours in own:
        torch.testing.assert_close(ours, dense, rtol=tolerance, atol=tolerance)


def test_stays_exact_where_scores_are_extreme() -> None:
    qkv = draw_qkv((1, 2, 3, 5, 8), torch.float64, scale=30.0)
    for attend in (cropa_attention, cropa_reference):
        torch.testing.assert_close(attend(*qkv), dense_attention(*qkv), rtol=1e-10, atol=1e-10)


def test_own_token_counts_once() -> None:
    """With equal scores everywhere, each of the N + L − 1 tokens seen has the same weight."""
    leads, times = 3, 4
    q = torch.zeros(1, 1, leads, times, leads * times)
    v = torch.eye(leads * times).reshape(1, 1, leads, times, -1)
    out = cropa_attention(q, q, v).flatten(2, 3)[0, 0]
    assert torch.allclose(out.diagonal(), torch.full((leads * times,), 1 / (leads + times - 1)))
    assert torch.equal((out > 0).sum(1), torch.full((leads * times,), leads + times - 1))


def test_takes_strided_inputs_and_checks_its_gradient() -> None:
    qkv = torch.randn(2, 3, 4, 3, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    strided = qkv.permute(3, 0, 4, 1, 2, 5).requires_grad_()  # as the model hands it: one tensor, heads innermost
    torch.testing.assert_close(cropa_attention(*strided), dense_attention(*(t.contiguous() for t in strided)))
    assert torch.autograd.gradcheck(lambda x: cropa_attention(*x), (strided.detach()[:, :1].requires_grad_(),))


@pytest.mark.parametrize("leads", [1, 3])
def test_autocast_and_half_inputs_normalise_in_float32(leads: int) -> None:
    qkv = draw_qkv((2, 2, leads, 6, 16), torch.float32)
    dense = dense_attention(*qkv)
    with torch.autocast("cpu", torch.bfloat16):
        out = cropa_attention(*qkv)
    half = cropa_attention(*(t.detach().bfloat16() for t in qkv))
    assert out.dtype == half.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), dense, rtol=0.03, atol=0.03)
    torch.testing.assert_close(half.float(), dense, rtol=0.03, atol=0.03)
    out.float().sum().backward()
    assert all(t.grad is not None and t.grad.isfinite().all() for t in qkv)


@pytest.mark.parametrize("attend", [cropa_attention, cropa_reference])
def test_never_holds_a_full_score_matrix(attend: Callable[..., Tensor]) -> None:
    """The largest tensor kept for backward has N + L scores per token, not N·L."""
    sizes: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        attend(*draw_qkv((1, 2, 8, 50, 4), torch.float32))
    assert max(sizes) <= 2 * 8 * 50 * (50 + 8)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")  # its plain form is as exact
@pytest.mark.parametrize("how", ["grid", "flex", "masked"])
@pytest.mark.parametrize(("leads", "times"), [(8, 50), (19, 7), (2, 1), (3, 20)])
def test_every_kernel_is_the_reference_forwards_and_backwards(how: str, leads: int, times: int) -> None:
    generator = torch.Generator().manual_seed(0)
    ours = [torch.randn(2, 2, leads, times, 16, generator=generator).requires_grad_() for _ in range(3)]
    theirs = [tokens.detach().clone().requires_grad_() for tokens in ours]
    away = torch.randn(2, 2, leads, times, 16, generator=generator)
    expected = cropa_reference(*theirs)
    if how == "flex":  # no gradient on a CPU; tests/test_gpu.py has it on a GPU
        with pytest.raises(UserError, match="FlexAttention has no gradient on a CPU"):
            cropa_attention(*ours, how)
        torch.testing.assert_close(cropa_attention(*(tokens.detach() for tokens in ours), how), expected.detach())
        return
    out = cropa_attention(*ours, how)
    torch.testing.assert_close(out, expected)
    (out * away).sum().backward()
    (expected * away).sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad)
