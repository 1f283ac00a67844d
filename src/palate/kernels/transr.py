"""TransR's loss with all its gradients, in one pass over the triples of a batch.

    g(h, r, t) = |W_r (x_h - x_t) + e_r|²
    L = w Σ softplus( g(h, r, t) - g(h, r, t') ) + w reg/2 Σ (|x_h|² + |x_t|² + |x_t'|² + |e_r|²)

The triples come sorted by relation; those of one relation go through its matrix together, in blocks that stay in the cache.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from palate.kernels.compile import compiled
from palate.kernels.vectors import WIDE, filled_up, outer, product

#: Triples of a block.
ROWS = 64


def transr_pass_reference(
    x: np.ndarray, moves: np.ndarray, matrices: np.ndarray, triples: Sequence[np.ndarray], reg: float, weight: float
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """Return the loss and its gradients by ``x``, ``moves`` and ``matrices``, triple by triple.

    Parameters
    ----------
    x, moves, matrices
        ``float32[n, d]``, ``float32[R, k]`` and ``float32[R, k, d]``.
    triples
        ``int[B]`` heads, relations (ascending), tails, and rows that stand in the tail's place.
    reg, weight
        Weight of the squared sizes, and ``w``, that of all.
    """
    pull, total, by_x, by_moves, by_matrices = reg * weight, 0.0, *(np.zeros_like(a) for a in (x, moves, matrices))
    for h, r, t, o in zip(*triples, strict=True):
        near, far = x[h] - x[t], x[h] - x[o]
        d, d_other = (matrices[r] @ between + moves[r] for between in (near, far))
        gap = float(np.square(d).sum()) - float(np.square(d_other).sum())
        total += weight * np.logaddexp(0, gap) + pull / 2 * sum(float(np.square(a).sum()) for a in (x[h], x[t], x[o], moves[r]))
        d, d_other = (np.float32(2 * weight * np.exp(-np.logaddexp(0, -gap))) * a for a in (d, d_other))
        by_moves[r] += d - d_other + np.float32(pull) * moves[r]
        by_matrices[r] += np.outer(d, near) - np.outer(d_other, far)
        by_tail, by_other = -d @ matrices[r], d_other @ matrices[r]
        for row, slope in ((h, -by_tail - by_other), (t, by_tail), (o, by_other)):
            by_x[row] += slope + np.float32(pull) * x[row]
    return float(total), by_x, by_moves, by_matrices


def transr_pass(
    x: np.ndarray, moves: np.ndarray, matrices: np.ndarray, triples: Sequence[np.ndarray], reg: float, weight: float
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """As :func:`transr_pass_reference`, fast; triples are added in order, by one thread."""
    relations, k, d = matrices.shape
    by_x, by_moves = np.zeros(x.shape, np.float32), np.zeros(moves.shape, np.float32)
    by_matrices = np.zeros((relations, filled_up(k, WIDE), filled_up(d, WIDE)), np.float32)
    total = _transr(x, moves, matrices, *triples, np.float32(weight), np.float32(reg * weight), by_x, by_moves, by_matrices)
    if by_matrices.shape != matrices.shape:
        by_matrices = np.ascontiguousarray(by_matrices[:, :k, :d])
    return float(total), by_x, by_moves, by_matrices


@compiled()
def _transr(x, moves, matrices, heads, relations, tails, others, weight, pull, by_x, by_moves, by_matrices):  # type: ignore[no-untyped-def]
    _, k, d = matrices.shape
    tall, wide = by_matrices.shape[1:]
    there, back = np.zeros((d, tall), np.float32), np.zeros((k, wide), np.float32)
    move, nothing = np.zeros(tall, np.float32), np.zeros(wide, np.float32)
    near, far = np.zeros((ROWS, wide), np.float32), np.zeros((ROWS, wide), np.float32)
    first, second = np.empty((ROWS, tall), np.float32), np.empty((ROWS, tall), np.float32)
    by_near, by_far = np.empty((ROWS, wide), np.float32), np.empty((ROWS, wide), np.float32)
    plus, minus = np.float32(1), np.float32(-1)
    total, known, low = 0.0, -1, 0
    while low < len(heads):
        r, rows = relations[low], 1
        while rows < ROWS and low + rows < len(heads) and relations[low + rows] == r:
            rows += 1
        if r != known:
            known = r
            move[:k] = moves[r]
            back[:, :d] = matrices[r]
            there[:, :k] = matrices[r].T
        for at in range(rows):
            _between(x[heads[low + at]], x[tails[low + at]], near[at])
            _between(x[heads[low + at]], x[others[low + at]], far[at])
        product(near, there, move, first, rows)
        product(far, there, move, second, rows)
        for at in range(rows):
            total += weight * _slope(first[at], second[at], weight, by_moves[r])
        outer(first, near, by_matrices[r], rows)
        outer(second, far, by_matrices[r], rows)
        product(first, back, nothing, by_near, rows)
        product(second, back, nothing, by_far, rows)
        for at in range(rows):
            h, t, o = heads[low + at], tails[low + at], others[low + at]
            size = _give(by_near[at], minus, x[t], pull, by_x[t]) + _give(by_far[at], minus, x[o], pull, by_x[o])
            _add(by_far[at], by_near[at])
            size += _give(by_near[at], plus, x[h], pull, by_x[h]) + _give(nothing, plus, moves[r], pull, by_moves[r])
            total += pull / 2 * size
        low += rows
    return total


@compiled(fast_math=True)
def _between(a, b, out):  # type: ignore[no-untyped-def]
    for c in range(len(a)):
        out[c] = a[c] - b[c]


@compiled()
def _slope(d, other, weight, by_move):  # type: ignore[no-untyped-def]
    """Turn two moved differences into the gradients by them, weighted; return the triple's part of the sum."""
    gap = np.float64(_gap(d, other))
    small = np.exp(-abs(gap))
    share = 1 / (1 + small) if gap > 0 else small / (1 + small)
    slope = np.float32(2 * share * weight)
    for c in range(len(d)):
        d[c] *= slope
        other[c] *= -slope
    for c in range(len(by_move)):
        by_move[c] += d[c] + other[c]
    return max(gap, 0.0) + np.log1p(small)


@compiled(fast_math=True)
def _gap(d, other):  # type: ignore[no-untyped-def]
    gap = np.float32(0)
    for c in range(len(d)):
        gap += d[c] * d[c] - other[c] * other[c]
    return gap


@compiled(fast_math=True)
def _give(slope, sign, row, pull, out):  # type: ignore[no-untyped-def]
    """Add the gradient by a row, and what pulls it to zero; return its squared size."""
    size = np.float32(0)
    for c in range(len(row)):
        size += row[c] * row[c]
        out[c] += sign * slope[c] + pull * row[c]
    return np.float64(size)


@compiled(fast_math=True)
def _add(a, out):  # type: ignore[no-untyped-def]
    for c in range(len(out)):
        out[c] += a[c]
