"""The strongest right singular vectors: against a whole decomposition, with repeated values, and where few exist."""

import numpy as np
import pytest
from scipy import sparse

from palate.kernels import lanczos
from palate.kernels.lanczos import right_singular, right_singular_reference


@pytest.fixture
def blocks(monkeypatch):
    """Take the path of large matrices for small ones too."""
    monkeypatch.setattr(lanczos, "SMALL", 0)
    monkeypatch.setattr(lanczos, "BLOCK", 8)


def random_matrix(rows=300, columns=200, density=0.05, seed=0):
    return sparse.random(rows, columns, density, format="csr", random_state=np.random.default_rng(seed), dtype=np.float32)


@pytest.mark.parametrize("k", [1, 10, 60])
def test_equals_the_whole_decomposition(blocks, k):
    matrix = random_matrix()
    vectors, values = right_singular(matrix, k, np.random.default_rng(1))
    exact, wanted = right_singular_reference(matrix, k)
    np.testing.assert_allclose(values, wanted, rtol=1e-4)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(k), atol=1e-5)
    overlap = np.linalg.svd(exact.T @ vectors)[1]
    assert overlap.min() > 0.999


def test_reference_is_the_singular_value_decomposition():
    matrix = random_matrix(40, 30, 0.3)
    vectors, values = right_singular_reference(matrix, 5)
    _, wanted, turned = np.linalg.svd(matrix.toarray())
    np.testing.assert_allclose(values, wanted[:5], rtol=1e-5)
    np.testing.assert_allclose(np.abs(vectors), np.abs(turned[:5].T), atol=1e-4)
    assert (vectors[np.abs(vectors).argmax(0), np.arange(5)] > 0).all()


def test_parts_that_do_not_touch_are_all_found(blocks):
    """Thirty separate pairs have thirty equal values: more than a block holds."""
    matrix = sparse.block_diag([np.ones((3, 5), np.float32)] * 30, format="csr")
    vectors, values = right_singular(matrix, 30, np.random.default_rng(0))
    np.testing.assert_allclose(values, np.sqrt(15), rtol=1e-5)
    wanted = np.kron(np.eye(30), np.ones((5, 5)) / 5)
    np.testing.assert_allclose(vectors @ vectors.T, wanted, atol=1e-4)


@pytest.mark.parametrize("whole", [True, False])
def test_vectors_of_value_zero_are_left_out(monkeypatch, whole):
    if not whole:
        monkeypatch.setattr(lanczos, "SMALL", 0)
        monkeypatch.setattr(lanczos, "BLOCK", 4)
    low_rank = np.random.default_rng(3).random((40, 3)) @ np.random.default_rng(4).random((3, 50))
    vectors, values = right_singular(sparse.csr_matrix(low_rank.astype(np.float32)), 10, np.random.default_rng(0))
    assert vectors.shape == (50, 3) and values.shape == (3,)
    nothing = right_singular(sparse.csr_matrix((6, 50), dtype=np.float32), 10, np.random.default_rng(0))
    assert nothing[0].shape == (50, 0) and nothing[1].shape == (0,)


def test_the_same_draw_gives_the_same_bits(blocks):
    first, second = (right_singular(random_matrix(), 12, np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
