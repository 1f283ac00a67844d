"""Propagation and BPR on a graph: values and gradients equal the plain forms."""

import numpy as np
import pytest
import torch
from scipy import sparse

from palate.nn.graph import Adjacency, graph_bpr, graph_bpr_reference, propagate, propagate_reference

USERS, ITEMS = 14, 11


@pytest.fixture
def graph():
    dense = np.random.default_rng(0).random((USERS, ITEMS)) < 0.25
    dense[3], dense[:, 5] = False, False
    return Adjacency.of_matrix(sparse.csr_matrix(dense, dtype=np.float32)), dense


def vectors():
    return (torch.randn(USERS + ITEMS, 6, generator=torch.Generator().manual_seed(0))).requires_grad_()


def same(fast, plain, x):
    torch.testing.assert_close(fast, plain, atol=1e-5, rtol=1e-4)
    (a,), (b,) = torch.autograd.grad(fast, x), torch.autograd.grad(plain, x)
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("layers", [0, 1, 2, 4])
def test_propagation(graph, layers):
    x = vectors()
    fast, plain = propagate(x, graph[0], layers), propagate_reference(x, graph[0], layers)
    torch.testing.assert_close(fast, plain)
    same((fast**3).sum(), (plain**3).sum(), x)


def test_rows_without_links_keep_only_their_own_part(graph):
    x = vectors()
    torch.testing.assert_close(propagate(x, graph[0], 3)[3], x[3] / 4)


@pytest.mark.parametrize("layers", [0, 1, 3])
@pytest.mark.parametrize("size", [2, 40])
def test_bpr(graph, layers, size):
    rng, x = np.random.default_rng(1), vectors()
    users, positives = rng.integers(0, USERS, size), USERS + rng.integers(0, ITEMS, size)
    negatives = np.where(rng.random(size) < 0.2, -1, USERS + rng.integers(0, ITEMS, size))
    args = (graph[0], layers, users, positives, negatives, 0.3)
    same(graph_bpr(x, *args), graph_bpr_reference(x, *args), x)
    same(graph_bpr(x, *args) * 2.5, graph_bpr_reference(x, *args) * 2.5, x)


def test_a_loss_is_differentiated_once(graph):
    x, one = vectors(), np.array([1])
    loss = graph_bpr(x, graph[0], 2, one, one + USERS, one + USERS + 1, 0.1)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="compute the loss again"):
        loss.backward()


def test_propagation_by_a_dense_matrix(graph):
    x, (adjacency, r) = vectors().detach().numpy().astype(np.float64), graph
    a = np.block([[np.zeros((USERS, USERS)), r], [r.T, np.zeros((ITEMS, ITEMS))]])
    root = np.sqrt(np.maximum(a.sum(1), 1))
    a = a / root[:, None] / root[None, :]
    want = (x + a @ x + a @ a @ x) / 3
    found = propagate(torch.from_numpy(x.astype(np.float32)), adjacency, 2)
    np.testing.assert_allclose(found.numpy(), want, atol=1e-6)
