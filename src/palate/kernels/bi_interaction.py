"""A bi-interaction layer of all rows in one pass, and its gradient in another.

    y = drop( φ((x + n) W₁ + b₁) + φ((x ∘ n) W₂ + b₂) ),     φ(a) = max(a, leak a)

Blocks of rows go through sum, product, activation and dropout while they are in the cache. The gradient makes the sums again
instead of keeping them; all that it needs to know of the way forwards is what passed, a bit each: the first term positive, the
second one, and what dropout kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from palate.kernels.compile import compiled
from palate.kernels.shelf import Maker
from palate.kernels.spans import each_span, even_rows
from palate.kernels.vectors import (
    BYTES,
    LANES,
    TALL,
    WIDE,
    add,
    at_least,
    filled_up,
    fma,
    load,
    load_mask,
    outer,
    pick,
    positive,
    product,
    spread,
    store,
    store_mask,
    times,
    widened,
    zeros,
)

#: Slope of the activation below zero.
LEAK = 0.2
#: Rows of a block, and the parts that rows are dealt into, each with gradient sums of its own.
ROWS, PARTS = 64, 8
#: Columns whose bits end in a whole number.
_UNIT = 16
_NOTHING = np.empty((0, 0), np.uint8)


def scale_of(cut: int) -> float:
    """Return what stays is multiplied with, where bytes below ``cut`` drop."""
    return 256 / (256 - cut)


def mix_reference(
    x: np.ndarray, n: np.ndarray, weights: Sequence[np.ndarray], drawn: np.ndarray | None, cut: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``float32[m, out]`` ``y``, and ``uint8[3, m, bytes]`` bits of what passed, to be unpacked by :func:`unpacked`.

    Parameters
    ----------
    x, n
        ``float32[m, d]``.
    weights
        ``float32[d, out]`` W₁, ``float32[out]`` b₁, W₂, b₂.
    drawn
        ``uint8[m, out]`` random bytes, of which those below ``cut`` drop; ``None`` drops nothing.
    """
    w1, b1, w2, b2 = weights
    a, b = (x + n) @ w1 + b1, (x * n) @ w2 + b2
    kept = np.ones(a.shape, bool) if drawn is None else drawn >= cut
    scale = 1.0 if drawn is None else scale_of(cut)
    y = (np.maximum(a, LEAK * a) + np.maximum(b, LEAK * b)) * np.where(kept, scale, 0)
    passed = np.zeros((3, len(x), filled_up(len(b1), _UNIT)), bool)
    passed[:, :, : len(b1)] = a > 0, b > 0, kept
    return y.astype(np.float32), np.packbits(passed, axis=2, bitorder="little")


def unpacked(passed: np.ndarray, out: int) -> np.ndarray:
    """Return ``bool[3, m, out]``: whether the first term is positive, the second one, and what was kept."""
    return np.unpackbits(passed, axis=2, count=out, bitorder="little").astype(bool)


def mix_back_reference(
    x: np.ndarray, n: np.ndarray, passed: np.ndarray, slope: np.ndarray, weights: Sequence[np.ndarray], scale: float
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Return the gradients by ``x`` (but for its way through ``n``), by ``n``, and by the four weights.

    Parameters
    ----------
    passed, slope
        The bits that the way forwards gave, and ``float32[m, out]``, the gradient by ``y``.
    scale
        What the elements that stayed were multiplied with.
    """
    w1, _, w2, _ = weights
    *above, kept = unpacked(passed, slope.shape[1])
    reached = slope * np.where(kept, np.float32(scale), np.float32(0))
    first, second = (reached * np.where(bits, np.float32(1), np.float32(LEAK)) for bits in above)
    by_sum, by_product = first @ w1.T, second @ w2.T
    own = [(x + n).T @ first, first.sum(0), (x * n).T @ second, second.sum(0)]
    return by_sum + by_product * n, by_sum + by_product * x, own


def mix(
    x: np.ndarray,
    n: np.ndarray,
    weights: Sequence[np.ndarray],
    drawn: np.ndarray | None,
    cut: int,
    make: Maker = np.empty,
) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`mix_reference`, fast; ``make`` gives the arrays to write into."""
    (w1, w2), (b1, b2) = ([widened(np.atleast_2d(weights[at])) for at in pair] for pair in ((0, 2), (1, 3)))
    width, (x, n) = weights[0].shape[1], (_whole(a) for a in (x, n))
    wide = filled_up(width, LANES)
    y, passed = make((len(x), wide), np.float32), make((3, len(x), filled_up(width, _UNIT) // 8), np.uint8)
    bytes_, scale = (_NOTHING, 1.0) if drawn is None else (_whole(drawn), scale_of(cut))
    least, grown = np.uint8(cut), np.float32(scale)

    def run(low: int, high: int) -> None:
        _mix(x, n, w1, b1[0], w2, b2[0], bytes_, least, grown, y, passed, low, high)

    each_span(run, even_rows(len(x)), x.size * wide)
    return _cut(y, width), passed


def mix_back(
    x: np.ndarray,
    n: np.ndarray,
    passed: np.ndarray,
    slope: np.ndarray,
    weights: Sequence[np.ndarray],
    scale: float,
    make: Maker = np.empty,
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """As :func:`mix_back_reference`, fast; ``make`` gives the array to write into, and ``n`` becomes the gradient by it."""
    d, width = weights[0].shape
    back1, back2 = (widened(weights[at].T) for at in (0, 2))
    x, n, slope = (_whole(a) for a in (x, n, slope))
    shape = (PARTS, filled_up(d, TALL), filled_up(width, WIDE))
    first, second = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    shifts = np.zeros((PARTS, 2, shape[2]), np.float32)
    by_x = make(x.shape, np.float32)
    grown, bounds = np.float32(scale), even_rows(len(x), PARTS)

    def run(low: int, high: int) -> None:
        for part in range(low, high):
            sums, rows = (first[part], second[part], shifts[part]), (int(bounds[part]), int(bounds[part + 1]))
            _mix_back(x, n, passed, slope, grown, back1, back2, *sums, by_x, *rows)

    each_span(run, np.arange(PARTS + 1), 2 * x.size * width)
    by_first, by_second, by_shift = (total.sum(0) for total in (first, second, shifts))
    own = [by_first[:d, :width], by_shift[0, :width], by_second[:d, :width], by_shift[1, :width]]
    return _cut(by_x, d), _cut(n, d), [np.ascontiguousarray(a) for a in own]


def _whole(a: np.ndarray) -> np.ndarray:
    """Return an array whose rows are whole registers: itself, or a copy with zeros behind."""
    return np.ascontiguousarray(a) if a.shape[1] % LANES == 0 else widened(a, columns=LANES)


def _cut(a: np.ndarray, width: int) -> np.ndarray:
    """Return the first columns."""
    return a if a.shape[1] == width else np.ascontiguousarray(a[:, :width])


@compiled()
def _mix(x, n, w1, b1, w2, b2, drawn, cut, scale, y, passed, low, high):  # type: ignore[no-untyped-def]
    sums, products = np.zeros((ROWS, x.shape[1]), np.float32), np.zeros((ROWS, x.shape[1]), np.float32)
    first, second = np.empty((ROWS, len(b1)), np.float32), np.empty((ROWS, len(b1)), np.float32)
    for start in range(low, high, ROWS):
        rows = min(ROWS, high - start)
        _sums(x, n, start, rows, sums, products)
        product(sums, w1, b1, first, rows)
        product(products, w2, b2, second, rows)
        _activate(first, second, drawn, cut, scale, y, passed, start, rows)


@compiled()
def _sums(x, n, start, rows, sums, products):  # type: ignore[no-untyped-def]
    wide, narrow = x.shape[1] * 4, sums.shape[1] * 4
    for r in range(rows):
        own, near = x.ctypes.data + (start + r) * wide, n.ctypes.data + (start + r) * wide
        to, by = sums.ctypes.data + r * narrow, products.ctypes.data + r * narrow
        for c in range(0, wide, BYTES):
            a, b = load(own + c), load(near + c)
            store(to + c, add(a, b))
            store(by + c, times(a, b))


@compiled()
def _activate(first, second, drawn, cut, scale, y, passed, start, rows):  # type: ignore[no-untyped-def]
    width, wide, packed = y.shape[1], first.shape[1] * 4, passed.shape[2]
    plane, leak, grown, nothing = passed.shape[1] * packed, spread(np.float32(LEAK)), spread(scale), zeros()
    for r in range(rows):
        a_at, b_at = first.ctypes.data + r * wide, second.ctypes.data + r * wide
        y_at, bits = y.ctypes.data + (start + r) * width * 4, passed.ctypes.data + (start + r) * packed
        random = drawn.ctypes.data + (start + r) * drawn.shape[1]
        for c in range(0, width, LANES):
            a, b = load(a_at + 4 * c), load(b_at + 4 * c)
            a_above, b_above, kept = positive(a), positive(b), -1
            found = add(pick(a_above, a, times(leak, a)), pick(b_above, b, times(leak, b)))
            if len(drawn):
                kept = at_least(random + c, cut)
                found = pick(kept, times(grown, found), nothing)
            store(y_at + 4 * c, found)
            at = bits + c // 8
            store_mask(at, a_above)
            store_mask(at + plane, b_above)
            store_mask(at + 2 * plane, kept)


@compiled()
def _mix_back(x, n, passed, slope, scale, back1, back2, by_first, by_second, shifts, by_x, low, high):  # type: ignore[no-untyped-def]
    (tall, narrow), wide = by_first.shape, back1.shape[1]
    sums, products = np.zeros((ROWS, tall), np.float32), np.zeros((ROWS, tall), np.float32)
    first, second = np.zeros((ROWS, narrow), np.float32), np.zeros((ROWS, narrow), np.float32)
    by_sum, by_product = np.empty((ROWS, wide), np.float32), np.empty((ROWS, wide), np.float32)
    nothing = np.zeros(wide, np.float32)
    for start in range(low, high, ROWS):
        rows = min(ROWS, high - start)
        _sums(x, n, start, rows, sums, products)
        _slopes(slope, passed, scale, start, rows, first, second, shifts)
        outer(sums, first, by_first, rows)
        outer(products, second, by_second, rows)
        product(first, back1, nothing, by_sum, rows)
        product(second, back2, nothing, by_product, rows)
        _to_inputs(x, n, by_sum, by_product, by_x, start, rows)


@compiled()
def _slopes(slope, passed, scale, start, rows, first, second, shifts):  # type: ignore[no-untyped-def]
    width, wide, packed = slope.shape[1], first.shape[1] * 4, passed.shape[2]
    plane, leak, grown, nothing = passed.shape[1] * packed, spread(np.float32(LEAK)), spread(scale), zeros()
    for c in range(0, width, LANES):
        a_sum = b_sum = zeros()
        for r in range(rows):
            bits = passed.ctypes.data + (start + r) * packed + c // 8
            given = load(slope.ctypes.data + ((start + r) * width + c) * 4)
            reached = pick(load_mask(bits + 2 * plane), times(grown, given), nothing)
            less = times(leak, reached)
            a, b = pick(load_mask(bits), reached, less), pick(load_mask(bits + plane), reached, less)
            a_sum, b_sum = add(a_sum, a), add(b_sum, b)
            store(first.ctypes.data + r * wide + 4 * c, a)
            store(second.ctypes.data + r * wide + 4 * c, b)
        a_at, b_at = shifts.ctypes.data + 4 * c, shifts.ctypes.data + shifts.shape[1] * 4 + 4 * c
        store(a_at, add(load(a_at), a_sum))
        store(b_at, add(load(b_at), b_sum))


@compiled()
def _to_inputs(x, n, by_sum, by_product, by_x, start, rows):  # type: ignore[no-untyped-def]
    width, wide = x.shape[1] * 4, by_sum.shape[1] * 4
    for r in range(rows):
        at = (start + r) * width
        for c in range(0, width, BYTES):
            a = load(by_sum.ctypes.data + r * wide + c)
            b = load(by_product.ctypes.data + r * wide + c)
            to = n.ctypes.data + at + c
            store(by_x.ctypes.data + at + c, fma(b, load(to), a))
            store(to, fma(b, load(x.ctypes.data + at + c), a))
