"""Sparse linear regression of every column of a matrix on other columns: elastic net by coordinate descent.

For each column ``j`` with candidates ``C_j`` (never ``j`` itself):

    min_w  1/2 |x_j - Σ_{i in C_j} w_i x_i|² + l1 |w|₁ + l2/2 |w|²,      w >= 0 where asked for

A coordinate's minimiser, the others held, is ``S(ρ_i, l1) / (|x_i|² + l2)`` with ``ρ_i = <x_i, residual> + |x_i|² w_i``
and ``S`` the soft threshold. The residual is kept; a step costs the entries of one column. Columns are independent, so
results don't depend on the number of threads.
"""

from __future__ import annotations

import numba as nb
import numpy as np
from scipy import sparse

from palate.kernels.compile import compiled
from palate.runtime import threads


def regress_columns_reference(
    matrix: sparse.csc_matrix, candidates: np.ndarray, l1: float, l2: float, *, positive: bool, rounds: int, tolerance: float
) -> np.ndarray:
    """Return ``float64[n, m]`` weights aligned with ``candidates`` (``int32[n, m]``, -1 is padding): the plain form."""
    x = matrix.toarray().astype(np.float64)
    out = np.zeros(candidates.shape)
    for j in range(x.shape[1]):
        own = candidates[j][candidates[j] >= 0]
        w, residual = np.zeros(len(own)), x[:, j].copy()
        for _ in range(rounds):
            largest = 0.0
            for at, i in enumerate(own):
                square = x[:, i] @ x[:, i]
                rho = x[:, i] @ residual + square * w[at]
                shrunk = np.sign(rho) * max(abs(rho) - l1, 0.0) / (square + l2)
                new = max(shrunk, 0.0) if positive else shrunk
                residual -= (new - w[at]) * x[:, i]
                largest = max(largest, abs(new - w[at]))
                w[at] = new
            if largest < tolerance:
                break
        out[j, : len(own)] = w
    return out


def regress_columns(
    matrix: sparse.csc_matrix, candidates: np.ndarray, l1: float, l2: float, *, positive: bool, rounds: int, tolerance: float
) -> np.ndarray:
    """As :func:`regress_columns_reference`, fast; ``float32[n, m]``. Memory: one residual a thread."""
    out = np.zeros(candidates.shape, np.float32)
    n = len(candidates)
    if out.size:
        order = np.argsort(-np.diff(matrix.indptr), kind="stable")
        data = matrix.data.astype(np.float32)
        _regress(
            order, min(threads(), n), matrix.indptr, matrix.indices, data, matrix.shape[0], candidates, l1, l2, positive,
            rounds, tolerance, out,
        )  # fmt: skip
    return out


@compiled(parallel=True)
def _regress(  # type: ignore[no-untyped-def]
    order, lanes, starts, rows, data, n_rows, candidates, l1, l2, positive, rounds, tolerance, out
):
    n = candidates.shape[0]
    square = np.zeros(starts.shape[0] - 1, np.float64)
    for i in range(square.shape[0]):
        for at in range(starts[i], starts[i + 1]):
            square[i] += np.float64(data[at]) * data[at]
    for lane in nb.prange(lanes):
        residual = np.zeros(n_rows, np.float64)
        for place in range(lane, n, lanes):
            j = order[place]
            residual[:] = 0.0
            for at in range(starts[j], starts[j + 1]):
                residual[rows[at]] = data[at]
            for _ in range(rounds):
                if _round(candidates[j], out[j], residual, starts, rows, data, square, l1, l2, positive) < tolerance:
                    break


@compiled()
def _round(own, w, residual, starts, rows, data, square, l1, l2, positive):  # type: ignore[no-untyped-def]
    """Go once over all coordinates; return the largest change."""
    largest = 0.0
    for at in range(own.shape[0]):
        i = own[at]
        if i < 0:
            break
        rho = square[i] * w[at]
        for e in range(starts[i], starts[i + 1]):
            rho += data[e] * residual[rows[e]]
        new = 0.0
        if rho > l1:
            new = (rho - l1) / (square[i] + l2)
        elif rho < -l1 and not positive:
            new = (rho + l1) / (square[i] + l2)
        change = np.float32(new) - w[at]
        if change != 0.0:
            for e in range(starts[i], starts[i + 1]):
                residual[rows[e]] -= change * data[e]
            w[at] += change
            largest = max(largest, abs(change))
    return largest
