"""TransR in one pass, against the triple-by-triple form: runs longer than a block, relations without triples, odd widths."""

import numpy as np
import pytest

from palate.kernels.transr import transr_pass, transr_pass_reference


@pytest.mark.parametrize(("size", "d", "k", "scale"), [(0, 4, 4, 1.0), (1, 5, 3, 1.0), (300, 64, 64, 0.2), (90, 33, 40, 30.0)])
def test_fast_equals_plain(size, d, k, scale):
    rng = np.random.default_rng(size)
    x, moves, matrices = (
        (scale * rng.standard_normal(shape) / np.sqrt(d)).astype(np.float32) for shape in ((20, d), (5, k), (5, k, d))
    )
    relations = np.sort(rng.choice([0, 1, 3, 4], size, p=[0.7, 0.1, 0.1, 0.1])).astype(np.int32)
    heads, tails, others = (rng.integers(0, 20, size).astype(np.int32) for _ in range(3))
    args = (x, moves, matrices, (heads, relations, tails, others), 0.1, 0.5)
    (total, *slopes), (wanted, *wanted_slopes) = transr_pass(*args), transr_pass_reference(*args)
    np.testing.assert_allclose(total, wanted, rtol=1e-4, atol=1e-5)
    for one, other in zip(slopes, wanted_slopes, strict=True):
        assert one.shape == other.shape and np.isfinite(one).all()
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4 * max(1, np.abs(other).max()) if size else 0)
