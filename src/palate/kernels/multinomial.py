"""The softmax of people over the whole catalogue, with its gradients, in bounded memory.

    L = -1/P Σ_u Σ_{i in row u} ln( exp<q_u, v_i> / Σ_j exp<q_u, v_j> ),   P = number of pairs

Blocks of people meet panels of columns: scores, their exponentials and sums, and both gradients are made while the block is in
the cache, and the scores never exist whole. People are dealt to a fixed number of parts with gradient sums of their own, so
the bits don't depend on the number of threads.
"""

from __future__ import annotations

import numpy as np

from palate.kernels.compile import compiled
from palate.kernels.spans import each_span
from palate.kernels.vectors import (
    BYTES,
    TALL,
    WIDE,
    add,
    exponential,
    largest,
    load,
    outer,
    product,
    spread,
    store,
    widened,
    zeros,
)

#: Bytes that a block of scores may take, and most rows of one.
BLOCK_BYTES, ROWS = 2**20, 64
#: Parts that people are dealt into.
PARTS = 4


def multinomial_rows_reference(
    q: np.ndarray, v: np.ndarray, offsets: np.ndarray, columns: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the loss, and its gradients by ``q`` and ``v``, from all scores at once.

    Parameters
    ----------
    q, v
        ``float32[n, d]`` people and ``float32[m, d]`` columns, ``m >= 1``.
    offsets, columns
        ``int64[n + 1]`` and ``int[P]``: the pairs of each person; a pair appears once.
    """
    scores = (q @ v.T).astype(np.float64)
    counts, rows = np.diff(offsets), np.repeat(np.arange(len(q)), np.diff(offsets))
    top = scores.max(1)
    mass = np.exp(scores - top[:, None])
    total = float((counts * (top + np.log(mass.sum(1)))).sum() - scores[rows, columns].sum())
    slope = mass * (counts / mass.sum(1))[:, None]
    slope[rows, columns] -= 1
    pairs = max(1, len(columns))
    return total / pairs, (slope @ v / pairs).astype(np.float32), (slope.T @ q / pairs).astype(np.float32)


def multinomial_rows(
    q: np.ndarray, v: np.ndarray, offsets: np.ndarray, columns: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """As :func:`multinomial_rows_reference`, fast."""
    (n, d), pairs = q.shape, max(1, len(columns))
    wide = widened(v, rows=WIDE)
    panels = np.ascontiguousarray(wide.reshape(-1, WIDE, wide.shape[1])[:, :, :d].transpose(0, 2, 1))
    height = int(np.clip(BLOCK_BYTES // (4 * len(wide)) // TALL * TALL, TALL, ROWS))
    by_q, sums, losses = np.empty((n, d), np.float32), np.zeros((PARTS, *wide.shape), np.float32), np.zeros(PARTS)
    bounds = np.linspace(0, n, PARTS + 1).astype(np.int64)
    q, columns = np.ascontiguousarray(q), np.asarray(columns, np.int64)

    def run(low: int, high: int) -> None:
        for part in range(low, high):
            rows = int(bounds[part]), int(bounds[part + 1])
            losses[part] = _rows(q, v, wide, panels, offsets, columns, height, by_q, sums[part], *rows)

    each_span(run, np.arange(PARTS + 1), 3 * n * v.size)
    scale = np.float32(1 / pairs)
    by_q *= scale
    return float(losses.sum() / pairs), by_q, sums.sum(0)[: len(v), :d] * scale


@compiled()
def _rows(q, v, wide, panels, offsets, columns, height, by_q, by_v, low, high):  # type: ignore[no-untyped-def]
    d, total = q.shape[1], 0.0
    block = np.empty((len(panels), height, WIDE), np.float32)
    own, by_own = np.zeros((height, wide.shape[1]), np.float32), np.zeros((height, wide.shape[1]), np.float32)
    nothing, mass = np.zeros(WIDE, np.float32), np.empty(height, np.float32)
    for start in range(low, high, height):
        rows = min(height, high - start)
        for r in range(rows):
            own[r, :d] = q[start + r]
            by_own[r, :] = 0
        for p in range(len(panels)):
            product(own, panels[p], nothing, block[p], rows)
        block[len(panels) - 1, :, len(v) - (len(panels) - 1) * WIDE :] = -np.inf
        for r in range(rows):
            first, last = offsets[start + r], offsets[start + r + 1]
            count = last - first
            for at in range(first, last):
                total -= block[columns[at] // WIDE, r, columns[at] % WIDE]
            top = _highest(block, r)
            mass[r] = _exponentials(block, r, top)
            total += count * (np.float64(top) + np.log(np.float64(mass[r])))
            own[r, :d] *= np.float32(count / mass[r])
        for p in range(len(panels)):
            product(block[p], wide[p * WIDE : (p + 1) * WIDE], by_own, by_own, rows)
            outer(block[p], own, by_v[p * WIDE : (p + 1) * WIDE], rows)
        for r in range(rows):
            first, last = offsets[start + r], offsets[start + r + 1]
            by_q[start + r] = by_own[r, :d] * np.float32((last - first) / mass[r])
            for at in range(first, last):
                _pair(q[start + r], v[columns[at]], by_q[start + r], by_v[columns[at]])
    return total


@compiled()
def _highest(block, r):  # type: ignore[no-untyped-def]
    at, step = block.ctypes.data + r * 2 * BYTES, block.shape[1] * 2 * BYTES
    left, right = load(at), load(at + BYTES)
    for _ in range(1, block.shape[0]):
        at += step
        left, right = largest(load(at), left), largest(load(at + BYTES), right)
    lanes = np.empty(WIDE, np.float32)
    store(lanes.ctypes.data, left)
    store(lanes.ctypes.data + BYTES, right)
    return lanes.max()


@compiled()
def _exponentials(block, r, top):  # type: ignore[no-untyped-def]
    """Turn a row's scores into ``exp(score - top)``; return their sum."""
    less = spread(-top)
    at, step = block.ctypes.data + r * 2 * BYTES, block.shape[1] * 2 * BYTES
    left = right = zeros()
    for _ in range(block.shape[0]):
        a, b = exponential(add(load(at), less)), exponential(add(load(at + BYTES), less))
        store(at, a)
        store(at + BYTES, b)
        left, right = add(left, a), add(right, b)
        at += step
    lanes = np.empty(WIDE, np.float32)
    store(lanes.ctypes.data, left)
    store(lanes.ctypes.data + BYTES, right)
    return lanes.sum()


@compiled()
def _pair(q, v, by_q, by_v):  # type: ignore[no-untyped-def]
    """Take a pair's own rows off the gradients."""
    for c in range(len(q)):
        by_q[c] -= v[c]
        by_v[c] -= q[c]
