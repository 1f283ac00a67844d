"""Weighted logistic loss of inner products: sparse positives, and a block of negatives that all rows share, in one pass.

    L = Σ_r Σ_j t_rj softplus(-s_rj)  +  Σ_r Σ_{j in negatives, r has not j} (a_r + b_r c_j) softplus(s_rj),   s = p qᵀ

Rows are dealt to a fixed number of parts with sums of their own, so the bits don't depend on threads. Blocks of scores stay in
the cache and are turned into their gradient in place: people x negatives never exist whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palate.kernels.compile import compiled
from palate.kernels.inner import dot
from palate.kernels.spans import each_span
from palate.runtime import single_threaded_blas

#: Bytes that a block of scores may take.
BLOCK_BYTES = 2**20
#: Parts that rows are dealt into.
PARTS = 4
#: Stands for a score that adds nothing to the loss of a negative.
NEVER = np.float32(-1e30)


@dataclass(frozen=True, eq=False)
class Weighted:
    """Weights of one batch of ``B`` rows over ``n`` vectors.

    Attributes
    ----------
    offsets, columns, weights
        Positives as CSR rows: ``int64[B + 1]``, ``int32[m]``, ``float32[m]`` (``t``).
    negatives
        ``int64[K]`` distinct columns that all rows share.
    had_offsets, had
        CSR rows of the columns that are nobody's negative in that row.
    a, b, c
        ``float32[B]``, ``float32[B]``, ``float32[n]``.
    """

    offsets: np.ndarray
    columns: np.ndarray
    weights: np.ndarray
    negatives: np.ndarray
    had_offsets: np.ndarray
    had: np.ndarray
    a: np.ndarray
    b: np.ndarray
    c: np.ndarray


def logistic_reference(p: np.ndarray, q: np.ndarray, batch: Weighted) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the loss and its gradients by ``p`` (``float32[B, d]``) and ``q`` (``float32[n, d]``), by the plain definition."""
    t, w = np.zeros((len(p), len(q))), np.zeros((len(p), len(q)))
    for row in range(len(p)):
        own = slice(batch.offsets[row], batch.offsets[row + 1])
        t[row, batch.columns[own]] = batch.weights[own]
        w[row, batch.negatives] = batch.a[row] + batch.b[row] * batch.c[batch.negatives]
        w[row, batch.had[batch.had_offsets[row] : batch.had_offsets[row + 1]]] = 0
    s = p.astype(np.float64) @ q.astype(np.float64).T
    loss = float((t * np.logaddexp(0, -s) + w * np.logaddexp(0, s)).sum())
    slope = w / (1 + np.exp(-s)) - t / (1 + np.exp(s))
    return loss, (slope @ q).astype(np.float32), (slope.T @ p).astype(np.float32)


def logistic_pass(p: np.ndarray, q: np.ndarray, batch: Weighted) -> tuple[float, np.ndarray, np.ndarray]:
    """As :func:`logistic_reference`, fast."""
    d_p, d_q = np.zeros_like(p), np.zeros_like(q)
    loss = float(_positives(batch.offsets, batch.columns, batch.weights, p, q, d_p, d_q))
    k = len(batch.negatives)
    if k == 0 or len(p) == 0:
        return loss, d_p, d_q
    place = np.full(len(q), -1, np.int32)
    place[batch.negatives] = np.arange(k, dtype=np.int32)
    others, weights = q[batch.negatives], batch.c[batch.negatives]
    sums, losses = np.zeros((PARTS, k, p.shape[1]), np.float32), np.zeros(PARTS)
    bounds = np.linspace(0, len(p), PARTS + 1).astype(np.int64)
    height = max(1, BLOCK_BYTES // (4 * k))

    def run(low: int, high: int) -> None:
        for part in range(low, high):
            for start in range(bounds[part], bounds[part + 1], height):
                rows = slice(start, min(start + height, int(bounds[part + 1])))
                block = p[rows] @ others.T
                _silence(batch.had_offsets[start : rows.stop + 1], batch.had, place, block)
                losses[part] += _slopes(block, batch.a[rows, None] + batch.b[rows, None] * weights)
                d_p[rows] += block @ others
                sums[part] += block.T @ p[rows]

    with single_threaded_blas():
        each_span(run, np.arange(PARTS + 1), len(p) * k * p.shape[1])
    d_q[batch.negatives] += sums.sum(0)
    return loss + float(losses.sum()), d_p, d_q


def _slopes(block: np.ndarray, weights: np.ndarray) -> float:
    """Turn scores into the gradient of the weighted sum of ``softplus(s)``, in place; return the sum."""
    tail = np.exp(-np.abs(block))
    body = 1 + tail
    loss = float((weights * (np.maximum(block, 0) + np.log(body))).sum(dtype=np.float64))
    np.divide(np.where(block > 0, np.float32(1), tail), body, out=block)
    block *= weights
    return loss


@compiled()
def _silence(offsets, had, place, block):  # type: ignore[no-untyped-def]
    for row in range(block.shape[0]):
        for at in range(offsets[row], offsets[row + 1]):
            column = place[had[at]]
            if column >= 0:
                block[row, column] = NEVER


@compiled(fast_math=True)
def _positives(offsets, columns, weights, p, q, d_p, d_q):  # type: ignore[no-untyped-def]
    total = 0.0
    for row in range(p.shape[0]):
        for at in range(offsets[row], offsets[row + 1]):
            column, t = columns[at], weights[at]
            s = dot(p[row], q[column])
            tail = np.exp(-abs(s))
            total += t * (max(-s, np.float32(0.0)) + np.log1p(tail))
            slope = -t * (tail if s > 0 else np.float32(1.0)) / (np.float32(1.0) + tail)
            for c in range(p.shape[1]):
                d_p[row, c] += slope * q[column, c]
                d_q[column, c] += slope * p[row, c]
    return total
