"""What fold-ins are made of: sums of histories, and the ridge regression on them."""

import numpy as np

from palate.data.histories import Histories
from palate.recommend.folded import RIDGE, fold, ridge


def test_fold_by_hand():
    vectors = np.array([[1.0, 0], [0, 2], [3, 3]], np.float32)
    folded = fold(Histories.from_rows([[0, 1, 1], [], [2]]), vectors)
    np.testing.assert_allclose(folded, [[1 / np.sqrt(2), 2 / np.sqrt(2)], [0, 0], [3, 3]], rtol=1e-6)


def test_ridge_finds_a_linear_map_and_shrinks_it():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(500, 3)), rng.normal(size=(3, 2))
    np.testing.assert_allclose(ridge(x, x @ w), w, rtol=5e-3)
    one = np.ones((4, 1))
    np.testing.assert_allclose(ridge(one, 2 * one), [[2 / (1 + RIDGE)]], rtol=1e-12)
