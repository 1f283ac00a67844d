"""Softmax losses in bounded memory: values and gradients equal the definitions, for any block."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from palate.nn.softmax import shared_softmax, shared_softmax_reference, whole_softmax


@given(st.integers(1, 70), st.integers(1, 90), st.booleans(), st.booleans(), st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_shared_softmax_equals_its_definition_with_gradients(p, k, hit, corrected, seed):
    g = torch.Generator().manual_seed(seed)
    q, v = torch.randn(p, 6, generator=g).requires_grad_(), torch.randn(k, 6, generator=g).requires_grad_()
    own = torch.randn(p, generator=g).requires_grad_()
    hits = torch.randint(-1, k, (p,), generator=g) if hit else None
    correction = torch.randn(k, generator=g) if corrected else None
    fast = shared_softmax(q, own, v, hits=hits, correction=correction)
    plain = shared_softmax_reference(q, own, v, hits, correction)
    torch.testing.assert_close(fast, plain, atol=1e-5, rtol=1e-5)
    for a, b in zip(torch.autograd.grad(3 * fast, (q, own, v)), torch.autograd.grad(3 * plain, (q, own, v)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_softmax_in_many_blocks_equals_one(monkeypatch):
    monkeypatch.setattr("palate.nn.softmax.BLOCK_BYTES", 4 * 50 * 16)
    q, v = torch.randn(133, 8, requires_grad=True), torch.randn(50, 8, requires_grad=True)
    targets = torch.randint(0, 50, (133,))
    fast, plain = whole_softmax(q, v, targets), functional.cross_entropy(q @ v.T, targets)
    torch.testing.assert_close(fast, plain)
    for a, b in zip(torch.autograd.grad(fast, (q, v)), torch.autograd.grad(plain, (q, v)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


def test_all_other_items_as_negatives_give_the_whole_softmax():
    q, v, targets = torch.randn(9, 8), torch.randn(20, 8), torch.randint(0, 20, (9,))
    own = (q * v[targets]).sum(1)
    torch.testing.assert_close(shared_softmax(q, own, v, hits=targets), whole_softmax(q, v, targets))


def test_bfloat16_products_stay_near():
    q, v, targets = torch.randn(64, 32), torch.randn(100, 32), torch.randint(0, 100, (64,))
    near = whole_softmax(q, v, targets, bfloat16=True)
    assert abs(near - whole_softmax(q, v, targets)) < 0.05 * near


@pytest.mark.parametrize("bytes_", [1, 2**21])
def test_gradients_equal_differences(monkeypatch, bytes_):
    """Against finite differences in float64, for blocks of few rows and of all."""
    monkeypatch.setattr("palate.nn.softmax.BLOCK_BYTES", bytes_)
    g = torch.Generator().manual_seed(0)
    q, v, own = (torch.randn(*s, generator=g, dtype=torch.float64).requires_grad_() for s in ((20, 3), (5, 3), (20,)))
    at = torch.randint(0, 5, (20,), generator=g)
    hits, correction = torch.where(at > 2, at, -1), torch.randn(5, generator=g, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda q, v: whole_softmax(q, v, at), (q, v))
    assert torch.autograd.gradcheck(lambda q, s, v: shared_softmax(q, s, v, hits=hits, correction=correction), (q, own, v))


def test_a_second_derivative_is_refused():
    q, v = torch.randn(4, 3, requires_grad=True), torch.randn(5, 3)
    loss = whole_softmax(q, v, torch.zeros(4, dtype=torch.int64)) ** 2
    (slope,) = torch.autograd.grad(loss, q, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        slope.sum().backward()


def test_great_scores_stay_finite():
    q = torch.tensor([[1e4], [-1e4]], requires_grad=True)
    v, targets = torch.tensor([[1.0], [-1.0]]), torch.tensor([0, 0])
    loss = whole_softmax(q, v, targets)
    assert loss.item() == pytest.approx(1e4)
    (slope,) = torch.autograd.grad(loss, q)
    torch.testing.assert_close(slope, torch.tensor([[0.0], [-1.0]]))
