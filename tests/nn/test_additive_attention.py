"""Additive attention in torch: the fast form against the plain one, gradients included."""

import numpy as np
import torch
from scipy import sparse

from palate.nn.additive_attention import Neighbours, additive_attention, additive_attention_reference


def test_values_and_gradients():
    rng = np.random.default_rng(0)
    dense = (rng.random((11, 9)) < 0.4).astype(np.float32)
    dense[4] = 0
    near = Neighbours.of(sparse.csr_matrix(dense))
    shapes = ((11, 4), (9, 4), (4,), (9, 6))
    given = [torch.tensor(rng.standard_normal(s), dtype=torch.float32, requires_grad=True) for s in shapes]
    weights = torch.tensor(rng.standard_normal((11, 6)), dtype=torch.float32)
    outs = [f(*given, near) for f in (additive_attention, additive_attention_reference)]
    torch.testing.assert_close(*outs, rtol=1e-5, atol=1e-5)
    assert not outs[0][4].any()
    gradients = [torch.autograd.grad((out * weights).sum(), given) for out in outs]
    for fast, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)


def test_edges_by_column():
    near = Neighbours.of(sparse.csr_matrix(np.array([[1, 0, 1], [0, 0, 1]], np.float32)))
    offsets, rows, places = near.back
    np.testing.assert_array_equal(offsets, [0, 1, 1, 3])
    np.testing.assert_array_equal(rows, [0, 0, 1])
    np.testing.assert_array_equal(near.columns[places], [0, 2, 2])


def test_equal_scores_give_the_mean():
    near = Neighbours.of(sparse.csr_matrix(np.ones((1, 3), np.float32)))
    v = torch.tensor([[1.0], [2.0], [6.0]])
    out = additive_attention(torch.zeros(1, 2), torch.zeros(3, 2), torch.ones(2), v, near)
    torch.testing.assert_close(out, torch.tensor([[3.0]]))
