"""Sparse products in torch: values and gradients against dense ones."""

import numpy as np
import torch
from scipy import sparse

from palate.nn.sparse import Sparse


def test_product_and_gradient():
    rng = np.random.default_rng(0)
    dense = rng.standard_normal((7, 5)) * (rng.random((7, 5)) < 0.5)
    dense[2], dense[:, 1] = 0, 0
    matrix = Sparse.of(sparse.csr_matrix(dense))
    x = torch.tensor(rng.standard_normal((5, 3)), dtype=torch.float32, requires_grad=True)
    weights = torch.tensor(rng.standard_normal((7, 3)), dtype=torch.float32)
    out = matrix.times(x)
    (out * weights).sum().backward()
    whole = torch.tensor(dense, dtype=torch.float32)
    torch.testing.assert_close(out.detach(), whole @ x.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(x.grad, whole.T @ weights, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(matrix.tensor(torch.device("cpu")).to_dense(), whole)


def test_transpose_and_doubles():
    matrix = Sparse.of(sparse.coo_matrix(([1, 2, 3], ([0, 0, 2], [1, 1, 0])), shape=(3, 4)))
    np.testing.assert_array_equal(matrix.scipy().toarray(), [[0, 3, 0, 0], [0] * 4, [3, 0, 0, 0]])
    np.testing.assert_array_equal(matrix.transposed.scipy().toarray(), matrix.scipy().toarray().T)
    assert matrix.transposed.transposed is matrix and (len(matrix), matrix.width) == (3, 4)


def test_no_entries():
    empty = Sparse.of(sparse.csr_matrix((2, 3)))
    assert not empty.times(torch.ones(3, 2)).any()
