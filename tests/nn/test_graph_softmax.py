"""The softmax on a graph: value and gradient equal the plain form, a formula by hand, and finite differences."""

import numpy as np
import pytest
import torch
from scipy import sparse

from palate.nn.graph import Adjacency
from palate.nn.graph_softmax import graph_softmax, graph_softmax_reference
from palate.runtime import set_threads, threads

USERS, ITEMS, DIM = 14, 11, 6
EVERYBODY = list(range(USERS))


@pytest.fixture
def graph():
    dense = np.random.default_rng(0).random((USERS, ITEMS)) < 0.25
    dense[3], dense[:, 5] = False, False
    return Adjacency.of_matrix(sparse.csr_matrix(dense, dtype=np.float32)), dense


def vectors():
    return (torch.randn(USERS + ITEMS, DIM, generator=torch.Generator().manual_seed(0))).requires_grad_()


def pairs_of(graph, people):
    mask = np.zeros_like(graph[1])
    mask[people] = graph[1][people]
    users, items = (a.astype(np.int32) for a in np.nonzero(mask))
    return users, items + USERS


def by_hand(x, graph, layers, people, temperature, reg):
    """The loss of the module's text, in float64, step by step."""
    r = graph[1].astype(np.float64)
    a = np.block([[np.zeros((USERS, USERS)), r], [r.T, np.zeros((ITEMS, ITEMS))]])
    root = np.sqrt(np.maximum(a.sum(1), 1))
    a = a / root[:, None] / root[None, :]
    e, layer = x.copy(), x
    for _ in range(layers):
        layer = a @ layer
        e += layer
    e /= np.linalg.norm(e, axis=1, keepdims=True)
    users, items = pairs_of(graph, people)
    total = 0.0
    for u, i in zip(users, items, strict=True):
        scores = e[USERS:] @ e[u] / temperature
        total += np.log(np.exp(scores).sum()) - scores[i - USERS]
        total += reg / 2 * ((x[u] ** 2).sum() + (x[i] ** 2).sum())
    return total / len(users)


@pytest.mark.parametrize("layers", [0, 1, 3])
@pytest.mark.parametrize("people", [[1], [0, 2, 7], EVERYBODY])
@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_value_and_gradient_equal_the_plain_form(graph, layers, people, scale):
    x = vectors()
    users, items = pairs_of(graph, people)
    args = (graph[0], layers, users, items, USERS, 0.4, 0.3)
    fast, plain = graph_softmax(x, *args) * scale, graph_softmax_reference(x, *args) * scale
    torch.testing.assert_close(fast, plain, atol=1e-5, rtol=1e-4)
    (a,), (b,) = torch.autograd.grad(fast, x), torch.autograd.grad(plain, x)
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("layers", [0, 2])
@pytest.mark.parametrize("people", [[0, 2, 7], EVERYBODY])
def test_value_and_gradient_by_hand_and_by_differences(graph, layers, people):
    x, users_items = vectors(), pairs_of(graph, people)
    loss = graph_softmax(x, graph[0], layers, *users_items, USERS, 0.5, 0.2)
    free = x.detach().numpy().astype(np.float64)
    assert loss.item() == pytest.approx(by_hand(free, graph, layers, people, 0.5, 0.2), rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, x)
    step = 1e-5
    for row in (0, 2, 3, USERS, USERS + 5, USERS + 10):
        for column in (0, DIM - 1):
            up, down = free.copy(), free.copy()
            up[row, column] += step
            down[row, column] -= step
            slope = (by_hand(up, graph, layers, people, 0.5, 0.2) - by_hand(down, graph, layers, people, 0.5, 0.2)) / (2 * step)
            assert gradient[row, column].item() == pytest.approx(slope, abs=2e-5)


def test_rows_that_no_path_reaches_have_no_gradient(graph):
    x = vectors()
    (gradient,) = torch.autograd.grad(graph_softmax(x, graph[0], 3, *pairs_of(graph, [0, 1]), USERS, 0.5, 0.2), x)
    assert not gradient[3].any(), "a person without links is moved"
    assert gradient[USERS + 5].any(), "an item without links is still part of the catalogue"


def test_a_loss_is_differentiated_once(graph):
    x = vectors()
    loss = graph_softmax(x, graph[0], 2, *pairs_of(graph, [0]), USERS, 0.5, 0.2)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="compute the loss again"):
        loss.backward()


def test_blocks_and_threads(graph, monkeypatch):
    def gradient():
        x = vectors()
        return torch.autograd.grad(graph_softmax(x, graph[0], 2, *pairs_of(graph, EVERYBODY), USERS, 0.5, 0.2), x)[0]

    whole = gradient()
    monkeypatch.setattr("palate.kernels.spans.SMALL", 0)
    before = threads()
    try:
        for count in (1, 2):
            set_threads(count)
            assert torch.equal(gradient(), whole)
    finally:
        set_threads(before)
    monkeypatch.setattr("palate.nn.multinomial.BLOCK_BYTES", 1)
    torch.testing.assert_close(gradient(), whole, atol=1e-6, rtol=1e-4)
