"""Bi-interaction layers: by hand, against plain torch with dropout and gradients, and for some rows only."""

import numpy as np
import pytest
import torch

from palate.kernels.segments import segment_softmax
from palate.nn.bi_interaction import LEAK, Attention, BiInteraction, bi_interaction_reference, mix_rows
from palate.nn.dropout import Dropout
from palate.nn.knowledge import Edges


@pytest.fixture
def attention(some_edges):
    def make(n=30, seed=0):
        edges = some_edges(n, seed=seed)
        scores = np.random.default_rng(seed).standard_normal(len(edges)).astype(np.float32)
        return Attention(edges, segment_softmax(edges.offsets, scores))

    return make


def test_a_layer_by_hand():
    """Two rows that see each other: x = 2 and -3, n = -3 and 2, x + n = -1, x n = -6."""
    edges = Edges.both_ways(2, np.array([0]), np.array([0]), np.array([1]), 1)
    layer = BiInteraction((1, 1), np.random.default_rng(0))
    for weight, value in zip(layer.weights, ([[1.0]], [0.5], [[-2.0]], [0.0]), strict=True):
        weight.data = torch.tensor(value)
    x = torch.tensor([[2.0], [-3.0]])
    y = LEAK * (-1 + 0.5) + 12
    np.testing.assert_allclose(layer.layers(x.numpy(), Attention(edges, np.ones(2, np.float32)))[1], [[y], [y]], rtol=1e-6)
    out = layer(x, Attention(edges, np.ones(2, np.float32)), np.array([1]))
    np.testing.assert_allclose(out.detach(), [[-3, 1]], rtol=1e-6)


@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize("dims", [(8, 5), (8, 6, 4, 3)])
def test_fast_equals_plain_with_gradients(rate, dims, attention):
    at, layers = attention(), BiInteraction(dims, np.random.default_rng(1))
    for weight in layers.weights:
        weight.data += 0.1
    x = torch.randn(30, dims[0], generator=torch.Generator().manual_seed(0), requires_grad=True)
    rows = np.array([2, 3, 11, 29])
    masks = layers.masks(30, len(rows), Dropout(rate, torch.Generator().manual_seed(5)), x.device)
    drop = Dropout(rate, torch.Generator().manual_seed(5))
    fast = layers(x, at, rows, drop)
    plain = bi_interaction_reference(x, at, rows, list(layers.weights), masks, drop.cut)
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)
    slope = torch.randn(fast.shape, generator=torch.Generator().manual_seed(2))
    wanted = [x, *layers.weights]
    for one, other in zip(*(torch.autograd.grad((out * slope).sum(), wanted) for out in (fast, plain)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_many_blocks_equal_plain(attention):
    at, layers = attention(1500, seed=3), BiInteraction((4, 3), np.random.default_rng(1))
    x = torch.randn(1500, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    rows = np.arange(1500)
    fast = layers(x, at, rows)
    plain = bi_interaction_reference(x, at, rows, list(layers.weights), [None], 0)
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)
    both = (torch.autograd.grad(out.square().sum() + out.sum(), [x, *layers.weights]) for out in (fast, plain))
    for one, other in zip(*both, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_layers_of_all_rows_agree_with_rows_asked_for(attention):
    at, layers = attention(), BiInteraction((8, 6, 4), np.random.default_rng(1))
    x = torch.randn(30, 8, generator=torch.Generator().manual_seed(0))
    found = layers.layers(x.numpy(), at)
    out = layers(x, at, np.array([4, 9])).detach().numpy()
    np.testing.assert_allclose(out[:, :8], found[0][[4, 9]])
    for y, part in zip(found[1:], (out[:, 8:14], out[:, 14:]), strict=True):
        np.testing.assert_allclose(part, y[[4, 9]] / np.linalg.norm(y[[4, 9]], axis=1, keepdims=True), rtol=1e-5)
    weights = [w.detach().numpy() for w in layers.weights[:4]]
    np.testing.assert_allclose(mix_rows(found[0], at.gather(found[0]), weights), found[1], rtol=1e-5)


def test_a_gradient_is_taken_once(attention):
    at, layers = attention(), BiInteraction((4, 3), np.random.default_rng(1))
    x = torch.randn(30, 4, requires_grad=True)
    out = layers(x, at, np.array([1])).sum()
    out.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="taken already"):
        out.backward()
