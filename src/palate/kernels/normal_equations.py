"""Normal equations of sparse rows, ``(D + gain ZᵀZ) x = target Zᵀ1`` with a diagonal ``D``, solved exactly in float64.

Rows shorter than ``d`` have a system of their own length (Woodbury); others one of ``d``, or of a block of dimensions at a
time. :mod:`palate.kernels.als` says where the equations come from, and holds the plain reference.
"""

from __future__ import annotations

import numpy as np

from palate.kernels.compile import compiled

#: Columns of a gathered piece of a long row.
PIECE = 128


@compiled(fast_math=True)
def _add_products(w, rows, width, out):  # type: ignore[no-untyped-def]
    """Add the lower triangle of ``w wᵀ`` (``rows`` a multiple of four) to ``out``, in tiles of four by four."""
    for i in range(0, rows, 4):
        a0, a1, a2, a3 = w[i], w[i + 1], w[i + 2], w[i + 3]
        for j in range(0, i + 1, 2):
            b0, b1 = w[j], w[j + 1]
            s00 = s01 = s10 = s11 = s20 = s21 = s30 = s31 = 0.0
            for c in range(width):
                v0, v1 = b0[c], b1[c]
                s00 += a0[c] * v0
                s01 += a0[c] * v1
                s10 += a1[c] * v0
                s11 += a1[c] * v1
                s20 += a2[c] * v0
                s21 += a2[c] * v1
                s30 += a3[c] * v0
                s31 += a3[c] * v1
            out[i, j] += s00
            out[i, j + 1] += s01
            out[i + 1, j] += s10
            out[i + 1, j + 1] += s11
            out[i + 2, j] += s20
            out[i + 2, j + 1] += s21
            out[i + 3, j] += s30
            out[i + 3, j + 1] += s31
        for a in range(4):
            for b in range(2, 4):
                total = 0.0
                for c in range(width):
                    total += w[i + a, c] * w[i + b, c]
                out[i + a, i + b] += total


@compiled(fast_math=True)
def _solve_lower(k, n, y):  # type: ignore[no-untyped-def]
    """Solve ``K y' = y`` in place by Cholesky; only the lower triangle of ``k`` is read, and it is overwritten."""
    for i in range(n):
        for j in range(i):
            total = k[i, j]
            for m in range(j):
                total -= k[i, m] * k[j, m]
            k[i, j] = total * k[j, j]
        total = k[i, i]
        for m in range(i):
            total -= k[i, m] * k[i, m]
        k[i, i] = 1.0 / np.sqrt(max(total, 1e-300))
    for i in range(n):
        total = y[i]
        for m in range(i):
            total -= k[i, m] * y[m]
        y[i] = total * k[i, i]
    for i in range(n - 1, -1, -1):
        y[i] *= k[i, i]
        for m in range(i):
            y[m] -= k[i, m] * y[i]


@compiled()
def _longest(offsets, low, high, under):  # type: ignore[no-untyped-def]
    """Return the length of the longest row that is shorter than ``under``."""
    longest = 0
    for row in range(low, high):
        if offsets[row + 1] - offsets[row] < under:
            longest = max(longest, offsets[row + 1] - offsets[row])
    return longest


@compiled(fast_math=True)
def _add_scores(fixed, columns, first, n, start, m, x, scale, rest):  # type: ignore[no-untyped-def]
    """Add ``scale <z, x>`` over some dimensions to ``rest``, for each observed column."""
    for i in range(n):
        score = 0.0
        for c in range(m):
            score += fixed[columns[first + i], start + c] * x[c]
        rest[i] += scale * score


@compiled(fast_math=True)
def solve_short(offsets, columns, fixed, base, reg, gain, target, short, out, low, high):  # type: ignore[no-untyped-def]
    """Rows of fewer than ``short`` columns, exactly: ``x = D⁻¹ Zᵀ (I + gain Z D⁻¹ Zᵀ)⁻¹ target``."""
    width = fixed.shape[1]
    room = (_longest(offsets, low, high, short) + 3) // 4 * 4
    w, k, y = np.zeros((room, width)), np.empty((room, room)), np.empty(room)
    root, x = np.empty(width), np.empty(width)
    for row in range(low, high):
        first, n = offsets[row], offsets[row + 1] - offsets[row]
        if n >= short:
            continue
        for c in range(width):
            root[c] = 1.0 / np.sqrt(base[c] + reg[row])
        for i in range(n):
            for c in range(width):
                w[i, c] = fixed[columns[first + i], c] * root[c]
        m = (n + 3) // 4 * 4
        w[n:m], k[:m, :m], y[:n] = 0.0, 0.0, target
        _add_products(w, m, width, k)
        for i in range(n):
            for j in range(i + 1):
                k[i, j] *= gain
            k[i, i] += 1.0
        _solve_lower(k, n, y)
        x[:] = 0.0
        for i in range(n):
            for c in range(width):
                x[c] += y[i] * w[i, c]
        for c in range(width):
            out[row, c] = x[c] * root[c]


@compiled(fast_math=True)
def solve_by_blocks(offsets, columns, fixed, base, reg, gain, target, short, size, out, low, high):  # type: ignore[no-untyped-def]
    """Rows of ``short`` columns or more: one pass of exact steps over blocks of ``size`` dimensions (all of them: exact)."""
    width, longest = fixed.shape[1], _longest(offsets, low, high, np.iinfo(np.int64).max)
    if longest < short:
        return
    room = (size + 3) // 4 * 4
    z, k, y = np.zeros((room, PIECE)), np.empty((room, room)), np.empty(room)
    rest = np.empty(longest)
    for row in range(low, high):
        first, n = offsets[row], offsets[row + 1] - offsets[row]
        if n < short:
            continue
        x = out[row]
        if n == 0 or size == width:
            x[:] = 0.0
        rest[:n] = target
        _add_scores(fixed, columns, first, n, 0, width, x, -gain, rest)
        for start in range(0, width, size):
            m = min(size, width - start)
            k[:], y[:] = 0.0, 0.0
            _add_block(fixed, columns, first, n, start, m, rest, z, k, y)
            for i in range(m):
                for j in range(i + 1):
                    k[i, j] *= gain
                k[i, i] += base[start + i] + reg[row]
                y[i] -= (base[start + i] + reg[row]) * x[start + i]
            _solve_lower(k, m, y)
            for i in range(m):
                x[start + i] += y[i]
            if size < width:
                _add_scores(fixed, columns, first, n, start, m, y, -gain, rest)


@compiled(fast_math=True)
def _add_block(fixed, columns, first, n, start, m, rest, z, k, y):  # type: ignore[no-untyped-def]
    """Add the Gram matrix of some dimensions of the observed vectors, and their sum weighted by ``rest``."""
    for at in range(0, n, PIECE):
        count = min(PIECE, n - at)
        for i in range(count):
            row = fixed[columns[first + at + i]]
            for c in range(m):
                z[c, i] = row[start + c]
                y[c] += rest[at + i] * row[start + c]
        z[m:] = 0.0
        _add_products(z, (m + 3) // 4 * 4, count, k)
