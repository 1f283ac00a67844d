"""Other items: never the one that is to be found; all of them where few, fair draws where many."""

import numpy as np
import pytest
from scipy import sparse

from palate.training.other_items import OtherItems


@pytest.fixture
def matrix():
    rng = np.random.default_rng(0)
    dense = rng.random((40, 30)) < np.linspace(0.05, 0.9, 40)[:, None]
    dense[:, 3] = True
    return sparse.csr_matrix(dense.astype(np.float32))


@pytest.mark.parametrize("most", [1, 4, 100])
def test_the_history_never_holds_the_answer(matrix, most):
    users, items = (a.astype(np.int32) for a in matrix.nonzero())
    found = OtherItems(matrix, most).draw(np.random.default_rng(1), users, items)
    had = matrix.getnnz(axis=1)
    np.testing.assert_array_equal(found.lengths, np.minimum(had[users] - 1, most))
    for row, (user, item) in enumerate(zip(users, items, strict=True)):
        assert item not in found[row]
        assert set(found[row]) <= set(matrix[user].indices)
        if had[user] - 1 <= most:
            assert sorted([*found[row], item]) == sorted(matrix[user].indices)


def test_long_histories_are_drawn_evenly(matrix):
    user = int(np.argmax(matrix.getnnz(axis=1)))
    own = matrix[user].indices
    n = 4000
    users, items = np.full(n, user, np.int32), np.full(n, own[2], np.int32)
    found = OtherItems(matrix, 3).draw(np.random.default_rng(2), users, items)
    shares = np.bincount(found.values, minlength=30)[np.delete(own, 2)] / (3 * n)
    np.testing.assert_allclose(shares, 1 / (len(own) - 1), atol=0.01)


def test_somebody_with_one_item_has_no_others():
    found = OtherItems(sparse.csr_matrix(np.eye(3, dtype=np.float32)), 5).draw(
        np.random.default_rng(0), np.arange(3, dtype=np.int32), np.arange(3, dtype=np.int32)
    )
    assert found.tolist() == [[], [], []]
