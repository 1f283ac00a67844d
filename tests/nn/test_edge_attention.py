"""Attention over edges in torch: passes over sorted edges against scatters, with gradients."""

import numpy as np
import pytest
import torch

from palate.nn.knowledge import Edges
from palate.nn.segments import edge_softmax, edge_softmax_reference, edge_sum, edge_sum_reference


@pytest.mark.parametrize("seed", range(3))
def test_fast_equals_plain_with_gradients(seed, some_edges):
    edges, draw = some_edges(seed=seed), torch.Generator().manual_seed(seed)
    scores = torch.randn(len(edges), generator=draw, requires_grad=True)
    x = torch.randn(edges.rows, 6, generator=draw, requires_grad=True)
    slope = torch.randn(edges.rows, 6, generator=draw)
    fast = edge_sum(edge_softmax(scores, edges), x, edges)
    plain = edge_sum_reference(edge_softmax_reference(scores, edges), x, edges)
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)
    for one, other in zip(*(torch.autograd.grad((out * slope).sum(), [scores, x]) for out in (fast, plain)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_attention_sums_to_one_and_isolated_rows_are_zero(some_edges):
    edges = some_edges()
    shares = edge_softmax(torch.randn(len(edges), generator=torch.Generator().manual_seed(0)), edges)
    sums = edge_sum(shares, torch.ones(edges.rows, 1), edges)[:, 0].numpy()
    np.testing.assert_allclose(sums, edges.degrees > 0, atol=1e-6)


def test_no_edges():
    none = np.empty(0, np.int32)
    edges = Edges.both_ways(3, none, none, none, 1)
    x = torch.ones(3, 2, requires_grad=True)
    out = edge_sum(edge_softmax(torch.empty(0), edges), x, edges)
    assert not out.any()
    out.sum().backward()
    assert not x.grad.any()
