"""Sums over pairs of the vectors of a row, in time linear in their number, and their gradient: one pass through memory each.

s = Σ_i v_i        Σ_{i<j} v_i ⊙ v_j = ½ (s ⊙ s - Σ_i v_i ⊙ v_i)        its gradient by v_i:  g ⊙ (s - v_i)
"""

from __future__ import annotations

import numpy as np

from palate.kernels.compile import compiled
from palate.kernels.spans import each_span, even_rows


def pair_sums_reference(fields: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ``float32[n, d]`` sums of products of pairs, and sums, of ``float32[n, f, d]``."""
    sums: np.ndarray = fields.sum(1)
    return np.asarray(0.5 * (sums**2 - (fields**2).sum(1)), np.float32), sums


def pair_sums(fields: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`pair_sums_reference`, fast."""
    n, _, dim = fields.shape
    out, sums = np.empty((n, dim), np.float32), np.zeros((n, dim), np.float32)
    each_span(lambda low, high: _sums(fields, out, sums, low, high), even_rows(n), 2 * fields.size)
    return out, sums


def pair_slopes_reference(grad: np.ndarray, fields: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Return ``float32[n, f, d]``: the gradient by each vector, from that by the sums of products (``float32[n, d]``)."""
    found: np.ndarray = grad[:, None] * (sums[:, None] - fields)
    return found


def pair_slopes(grad: np.ndarray, fields: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """As :func:`pair_slopes_reference`, fast."""
    out = np.empty_like(fields)
    each_span(lambda low, high: _slopes(grad, fields, sums, out, low, high), even_rows(len(fields)), 2 * fields.size)
    return out


@compiled()
def _sums(fields, out, sums, low, high):  # type: ignore[no-untyped-def]
    for row in range(low, high):
        total, squares = sums[row], out[row]
        squares[:] = 0
        for f in range(fields.shape[1]):
            vector = fields[row, f]
            for c in range(len(vector)):
                total[c] += vector[c]
                squares[c] += vector[c] * vector[c]
        for c in range(len(total)):
            squares[c] = np.float32(0.5) * (total[c] * total[c] - squares[c])


@compiled()
def _slopes(grad, fields, sums, out, low, high):  # type: ignore[no-untyped-def]
    for row in range(low, high):
        slope, total = grad[row], sums[row]
        for f in range(fields.shape[1]):
            vector, into = fields[row, f], out[row, f]
            for c in range(len(vector)):
                into[c] = slope[c] * (total[c] - vector[c])
