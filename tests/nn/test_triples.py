"""BPR on rows of vectors: the value and the gradient equal the plain form."""

import numpy as np
import pytest
import torch

from palate.nn.triples import triple_bpr, triple_bpr_reference


@pytest.mark.parametrize("size", [0, 1, 30])
def test_fast_equals_plain(size):
    rng = np.random.default_rng(0)
    x = torch.randn(12, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    u, i, j = (rng.integers(0, 12, size) for _ in range(3))
    j = np.where(rng.random(size) < 0.2, -1, j)
    fast, plain = triple_bpr(x, u, i, j), triple_bpr_reference(x, u, i, j)
    torch.testing.assert_close(fast, plain)
    torch.testing.assert_close(torch.autograd.grad(fast * 3, x), torch.autograd.grad(plain * 3, x))


def test_by_hand():
    x = torch.tensor([[1.0, 0.0], [2.0, 5.0], [0.5, 1.0]])
    found = triple_bpr(x, np.array([0, 0]), np.array([1, 1]), np.array([2, -1]))
    np.testing.assert_allclose(float(found), np.log1p(np.exp(-1.5)) / 2, rtol=1e-6)
