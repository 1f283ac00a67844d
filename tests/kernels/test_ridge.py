"""Ridge regressions row by row equal those at once."""

from __future__ import annotations

import numpy as np

from palate.kernels.ridge import ridge_updates, ridge_updates_reference, sherman_morrison


def test_the_formula_equals_the_inverse() -> None:
    rng = np.random.default_rng(0)
    d, n = 20, 5_000
    x = rng.normal(size=(n, d))
    inverse = np.eye(d) / 0.5
    for row in x:
        sherman_morrison(inverse, row)
    assert np.abs(inverse - np.linalg.inv(0.5 * np.eye(d) + x.T @ x)).max() < 1e-8
    np.testing.assert_array_equal(inverse, inverse.T)


def test_weighted_and_taken_away_again() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=6)
    inverse = np.eye(6)
    sherman_morrison(inverse, x, 0.3)
    np.testing.assert_allclose(inverse, np.linalg.inv(np.eye(6) + 0.3 * np.outer(x, x)), atol=1e-12)
    sherman_morrison(inverse, x, -0.3)
    np.testing.assert_allclose(inverse, np.eye(6), atol=1e-12)


def test_fast_equals_plain() -> None:
    rng = np.random.default_rng(2)
    arms, x, rewards = rng.integers(3, size=400), rng.normal(size=(400, 5)), rng.normal(size=400)
    plain = np.repeat(np.eye(5)[None], 4, axis=0), np.zeros((4, 5))
    fast = tuple(part.copy() for part in plain)
    ridge_updates_reference(*plain, arms, x, rewards)
    ridge_updates(*fast, arms, x, rewards)
    for one, two in zip(plain, fast, strict=True):
        assert np.abs(one - two).max() < 1e-8
    np.testing.assert_array_equal(fast[0][3], np.eye(5))  # nothing was learnt of the last
    theta = np.linalg.solve(np.eye(5) + x[arms == 0].T @ x[arms == 0], x[arms == 0].T @ rewards[arms == 0])
    np.testing.assert_allclose(fast[0][0] @ fast[1][0], theta, atol=1e-10)


def test_no_rows_change_nothing() -> None:
    inverses, moments = np.eye(3)[None].copy(), np.zeros((1, 3))
    ridge_updates(inverses, moments, np.empty(0, np.int64), np.empty((0, 3)), np.empty(0))
    np.testing.assert_array_equal(inverses[0], np.eye(3))
