"""Lanes: arithmetic lane by lane, exp, dropout, rows turned to lanes and back, products."""

import numpy as np
import pytest

from palate.kernels.compile import compiled
from palate.kernels.lanes import (
    LANES,
    exp,
    from_lanes,
    inverse,
    kept,
    larger,
    load,
    padded,
    products,
    root,
    spread,
    store,
    to_lanes,
    where_positive,
)


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@compiled()
def each(a, b, out):
    x, y = load(a, 3), load(b, 0)
    store(out, 0, x + y)
    store(out, LANES, x - y)
    store(out, 2 * LANES, x * y)
    store(out, 3 * LANES, larger(x, y))
    store(out, 4 * LANES, where_positive(x, y))
    store(out, 5 * LANES, inverse(x))
    store(out, 6 * LANES, root(x * x))
    store(out, 7 * LANES, spread(a[0]))


def test_arithmetic_goes_lane_by_lane_from_any_place():
    a, b, out = numbers(LANES + 3), numbers(LANES, seed=1), np.zeros(8 * LANES, np.float32)
    each(a, b, out)
    x = a[3:]
    expected = [x + b, x - b, x * b, np.maximum(x, b), np.where(b > 0, x, 0), 1 / x, abs(x), np.full(LANES, a[0])]
    np.testing.assert_allclose(out.reshape(8, LANES), expected, rtol=1e-6)


@compiled()
def powers(a, out):
    for at in range(0, len(a), LANES):
        store(out, at, exp(load(a, at)))


def test_exp_is_near_the_exact_one_and_ends_in_0():
    x = np.linspace(-87, 88, 16_000).astype(np.float32)[1:-1].repeat(1)
    x = np.append(x, [0, -1e30]).astype(np.float32)
    out = np.empty_like(x)
    powers(x, out)
    np.testing.assert_allclose(out[:-1], np.exp(x[:-1].astype(np.float64)), rtol=2e-7)
    assert out[-2] == 1 and out[-1] == 0


def test_not_a_number_stays_one():
    x, out = np.full(LANES, np.nan, np.float32), np.empty(8 * LANES, np.float32)
    each(np.append(np.zeros(3, np.float32), x), np.ones(LANES, np.float32), out)
    assert np.isnan(out.reshape(8, LANES)[[0, 1, 2, 5, 6]]).all()


@compiled()
def drop(random, cut, scale, out):
    store(out, 0, kept(random, 1, cut, scale))


def test_bytes_below_the_cut_are_dropped():
    random, out = np.arange(LANES + 1, dtype=np.uint8) + 120, np.empty(LANES, np.float32)
    drop(random, np.uint8(130), np.float32(1.5), out)
    np.testing.assert_array_equal(out, np.where(random[1:] >= 130, np.float32(1.5), 0))


@pytest.mark.parametrize("width", [1, 7, 8, 13, 16, 24, 45])
def test_rows_become_lanes_and_lanes_rows(width):
    rows = numbers(LANES, width + 5)
    lanes, back = np.zeros(2 + width * LANES, np.float32), np.full_like(rows, 9)
    to_lanes(rows.reshape(-1), 3, width + 5, width, lanes, 2)
    np.testing.assert_array_equal(lanes[2:].reshape(width, LANES), rows[:, 3 : 3 + width].T)
    from_lanes(lanes, 2, width, back.reshape(-1), 3, width + 5)
    np.testing.assert_array_equal(back[:, 3 : 3 + width], rows[:, 3 : 3 + width])
    assert (back[:, :3] == 9).all() and (back[:, 3 + width :] == 9).all()


@pytest.mark.parametrize("count", [1, 3, 4, 6, 9])
def test_products(count):
    a, b, out = numbers(6, LANES), numbers(6, 9, LANES, seed=1), np.zeros((12, LANES), np.float32)
    products(a.reshape(-1), 1, 2, 3, b.reshape(-1), 9, 1, count, out.reshape(-1), 2)
    np.testing.assert_allclose(out[2 : 2 + count], np.einsum("el,eil->il", a[1::2], b[:3])[:count], rtol=1e-5, atol=1e-6)
    assert not out[:2].any() and not out[2 + count :].any()


def test_padded_rows():
    rows = numbers(5, 3)
    assert padded(rows).shape == (LANES, 3) and not padded(rows)[5:].any()
    assert padded(numbers(LANES, 2)).shape == (LANES, 2)
