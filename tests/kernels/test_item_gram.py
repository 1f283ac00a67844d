"""The Gram matrix of items and EASE's weights, built in one buffer, against the plain forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from palate.kernels.item_gram import TILE, ease_weights, ease_weights_reference, upper_gram, upper_gram_reference
from palate.runtime import set_threads, threads


def both_sides(users, items, density, seed):
    matrix = sparse.csr_matrix(np.random.default_rng(seed).random((users, items)) < density, dtype=np.float32)
    turned = matrix.T.tocsr()
    return matrix, (matrix.indptr, matrix.indices, turned.indptr, turned.indices)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.floats(0, 1), st.integers(0, 99))
def test_gram_equals_plain_and_scipy(users, items, density, seed):
    matrix, parts = both_sides(users, items, density, seed)
    fast, plain = np.zeros((items, items), np.float32), np.zeros((items, items), np.float32)
    upper_gram(*parts, fast)
    upper_gram_reference(*parts[:2], plain)
    np.testing.assert_array_equal(fast, plain)
    np.testing.assert_array_equal(fast, np.triu((matrix.T @ matrix).toarray()))


@pytest.mark.parametrize("n", [1, 5, TILE, TILE + 1, 3 * TILE - 2])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_weights_equal_plain_in_place(n, kind):
    upper = np.random.default_rng(n).normal(size=(n, n)).astype(kind) + 3 * np.eye(n, dtype=kind)
    want = ease_weights_reference(upper)
    found = upper.copy()
    ease_weights(found)
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)
    assert not np.diag(found).any()


def test_the_lower_triangle_is_not_read():
    upper = np.triu(np.random.default_rng(0).normal(size=(40, 40)) + 5 * np.eye(40))
    poisoned = upper + np.tril(np.full((40, 40), np.nan), -1)
    ease_weights(poisoned)
    np.testing.assert_allclose(poisoned, ease_weights_reference(upper))


def test_threads_do_not_change_a_bit(monkeypatch):
    monkeypatch.setattr("palate.kernels.spans.SMALL", 0)
    _, parts = both_sides(200, 90, 0.1, 0)
    before, found = threads(), []
    try:
        for count in (1, 2, 3):
            set_threads(count)
            out = np.zeros((90, 90))
            upper_gram(*parts, out)
            out.flat[::91] += 2
            ease_weights(out)
            found.append(out.tobytes())
    finally:
        set_threads(before)
    assert found[0] == found[1] == found[2]
