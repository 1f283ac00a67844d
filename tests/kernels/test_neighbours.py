"""Nearest rows and weighted sums of sparse rows, against the plain forms."""

import numpy as np
import pytest
from scipy import sparse

from palate.kernels.neighbours import mix_sparse, mix_sparse_reference, nearest, nearest_reference, sizes
from palate.kernels.rows import sum_rows, sum_rows_reference, sum_sparse_rows, sum_sparse_rows_reference


def matrix(n, m, seed=0, density=0.15, ones=False):
    rng = np.random.default_rng(seed)
    made = sparse.random(n, m, density, "csr", np.float32, rng, data_rvs=lambda k: rng.integers(1, 4, k).astype(np.float32))
    if ones:
        made.data[:] = 1
    return made


@pytest.mark.parametrize("similarity", ["cosine", "jaccard", "dot"])
@pytest.mark.parametrize("shrink", [0.0, 3.0])
@pytest.mark.parametrize("k", [1, 5, 60])
def test_nearest_equals_the_plain_form(similarity, shrink, k):
    rows, others = matrix(30, 25, 1), matrix(50, 25, 2)
    own = np.where(np.arange(30) % 3 == 0, -1, np.arange(30)).astype(np.int32)
    found, values = nearest(rows, others, k, similarity=similarity, shrink=shrink, own=own)
    want, expected = nearest_reference(rows, others, k, similarity=similarity, shrink=shrink, own=own)
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    assert (found >= 0).tolist() == (want >= 0).tolist()
    different = found != want
    assert different.mean() < 0.05, "only neighbours equal up to rounding may change places"
    np.testing.assert_allclose(values[different], expected[different], rtol=1e-5)


def test_by_hand():
    a = sparse.csr_matrix(np.array([[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1]], np.float32))
    own = np.arange(4)
    found, values = nearest(a, a, 2, own=own)
    assert found.tolist() == [[1, -1], [0, 2], [1, -1], [-1, -1]]
    np.testing.assert_allclose(values[1], [2 / np.sqrt(6), 1 / np.sqrt(3)], rtol=1e-6)
    _, values = nearest(a, a, 2, similarity="jaccard", own=own)
    np.testing.assert_allclose(values[1], [2 / 3, 1 / 3], rtol=1e-6)
    _, values = nearest(a, a, 2, similarity="dot", own=own)
    assert values[1].tolist() == [2, 1]
    _, values = nearest(a, a, 2, shrink=1.0, own=own)
    np.testing.assert_allclose(values[0, 0], 2 / (np.sqrt(6) + 1), rtol=1e-6)
    assert sizes(a, "jaccard").tolist() == [2, 3, 1, 1]


def test_jaccard_counts_ones_whatever_the_weights():
    weighted, plain = matrix(20, 15, 3), matrix(20, 15, 3, ones=True)
    for way in (nearest, nearest_reference):
        first, second = (way(m, m, 4, similarity="jaccard") for m in (weighted, plain))
        assert first[0].tolist() == second[0].tolist()


def test_threads_and_many_spans_don_t_change_a_bit(monkeypatch):
    rows = matrix(200, 60, 4)
    first = nearest(rows, rows, 7, own=np.arange(200))
    monkeypatch.setattr("palate.kernels.spans.SMALL", 0)
    second = nearest(rows, rows, 7, own=np.arange(200))
    assert first[0].tobytes() == second[0].tobytes()
    assert first[1].tobytes() == second[1].tobytes()


def test_mixes_equal_the_plain_form():
    rng = np.random.default_rng(0)
    rows = matrix(40, 30, 5)
    chosen = rng.integers(-1, 40, (25, 6)).astype(np.int32)
    weights = rng.normal(size=(25, 6)).astype(np.float32)
    np.testing.assert_allclose(mix_sparse(chosen, weights, rows), mix_sparse_reference(chosen, weights, rows), atol=1e-5)


def histories(n, items, seed):
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 9, n))]).astype(np.int64)
    return offsets, rng.integers(0, items, offsets[-1]).astype(np.int32)


def test_sums_of_sparse_rows_equal_the_plain_form():
    table, (offsets, items) = matrix(40, 30, 6), histories(20, 40, 7)
    args = (offsets, items, table.indptr, table.indices, table.data, 30)
    np.testing.assert_array_equal(sum_sparse_rows(*args), sum_sparse_rows_reference(*args))
    dense = sum_rows_reference(offsets, items, table.toarray())
    np.testing.assert_allclose(sum_sparse_rows(*args), dense, atol=1e-5)
    np.testing.assert_array_equal(sum_rows(offsets, items, table.toarray()), dense)
