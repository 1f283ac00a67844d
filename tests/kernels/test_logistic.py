"""The weighted logistic loss: the fast pass against the plain definition, and its gradient against differences."""

import numpy as np
import pytest

from palate.data.ragged import Ragged
from palate.kernels import logistic
from palate.kernels.logistic import Weighted, logistic_pass, logistic_reference


def case(rows, n, k, width, seed=0, empty=False):
    rng = np.random.default_rng(seed)
    t = Ragged.from_rows([[] if empty else np.sort(rng.choice(n, min(n, 3), replace=False)) for _ in range(rows)])
    had = Ragged.from_rows([np.sort(rng.choice(n, min(n, 4), replace=False)) for _ in range(rows)])
    negatives = np.sort(rng.choice(n, k, replace=False)).astype(np.int64)
    a, b, c = (rng.random(m).astype(np.float32) for m in (rows, rows, n))
    p, q = (rng.standard_normal((m, width)).astype(np.float32) for m in (rows, n))
    weights = rng.random(len(t.values)).astype(np.float32)
    return p, q, Weighted(t.offsets, t.values, weights, negatives, had.offsets, had.values, a, b, c)


@pytest.mark.parametrize(
    ("rows", "n", "k", "width"), [(5, 9, 4, 3), (200, 150, 90, 16), (1, 1, 1, 1), (3, 7, 0, 2), (0, 4, 2, 2), (7, 12, 12, 64)]
)
def test_fast_equals_plain(rows, n, k, width):
    p, q, batch = case(rows, n, k, width)
    for got, wanted in zip(logistic_pass(p, q, batch), logistic_reference(p, q, batch), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_small_blocks_change_nothing(monkeypatch):
    p, q, batch = case(40, 60, 30, 8)
    whole = logistic_pass(p, q, batch)
    monkeypatch.setattr(logistic, "BLOCK_BYTES", 4 * 30 * 3)
    for got, wanted in zip(logistic_pass(p, q, batch), whole, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_by_hand():
    """One row: a positive of weight 2 at score 1, one negative of weight 0.5 + 3 x 0.1 at score -1, one that was had."""
    p, q = np.array([[1.0]], np.float32), np.array([[1.0], [-1.0], [5.0]], np.float32)
    ints = np.array([0, 1], np.int64)
    batch = Weighted(
        ints, np.array([0], np.int32), np.array([2], np.float32), np.array([1, 2]), ints, np.array([2], np.int32),
        np.array([0.5], np.float32), np.array([3], np.float32), np.array([9, 0.1, 9], np.float32),
    )  # fmt: skip
    loss, d_p, d_q = logistic_pass(p, q, batch)
    tail = np.log1p(np.exp(-1))
    assert loss == pytest.approx(2 * tail + 0.8 * tail, rel=1e-5)
    s = 1 / (1 + np.exp(1))
    np.testing.assert_allclose(d_p, [[-2 * s * 1 + 0.8 * s * -1]], rtol=1e-5)
    np.testing.assert_allclose(d_q, [[-2 * s], [0.8 * s], [0]], rtol=1e-5)


def test_large_scores_stay_finite():
    p, q, batch = case(6, 9, 5, 4)
    loss, d_p, d_q = logistic_pass(p * 1e3, q, batch)
    assert np.isfinite(loss) and np.isfinite(d_p).all() and np.isfinite(d_q).all()
