"""Small products in registers, against numpy, and what lies outside stays as it was."""

import numpy as np
import pytest

from palate.kernels.compile import compiled
from palate.kernels.vectors import (
    LANES,
    TALL,
    WIDE,
    add,
    at_least,
    exponential,
    fma,
    largest,
    load,
    load_mask,
    load_one,
    outer,
    outer_reference,
    pick,
    positive,
    product,
    product_reference,
    spread,
    store,
    store_mask,
    times,
    widened,
    zeros,
)


@compiled()
def each_word(a, b, out):  # type: ignore[no-untyped-def]
    """Write ``a b + 2``, ``3 b₀`` and zeros, a register each."""
    x, y, to = a.ctypes.data, b.ctypes.data, out.ctypes.data
    step = 4 * LANES
    store(to, fma(load(x), load(y), spread(np.float32(2))))
    store(to + step, fma(load_one(y), spread(np.float32(3)), zeros()))
    store(to + 2 * step, zeros())


def test_each_word_of_a_register():
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(LANES).astype(np.float32) for _ in range(2))
    out = np.full(4 * LANES, 7, np.float32)
    each_word(a, b, out)
    np.testing.assert_allclose(out[:LANES], a * b + 2, rtol=1e-6)
    np.testing.assert_allclose(out[LANES : 2 * LANES], 3 * b[0], rtol=1e-6)
    assert not out[2 * LANES : 3 * LANES].any() and (out[3 * LANES :] == 7).all()


@compiled()
def masks_and_choices(a, b, drawn, out, bits):  # type: ignore[no-untyped-def]
    """Write the larger ones, ``a`` where positive and else ``b``, and those kept times 2; keep both masks."""
    x, y, to, step = load(a.ctypes.data), load(b.ctypes.data), out.ctypes.data, 4 * LANES
    store_mask(bits.ctypes.data, positive(x))
    store_mask(bits.ctypes.data + LANES // 8, at_least(drawn.ctypes.data, np.uint8(100)))
    store(to, largest(x, y))
    store(to + step, pick(load_mask(bits.ctypes.data), x, y))
    store(
        to + 2 * step,
        pick(load_mask(bits.ctypes.data + LANES // 8), times(x, add(spread(np.float32(1)), spread(np.float32(1)))), zeros()),
    )


def test_masks_and_choices():
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(LANES).astype(np.float32) for _ in range(2))
    drawn, out, bits = (
        rng.integers(0, 256, LANES).astype(np.uint8),
        np.zeros((3, LANES), np.float32),
        np.zeros(LANES // 4, np.uint8),
    )
    masks_and_choices(a, b, drawn, out, bits)
    np.testing.assert_array_equal(np.unpackbits(bits, bitorder="little").reshape(2, LANES), [a > 0, drawn >= 100])
    np.testing.assert_array_equal(out, [np.maximum(a, b), np.where(a > 0, a, b), np.where(drawn >= 100, 2 * a, 0)])


@compiled()
def exponentials(a):  # type: ignore[no-untyped-def]
    """Change numbers into their exponentials."""
    for at in range(0, len(a), LANES):
        p = a.ctypes.data + 4 * at
        store(p, exponential(load(p)))


def test_exponentials():
    a = np.linspace(-87, 88, 1000 * LANES).astype(np.float32)
    wanted = np.exp(a.astype(np.float64))
    exponentials(a)
    assert np.abs(a / wanted - 1).max() < 2.5e-7
    few = np.zeros(LANES, np.float32)
    few[:5] = -np.inf, -200, np.nan, 1, -0.0
    exponentials(few)
    np.testing.assert_allclose(few[:5], [0, 0, np.nan, np.e, 1], rtol=2e-7)


@pytest.mark.parametrize(("rows", "depth", "width"), [(0, 3, WIDE), (1, 1, WIDE), (7, 5, 2 * WIDE), (64, 64, 3 * WIDE)])
def test_products(rows, depth, width):
    rng = np.random.default_rng(rows)
    a = rng.standard_normal((rows + 2 * TALL - rows % TALL, depth + 2)).astype(np.float32)
    w, start = rng.standard_normal((depth, width)).astype(np.float32), rng.standard_normal(width).astype(np.float32)
    fast, plain = (np.full((len(a), width), 7, np.float32) for _ in range(2))
    product(a, w, start, fast, rows)
    product_reference(a, w, start, plain, rows)
    np.testing.assert_allclose(fast[:rows], plain[:rows], rtol=1e-5, atol=1e-5)
    assert (fast[-(-rows // TALL) * TALL :] == 7).all()
    product(a, w, plain, plain, rows)
    product_reference(a, w, fast, fast, rows)
    np.testing.assert_allclose(fast[:rows], plain[:rows], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("rows", "depth", "width"), [(0, TALL, WIDE), (1, TALL, WIDE), (7, 3 * TALL, 2 * WIDE)])
def test_outer_products_are_added(rows, depth, width):
    rng = np.random.default_rng(rows)
    a, b = (rng.standard_normal((rows + 3, n)).astype(np.float32) for n in (depth, width))
    fast = rng.standard_normal((depth, width)).astype(np.float32)
    plain = fast.copy()
    outer(a, b, fast, rows)
    outer_reference(a, b, plain, rows)
    np.testing.assert_allclose(fast, plain, rtol=1e-5, atol=1e-5)


def test_widened_by_zeros():
    a = np.ones((3, 5), np.float32)
    out = widened(a, rows=TALL)
    assert out.shape == (4, WIDE) and out.sum() == 15 and (out[:3, :5] == 1).all()
