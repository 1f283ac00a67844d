"""Rows taken out and put back: fast equals plain."""

import numpy as np
import pytest

from palate.kernels.gather import (
    gather,
    gather_reference,
    scatter,
    scatter_pulled,
    scatter_pulled_reference,
    scatter_reference,
)


@pytest.mark.parametrize("n", [0, 1, 9, 40_000])
def test_gather_and_scatter(n):
    rng = np.random.default_rng(0)
    x, rows = rng.standard_normal((50, 16)).astype(np.float32), rng.integers(0, 50, n)
    np.testing.assert_allclose(gather(x, rows, 0.3), gather_reference(x, rows, 0.3), rtol=1e-6)
    begun = rng.standard_normal((n, 16)).astype(np.float32)
    fast, plain = begun.copy(), begun.copy()
    assert gather(x, rows, -2.0, fast) is fast
    np.testing.assert_allclose(fast, gather_reference(x, rows, -2.0, plain), rtol=1e-5, atol=1e-6)
    fast, plain = x.copy(), x.copy()
    scatter(fast, rows, begun, 0.5)
    scatter_reference(plain, rows, begun, 0.5)
    np.testing.assert_allclose(fast, plain, rtol=1e-4, atol=1e-3)
    fast, plain = x.copy(), x.copy()
    scatter_pulled(fast, rows, begun, 2 * x, 0.5)
    scatter_pulled_reference(plain, rows, begun, 2 * x, 0.5)
    np.testing.assert_allclose(fast, plain, rtol=1e-4, atol=2e-3)
