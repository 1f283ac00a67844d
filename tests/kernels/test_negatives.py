"""Exact negatives, and which draws a row holds: fast forms equal the plain ones."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from palate.kernels.negatives import draw_missing, draw_missing_reference, held, held_reference


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.floats(0, 1), st.integers(0, 2**63 - 1), st.integers(0, 1000))
def test_negatives_equal_reference(n, width, density, seed, first):
    rng = np.random.default_rng(seed % 97)
    matrix = sparse.csr_matrix(rng.random((n, width)) < density)
    offsets, columns = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32)
    rows = rng.integers(0, n, 30)
    got = draw_missing(offsets, columns, rows, width, seed, first)
    np.testing.assert_array_equal(got, draw_missing_reference(offsets, columns, rows, width, seed, first))
    dense = matrix.toarray()
    assert (got[~dense.all(1)[rows]] >= 0).all()
    kept = got >= 0
    assert not dense[rows[kept], got[kept]].any()
    half = draw_missing(offsets, columns, rows[10:], width, seed, first + 10)
    np.testing.assert_array_equal(half, got[10:])


def test_negatives_are_uniform():
    offsets, columns = np.array([0, 3]), np.array([0, 4, 5], np.int32)
    drawn = draw_missing(offsets, columns, np.zeros(70_000, int), 10, seed=5)
    counts = np.bincount(drawn, minlength=10)
    assert not counts[[0, 4, 5]].any()
    expected = 70_000 / 7
    assert ((counts[[1, 2, 3, 6, 7, 8, 9]] - expected) ** 2 / expected).sum() < 22.5  # chi², 6 degrees, p = 0.001


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.floats(0, 1), st.integers(0, 4), st.integers(0, 99))
def test_held_equals_reference(n, width, density, wide, seed):
    rng = np.random.default_rng(seed)
    matrix = sparse.csr_matrix(rng.random((n, width)) < density)
    offsets, columns = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32)
    rows, wanted = rng.integers(0, n, 20), rng.integers(0, width, (20, wide))
    got = held(offsets, columns, rows, wanted)
    np.testing.assert_array_equal(got, held_reference(offsets, columns, rows, wanted))
    np.testing.assert_array_equal(got, matrix.toarray()[rows[:, None], wanted])
