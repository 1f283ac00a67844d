"""Products of a sparse matrix (CSR) and a dense one: the propagation step of graph models.

    out[r] = base[r] + Σ_{j in row r} w_rj x[j]

Rows are cut into spans of equal work that threads take one after another; a row is summed by one thread in the order of its
entries, so the bits don't depend on the number of threads. Small products run in the calling thread. Where the width fills
registers, the sum of a row stays in them until it is done.
"""

from __future__ import annotations

import numpy as np

from palate.kernels.compile import compiled
from palate.kernels.spans import each_span, even_spans
from palate.kernels.vectors import BYTES, LANES, fma, load, spread, store, zeros

_ALL = np.empty(0, np.uint8)


def spmm_reference(
    offsets: np.ndarray,
    columns: np.ndarray,
    weights: np.ndarray,
    x: np.ndarray,
    *,
    base: np.ndarray | None = None,
    needed: np.ndarray | None = None,
) -> np.ndarray:
    """Return ``float32[n, d]``: ``base`` plus the CSR matrix of ``n`` rows times ``x``, by the plain definition."""
    out = np.zeros((len(offsets) - 1, x.shape[1]), np.float32)
    for row in range(len(out)):
        if needed is not None and not needed[row]:
            continue
        if base is not None:
            out[row] = base[row]
        for at in range(offsets[row], offsets[row + 1]):
            out[row] += weights[at] * x[columns[at]]
    return out


def spmm(
    offsets: np.ndarray,
    columns: np.ndarray,
    weights: np.ndarray,
    x: np.ndarray,
    *,
    base: np.ndarray | None = None,
    needed: np.ndarray | None = None,
    filled: np.ndarray | None = None,
    out: np.ndarray | None = None,
    spans: np.ndarray | None = None,
) -> np.ndarray:
    """As :func:`spmm_reference`, fast.

    Parameters
    ----------
    offsets, columns, weights
        ``int64[n + 1]``, ``int32[m]``, ``float32[m]``.
    x
        ``float32[columns, d]``.
    base
        ``float32[n, d]`` to add, or ``None``.
    needed
        ``uint8[n]``: rows to compute (the others become zero), or ``None`` for all.
    filled
        ``uint8[columns]``: rows of ``x`` that are not zero (the others are not read), or ``None`` for all.
    out
        ``float32[n, d]`` to write into, or ``None``; neither ``x`` nor ``base``.
    spans
        Bounds of spans of equal work (:func:`palate.kernels.spans.even_spans`), where they are known already.
    """
    if out is None:
        out = np.empty((len(offsets) - 1, x.shape[1]), np.float32)
    start = np.empty((0, x.shape[1]), np.float32) if base is None else base
    rows = _ALL if needed is None else needed
    marked = _ALL if filled is None else filled
    bounds = even_spans(offsets) if spans is None else spans
    whole = all(_in_registers(a) for a in (x, start, out)) and weights.dtype == np.float32

    def run(low: int, high: int) -> None:
        if whole:
            _registers(offsets, columns, weights, x, start, rows, marked, out, low, high)
        elif len(marked):
            _some(offsets, columns, weights, x, start, rows, marked, out, low, high)
        else:
            _all(offsets, columns, weights, x, start, rows, out, low, high)

    each_span(run, bounds, len(columns) * x.shape[1])
    return out


def _in_registers(a: np.ndarray) -> bool:
    """Say whether the rows of an array are whole registers."""
    return a.dtype == np.float32 and a.flags.c_contiguous and a.shape[1] % LANES == 0


@compiled()
def _registers(offsets, columns, weights, x, base, needed, filled, out, low, high):  # type: ignore[no-untyped-def]
    wide, every = x.shape[1] * 4, len(filled) == 0
    for row in range(low, high):
        asked = len(needed) == 0 or needed[row] != 0
        first, last = (offsets[row], offsets[row + 1]) if asked else (0, 0)
        to = out.ctypes.data + row * wide
        # Where nothing is added, the row begins as the zeros that it is made of.
        begin = base.ctypes.data + row * wide if len(base) and asked else 0
        c = 0
        while c + 4 * BYTES <= wide:
            _four(columns, weights, x.ctypes.data + c, wide, begin + c if begin else 0, filled, every, to + c, first, last)
            c += 4 * BYTES
        while c + 2 * BYTES <= wide:
            _two(columns, weights, x.ctypes.data + c, wide, begin + c if begin else 0, filled, every, to + c, first, last)
            c += 2 * BYTES
        if c < wide:
            _one(columns, weights, x.ctypes.data + c, wide, begin + c if begin else 0, filled, every, to + c, first, last)


@compiled(inline="always")
def _four(columns, weights, x, wide, begin, filled, every, to, first, last):  # type: ignore[no-untyped-def]
    a = b = c = d = zeros()
    if begin:
        a, b, c, d = load(begin), load(begin + BYTES), load(begin + 2 * BYTES), load(begin + 3 * BYTES)
    for at in range(first, last):
        if every or filled[columns[at]]:
            w, p = spread(weights[at]), x + np.int64(columns[at]) * wide
            a, b = fma(w, load(p), a), fma(w, load(p + BYTES), b)
            c, d = fma(w, load(p + 2 * BYTES), c), fma(w, load(p + 3 * BYTES), d)
    store(to, a)
    store(to + BYTES, b)
    store(to + 2 * BYTES, c)
    store(to + 3 * BYTES, d)


@compiled(inline="always")
def _two(columns, weights, x, wide, begin, filled, every, to, first, last):  # type: ignore[no-untyped-def]
    a = b = zeros()
    if begin:
        a, b = load(begin), load(begin + BYTES)
    for at in range(first, last):
        if every or filled[columns[at]]:
            w, p = spread(weights[at]), x + np.int64(columns[at]) * wide
            a, b = fma(w, load(p), a), fma(w, load(p + BYTES), b)
    store(to, a)
    store(to + BYTES, b)


@compiled(inline="always")
def _one(columns, weights, x, wide, begin, filled, every, to, first, last):  # type: ignore[no-untyped-def]
    a = zeros()
    if begin:
        a = load(begin)
    for at in range(first, last):
        if every or filled[columns[at]]:
            a = fma(spread(weights[at]), load(x + np.int64(columns[at]) * wide), a)
    store(to, a)


@compiled(fast_math=True)
def _all(offsets, columns, weights, x, base, needed, out, low, high):  # type: ignore[no-untyped-def]
    width = x.shape[1]
    for row in range(low, high):
        for c in range(width):
            out[row, c] = 0.0
        if len(needed) and needed[row] == 0:
            continue
        if len(base):
            for c in range(width):
                out[row, c] = base[row, c]
        at, stop = offsets[row], offsets[row + 1]
        while at + 4 <= stop:
            w0, w1, w2, w3 = weights[at], weights[at + 1], weights[at + 2], weights[at + 3]
            j0, j1, j2, j3 = columns[at], columns[at + 1], columns[at + 2], columns[at + 3]
            for c in range(width):
                out[row, c] += (w0 * x[j0, c] + w1 * x[j1, c]) + (w2 * x[j2, c] + w3 * x[j3, c])
            at += 4
        while at < stop:
            w0, j0 = weights[at], columns[at]
            for c in range(width):
                out[row, c] += w0 * x[j0, c]
            at += 1


@compiled(fast_math=True)
def _some(offsets, columns, weights, x, base, needed, filled, out, low, high):  # type: ignore[no-untyped-def]
    width = x.shape[1]
    for row in range(low, high):
        for c in range(width):
            out[row, c] = 0.0
        if len(needed) and needed[row] == 0:
            continue
        if len(base):
            for c in range(width):
                out[row, c] = base[row, c]
        for at in range(offsets[row], offsets[row + 1]):
            j = columns[at]
            if filled[j]:
                w = weights[at]
                for c in range(width):
                    out[row, c] += w * x[j, c]
