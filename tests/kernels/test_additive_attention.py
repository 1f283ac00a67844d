"""Additive attention: fast against plain, weights that sum to 1, gradients by finite differences."""

import numpy as np
import pytest

from palate.kernels.additive_attention import attend, attend_reference, attend_slope, attend_slope_reference


def case(seed=0, rows=23, columns=17, hidden=5, width=7):
    rng = np.random.default_rng(seed)
    near = rng.random((rows, columns)) < 0.3
    near[3] = False
    near[:, 5] = False
    offsets = np.concatenate([[0], np.cumsum(near.sum(1))]).astype(np.int64)
    where = np.nonzero(near)
    a, b, v = (rng.standard_normal(s).astype(np.float32) for s in ((rows, hidden), (columns, hidden), (columns, width)))
    w, slope = rng.standard_normal(hidden).astype(np.float32), rng.standard_normal((rows, width)).astype(np.float32)
    order = np.argsort(where[1], kind="stable")
    back = (np.concatenate([[0], np.cumsum(near.sum(0))]).astype(np.int64), where[0][order].astype(np.int32), order)
    return offsets, where[1].astype(np.int32), a, b, w, v, slope, back


@pytest.mark.parametrize("seed", range(4))
def test_fast_is_plain(seed):
    *given, slope, back = case(seed)
    out, shares = attend(*given)
    wanted, wanted_shares = attend_reference(*given)
    np.testing.assert_allclose(out, wanted, atol=1e-5)
    np.testing.assert_allclose(shares, wanted_shares, atol=1e-6)
    for got, want in zip(attend_slope(*given, shares, slope, back), attend_slope_reference(*given, shares, slope), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_weights_of_a_row_sum_to_one_and_no_neighbours_give_zero():
    *given, _, _ = case()
    out, shares = attend(*given)
    sums = np.add.reduceat(np.append(shares, 0), given[0][:-1])
    full = np.diff(given[0]) > 0
    np.testing.assert_allclose(sums[full], 1, atol=1e-6)
    assert not out[3].any() and not full[3]


def test_gradients_are_those_of_the_output():
    offsets, columns, a, b, w, v, slope, back = case(1)
    _, shares = attend(offsets, columns, a, b, w, v)
    found = attend_slope(offsets, columns, a, b, w, v, shares, slope, back)
    rng, step = np.random.default_rng(2), 1e-3
    parts = [a, b, w, v]
    for at, gradient in enumerate(found):
        for _ in range(5):
            place = tuple(rng.integers(size) for size in parts[at].shape)
            values = []
            for sign in (1, -1):
                moved = [part.astype(np.float64) for part in parts]
                moved[at][place] += sign * step
                out, _ = attend_reference(offsets, columns, *moved)
                values.append((out * slope).sum(dtype=np.float64))
            assert gradient[place] == pytest.approx((values[0] - values[1]) / (2 * step), abs=5e-3)


def test_no_edges():
    *_, v, slope, _ = case()
    offsets, columns = np.zeros(24, np.int64), np.empty(0, np.int32)
    a, b, w = np.ones((23, 5), np.float32), np.ones((17, 5), np.float32), np.ones(5, np.float32)
    out, shares = attend(offsets, columns, a, b, w, v)
    assert not out.any() and not len(shares)
    back = (np.zeros(18, np.int64), columns, np.empty(0, np.int64))
    assert not any(part.any() for part in attend_slope(offsets, columns, a, b, w, v, shares, slope, back))
