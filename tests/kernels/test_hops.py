"""Two hops on the graph of who had what, against the plain definition and the matrix product."""

import numpy as np
import pytest
from scipy import sparse

from palate.data.ragged import Ragged
from palate.kernels.hops import add_inner, add_inner_reference, two_hops, two_hops_reference

RNG = np.random.default_rng(0)


def case(users, items, density, histories, seed):
    rng = np.random.default_rng(seed)
    matrix = sparse.csr_matrix((rng.random((users, items)) < density).astype(np.float32))
    turned = matrix.T.tocsr()
    asked = Ragged.from_rows(
        [np.sort(rng.choice(items, rng.integers(0, min(items, 7)), replace=False)) for _ in range(histories)]
    )
    r, w = rng.random(items).astype(np.float32), rng.random(users).astype(np.float32)
    sides = [(m.indptr.astype(np.int64), m.indices.astype(np.int32)) for m in (matrix, turned)]
    return matrix, asked, (asked.offsets, asked.values, *sides, r, w)


@pytest.mark.parametrize(
    ("users", "items", "density", "histories"), [(30, 20, 0.2, 9), (1, 1, 1, 2), (400, 300, 0.1, 200), (5, 8, 0, 3)]
)
def test_two_hops(users, items, density, histories):
    matrix, asked, arguments = case(users, items, density, histories, users)
    got = two_hops(*arguments)
    np.testing.assert_allclose(got, two_hops_reference(*arguments), rtol=1e-4, atol=1e-6)
    h = np.zeros((histories, items))
    h[asked.row_numbers, asked.values] = 1
    r, w = (a.astype(np.float64) for a in arguments[-2:])
    m = matrix.toarray()
    np.testing.assert_allclose(got, h * r @ m.T * w @ m * r, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("rows", "vectors", "width"), [(3, 5, 4), (70, 300, 33), (1, 129, 256), (0, 4, 2), (2, 0, 3)])
def test_add_inner(rows, vectors, width):
    a, b = (RNG.standard_normal((n, width)).astype(np.float32) for n in (rows, vectors))
    start = RNG.standard_normal((rows, vectors)).astype(np.float32)
    fast, plain = start.copy(), start.copy()
    add_inner(a, b, fast)
    add_inner_reference(a, b, plain)
    np.testing.assert_array_equal(fast, plain)
    np.testing.assert_allclose(fast, start + a @ b.T, rtol=1e-4, atol=1e-4)
