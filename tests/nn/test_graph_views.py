"""Several views of a propagation: values and gradients equal the plain form, by a dense matrix and by finite differences."""

import numpy as np
import pytest
import torch
from scipy import sparse

from palate.nn.graph import Adjacency
from palate.nn.graph_views import Passes, Readout, views, views_reference

USERS, ITEMS, DIM = 14, 11, 6
N = USERS + ITEMS


def adjacency(seed=0, share=0.25):
    dense = np.random.default_rng(seed).random((USERS, ITEMS)) < share
    dense[3], dense[:, 5] = False, False
    return Adjacency.of_matrix(sparse.csr_matrix(dense, dtype=np.float32))


@pytest.fixture
def graph():
    return adjacency()


def vectors():
    return torch.randn(N, DIM, generator=torch.Generator().manual_seed(0)).requires_grad_()


def same(fast, plain, x):
    """Values, and gradients of a loss of all readouts."""
    weights = [torch.randn(f.shape, generator=torch.Generator().manual_seed(7 + k)) for k, f in enumerate(fast)]
    for a, b in zip(fast, plain, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    slopes = [
        torch.autograd.grad(sum(((r + r**2) * w).sum() for r, w in zip(found, weights, strict=True)), x)[0]
        for found in (fast, plain)
    ]
    torch.testing.assert_close(*slopes, atol=1e-4, rtol=1e-4)


def of(kind, layers):
    if kind == "clean":
        return Passes((Readout.mean(layers),))
    if kind == "simgcl":
        return Passes(tuple(Readout.mean(layers, min(1, layers), at) for at in range(3)), (None, 5, 6), 0.3)
    if kind == "xsimgcl":
        return Passes((Readout.mean(layers, min(1, layers)), Readout.layer(min(1, layers), layers)), (8,), 0.3)
    return Passes(
        (Readout(tuple(np.linspace(0, 1, layers + 1))), Readout.layer(0, layers, 1), Readout.mean(layers)), (4, None), 0.2
    )


@pytest.mark.parametrize("rows", [None, [0, 3, 4, 15, 19, 24], [20]])
@pytest.mark.parametrize("layers", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", ["clean", "simgcl", "xsimgcl", "mixed"])
def test_fast_equals_plain(graph, kind, layers, rows):
    x, passes = vectors(), of(kind, layers)
    rows = None if rows is None else np.array(rows)
    same(views(x, graph, passes, rows), views_reference(x, graph, passes, rows), x)


def test_a_graph_for_each_layer(graph):
    x, passes = vectors(), of("clean", 2)
    two = [graph, adjacency(1, 0.5)]
    same(views(x, two, passes, np.array([1, 16])), views_reference(x, two, passes, np.array([1, 16])), x)
    a, b = (g.product(np.eye(N, dtype=np.float32)) for g in two)
    wanted = (np.eye(N) + a + b @ a) @ x.detach().numpy() / 3
    np.testing.assert_allclose(views(x, two, passes)[0].detach(), wanted, atol=1e-5)
    with pytest.raises(ValueError, match="2 graphs were given for 3 layers"):
        views(x, two, of("clean", 3))


def test_layer_0_may_be_left_out(graph):
    x, a = vectors(), graph.product(np.eye(N, dtype=np.float32))
    (found,) = views(x, graph, Passes((Readout.mean(3, 1),)))
    wanted = (a + a @ a + a @ a @ a) @ x.detach().numpy() / 3
    np.testing.assert_allclose(found.detach(), wanted, atol=1e-5)


def test_noise_of_each_layer_has_its_length_and_signs(graph):
    x, eps = vectors(), 0.4
    passes = Passes((Readout.layer(1, 2), Readout.layer(2, 2)), (11,), eps)
    one, two = (v.detach().numpy() for v in views(x, graph, passes))
    clean = graph.product(x.detach().numpy())
    linked = np.diff(graph.offsets) > 0
    for noisy, base in ((one, clean), (two, graph.product(one))):
        noise = noisy - base
        np.testing.assert_allclose(np.linalg.norm(noise[linked], axis=1), eps, rtol=1e-4)
        big = np.abs(noise) > 1e-5
        np.testing.assert_array_equal(np.sign(noise[big]), np.sign(base[big]))
        assert not noisy[~linked].any()


def test_no_noise_makes_all_passes_equal(graph):
    passes = Passes(tuple(Readout.mean(2, 1, at) for at in range(3)), (None, 5, 6), 0.0)
    clean, one, two = views(vectors(), graph, passes)
    torch.testing.assert_close(clean, one)
    torch.testing.assert_close(clean, two)


def test_a_readout_that_no_loss_uses_costs_no_gradient(graph):
    x = vectors()
    mean, layer = views(x, graph, of("xsimgcl", 2), np.array([2, 17]))
    (slope,) = torch.autograd.grad(mean.sum(), x)
    plain, _ = views_reference(x, graph, of("xsimgcl", 2), np.array([2, 17]))
    torch.testing.assert_close(slope, torch.autograd.grad(plain.sum(), x)[0], atol=1e-5, rtol=1e-4)
    assert layer.requires_grad


def test_gradient_by_finite_differences(graph):
    x, passes, rows = vectors().detach().double(), of("xsimgcl", 3), np.array([0, 6, 18])

    def total(v):
        return sum(float((r.double() ** 2).sum()) for r in views(torch.from_numpy(v.astype(np.float32)), graph, passes, rows))

    leaf = x.float().requires_grad_()
    (slope,) = torch.autograd.grad(sum((r**2).sum() for r in views(leaf, graph, passes, rows)), leaf)
    rng, step = np.random.default_rng(2), 1e-3
    for _ in range(5):
        way = rng.standard_normal(x.shape)
        found = (total(x.numpy() + step * way) - total(x.numpy() - step * way)) / (2 * step)
        np.testing.assert_allclose(found, (slope.double().numpy() * way).sum(), rtol=2e-2, atol=2e-2)
