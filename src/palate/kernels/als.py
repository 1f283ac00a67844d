"""Least squares of one side of a factorisation against the other: the half sweep of iALS.

For each row ``r`` with entries ``E_r`` (columns ``c`` with strengths ``a_c >= 0`` and targets ``b_c``), the minimiser of

    Σ_{c in E_r} (a_c <x, v_c>² - 2 b_c <x, v_c>) + w0 Σ_{all c} <x, v_c>² + reg_r |x|²

is ``(w0 G + Σ a_c v_c v_cᵀ + reg_r I)⁻¹ Σ b_c v_c`` with ``G = VᵀV``. In the eigenbasis of ``G`` (one
``d x d`` decomposition a half sweep, :func:`rotate`) the dense part of every row's system is a diagonal, and what remains
costs only the entries of the row:

* a *direct* solution of ``|E_r| x |E_r|`` equations (Woodbury) where the row is short, of ``d x d`` where it is long;
* *conjugate gradients*, ``2 |E_r| d`` products a step instead of ``d² + 2 |E_r| d``, with the diagonal as preconditioner;
* *blocks* of coordinates in turn (iALS++).

Rows are independent, so results don't depend on the number of threads.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from palate.kernels.compile import compiled
from palate.runtime import threads

#: Ways to solve a row.
DIRECT, CONJUGATE, BLOCK = 0, 1, 2


def rotate(vectors: np.ndarray, *others: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Turn ``vectors`` (and ``others``, by the same rotation) into the eigenbasis of their Gram matrix.

    Products between the arrays stay the same.

    Returns
    -------
    eigenvalues, rotated
        ``float64[d]`` of ``VᵀV``, and the rotated arrays (``vectors`` first).
    """
    gram = (vectors.T @ vectors).astype(np.float64)
    values, basis = np.linalg.eigh(gram)
    turn = basis.astype(np.float32)
    return np.maximum(values, 0.0), tuple(np.ascontiguousarray(x @ turn, np.float32) for x in (vectors, *others))


def solve_rows_reference(
    offsets: np.ndarray, columns: np.ndarray, a: np.ndarray, b: np.ndarray, vectors: np.ndarray, w0: float, reg: np.ndarray
) -> np.ndarray:
    """Return ``float64[n, d]``, every row solved whole in double precision: the plain definition."""
    v = vectors.astype(np.float64)
    gram, out = w0 * v.T @ v, np.zeros((len(offsets) - 1, v.shape[1]))
    for row in range(len(out)):
        own = slice(offsets[row], offsets[row + 1])
        near = v[columns[own]]
        system = gram + (near.T * a[own]) @ near + reg[row] * np.eye(v.shape[1])
        out[row] = np.linalg.solve(system, near.T @ b[own])
    return out


def solve_rows(
    offsets: np.ndarray,
    columns: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    vectors: np.ndarray,
    eigenvalues: np.ndarray,
    w0: float,
    reg: np.ndarray,
    start: np.ndarray,
    *,
    method: int = CONJUGATE,
    steps: int = 3,
    block: int = 64,
) -> np.ndarray:
    """As :func:`solve_rows_reference`, fast, in the eigenbasis of ``VᵀV`` (see :func:`rotate`).

    Parameters
    ----------
    offsets, columns, a, b
        Entries of each row: ``int64[n + 1]``, ``int32[m]``, ``float32[m]``, ``float32[m]``.
    vectors
        ``float32[N, d]``, rotated.
    eigenvalues
        ``float64[d]`` of ``VᵀV``.
    reg
        ``float32[n]``.
    start
        ``float32[n, d]``, rotated: where iterative methods begin. Overwritten and returned.
    method
        :data:`DIRECT`, :data:`CONJUGATE` or :data:`BLOCK`.
    steps
        Steps of conjugate gradients, or rounds over the blocks.
    block
        Coordinates a block.
    """
    x = np.ascontiguousarray(start, np.float32)
    if not len(x):
        return x
    lanes = min(threads(), len(x))
    order = np.argsort(-np.diff(offsets), kind="stable")
    dense = (w0 * eigenvalues).astype(np.float32)
    vectors, reg = np.ascontiguousarray(vectors, np.float32), np.ascontiguousarray(reg, np.float32)
    _solve(order, lanes, offsets, columns, a, b, vectors, dense, reg, x, method, steps, min(block, x.shape[1]))
    return x


@compiled(parallel=True)
def _solve(order, lanes, offsets, columns, a, b, vectors, dense, reg, x, method, steps, block):  # type: ignore[no-untyped-def]
    d = vectors.shape[1]
    for lane in nb.prange(lanes):
        longest = offsets[order[lane] + 1] - offsets[order[lane]]
        near = np.empty((longest, d), np.float32)
        diagonal = np.empty(d, np.float32)
        for at in range(lane, order.shape[0], lanes):
            row = order[at]
            low, high = offsets[row], offsets[row + 1]
            n = high - low
            if n == 0:
                x[row, :] = np.float32(0.0)
                continue
            for i in range(n):
                near[i, :] = vectors[columns[low + i]]
            for j in range(d):
                diagonal[j] = dense[j] + reg[row]
            if method == CONJUGATE:
                _conjugate(near[:n], a[low:high], b[low:high], diagonal, x[row], steps)
            elif method == BLOCK:
                _blocks(near[:n], a[low:high], b[low:high], diagonal, x[row], steps, block)
            elif n < d:
                _short(near[:n], a[low:high], b[low:high], diagonal, x[row])
            else:
                _long(near[:n], a[low:high], b[low:high], diagonal, x[row])


@compiled(fast_math=True)
def _apply(near, a, diagonal, p, out):  # type: ignore[no-untyped-def]
    """``out = diagonal * p + Nᵀ (a * (N p))``, four rows at a time."""
    n, d = near.shape
    for j in range(d):
        out[j] = diagonal[j] * p[j]
    whole = n - n % 4
    for i in range(0, whole, 4):
        r0, r1, r2, r3 = near[i], near[i + 1], near[i + 2], near[i + 3]
        s0, s1, s2, s3 = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        for j in range(d):
            q = p[j]
            s0 += r0[j] * q
            s1 += r1[j] * q
            s2 += r2[j] * q
            s3 += r3[j] * q
        s0, s1, s2, s3 = s0 * a[i], s1 * a[i + 1], s2 * a[i + 2], s3 * a[i + 3]
        for j in range(d):
            out[j] += s0 * r0[j] + s1 * r1[j] + s2 * r2[j] + s3 * r3[j]
    for i in range(whole, n):
        row, s = near[i], np.float32(0)
        for j in range(d):
            s += row[j] * p[j]
        s *= a[i]
        for j in range(d):
            out[j] += s * row[j]


@compiled(fast_math=True)
def _conjugate(near, a, b, diagonal, x, steps):  # type: ignore[no-untyped-def]
    """Preconditioned conjugate gradients from ``x``; the preconditioner is the system's own diagonal."""
    n, d = near.shape
    residual, z = np.empty(d, np.float32), np.empty(d, np.float32)
    p, q = np.empty(d, np.float32), np.empty(d, np.float32)
    inverse = diagonal.copy()
    _apply(near, a, diagonal, x, q)
    for j in range(d):
        residual[j] = -q[j]
    for i in range(n):
        row, bi, ai = near[i], b[i], a[i]
        for j in range(d):
            residual[j] += bi * row[j]
            inverse[j] += ai * row[j] * row[j]
    rz = np.float32(0)
    for j in range(d):
        inverse[j] = np.float32(1.0) / inverse[j]
        z[j] = residual[j] * inverse[j]
        p[j] = z[j]
        rz += residual[j] * z[j]
    for _ in range(steps):
        if rz < np.float32(1e-20):
            break
        _apply(near, a, diagonal, p, q)
        pq = np.float32(0)
        for j in range(d):
            pq += p[j] * q[j]
        step, new = rz / pq, np.float32(0)
        for j in range(d):
            x[j] += step * p[j]
            residual[j] -= step * q[j]
            z[j] = residual[j] * inverse[j]
            new += residual[j] * z[j]
        ratio = new / rz
        rz = new
        for j in range(d):
            p[j] = z[j] + ratio * p[j]


@compiled(fast_math=True)
def _short(near, a, b, diagonal, x):  # type: ignore[no-untyped-def]
    """Exact for fewer entries than dimensions: ``x = D⁻¹Nᵀ y`` with ``(I + A N D⁻¹ Nᵀ) y = b``, made symmetric by ``√a``."""
    n, d = near.shape
    system, y, root = np.empty((n, n), np.float32), np.empty(n, np.float32), np.empty(n, np.float32)
    scaled = np.empty((n, d), np.float32)
    for i in range(n):
        root[i] = np.sqrt(a[i])
        for j in range(d):
            scaled[i, j] = near[i, j] / diagonal[j]
    # With y = b - a s:  (I + √a K √a) (s √a) = √a K b,  K = N D⁻¹ Nᵀ,  s = N x.
    for i in range(n):
        total = np.float32(0)
        for k in range(n):
            s = np.float32(0)
            for j in range(d):
                s += scaled[i, j] * near[k, j]
            total += s * b[k]
            system[i, k] = s * root[i] * root[k]
        system[i, i] += np.float32(1.0)
        y[i] = total * root[i]
    _cholesky_solve(system, y)
    for j in range(d):
        x[j] = np.float32(0)
    for i in range(n):
        weight = b[i] - root[i] * y[i]
        for j in range(d):
            x[j] += weight * scaled[i, j]


@compiled(fast_math=True)
def _long(near, a, b, diagonal, x):  # type: ignore[no-untyped-def]
    """Exact by the ``d x d`` system."""
    n, d = near.shape
    system, y = np.zeros((d, d), np.float32), np.zeros(d, np.float32)
    for i in range(n):
        row, ai, bi = near[i], a[i], b[i]
        for j in range(d):
            y[j] += bi * row[j]
            s = ai * row[j]
            for k in range(j + 1):
                system[j, k] += s * row[k]
    for j in range(d):
        system[j, j] += diagonal[j]
    _cholesky_solve(system, y)
    x[:] = y


@compiled(fast_math=True)
def _cholesky_solve(system, y):  # type: ignore[no-untyped-def]
    """Solve in place a symmetric positive definite system given by its lower triangle."""
    n = system.shape[0]
    for i in range(n):
        row = system[i]
        for j in range(i):
            other, s = system[j], row[j]
            for k in range(j):
                s -= row[k] * other[k]
            row[j] = s / other[j]
        s = row[i]
        for k in range(i):
            s -= row[k] * row[k]
        row[i] = np.sqrt(s)
        s = y[i]
        for k in range(i):
            s -= row[k] * y[k]
        y[i] = s / row[i]
    for i in range(n - 1, -1, -1):
        y[i] /= system[i, i]
        s = y[i]
        for k in range(i):
            y[k] -= s * system[i, k]


@compiled(fast_math=True)
def _blocks(near, a, b, diagonal, x, rounds, block):  # type: ignore[no-untyped-def]
    """Solve blocks of coordinates in turn, the others held (iALS++); predictions are kept up to date."""
    n, d = near.shape
    predicted = np.zeros(n, np.float32)
    for i in range(n):
        for j in range(d):
            predicted[i] += near[i, j] * x[j]
    for _ in range(rounds):
        for first in range(0, d, block):
            width = min(block, d - first)
            system, y = np.zeros((width, width), np.float32), np.zeros(width, np.float32)
            for j in range(width):
                y[j] = -diagonal[first + j] * x[first + j]
                system[j, j] = diagonal[first + j]
            for i in range(n):
                row, ai, ri = near[i, first : first + width], a[i], b[i] - a[i] * predicted[i]
                for j in range(width):
                    y[j] += ri * row[j]
                    s = ai * row[j]
                    for k in range(j + 1):
                        system[j, k] += s * row[k]
            _cholesky_solve(system, y)
            for j in range(width):
                x[first + j] += y[j]
            for i in range(n):
                for j in range(width):
                    predicted[i] += near[i, first + j] * y[j]
