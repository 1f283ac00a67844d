"""Segments: the edges of a graph, grouped by their head (CSR), and what attention over them needs.

    softmax       p_e = exp(s_e) / Σ_{f of the same head} exp(s_f)
    its gradient  ds_e = p_e (dp_e - Σ_{f of the same head} p_f dp_f)
    inner         w_e = <a_head(e), b_tail(e)>

A head without edges has an empty segment. Heads are cut into spans of equal work that threads take one after another; a segment
is summed by one thread in the order of its edges, so the bits don't depend on the number of threads. The weighted sum itself,
``Σ p_e x_tail(e)``, is :func:`palate.kernels.spmm.spmm`.
"""

from __future__ import annotations

import itertools

import numpy as np

from palate.kernels.compile import compiled
from palate.kernels.spans import each_span, even_spans

#: Multiplications that one exponential counts for.
EXP = 16


def segment_softmax_reference(offsets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return ``float32[m]``: the softmax of the scores of each segment.

    Parameters
    ----------
    offsets
        ``int64[n + 1]`` bounds of the segments.
    scores
        ``float32[m]``.
    """
    out = np.zeros(len(scores), np.float32)
    for low, high in itertools.pairwise(offsets):
        if low < high:
            mass = np.exp(scores[low:high] - scores[low:high].max())
            out[low:high] = mass / mass.sum()
    return out


def segment_softmax(offsets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """As :func:`segment_softmax_reference`, fast."""
    out = np.empty(len(scores), np.float32)
    each_span(lambda a, b: _softmax(offsets, scores, out, a, b), even_spans(offsets), EXP * len(scores))
    return out


def segment_softmax_slope_reference(offsets: np.ndarray, shares: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Return ``float32[m]``: the gradient by the scores, from the softmax and the gradient by it."""
    out = np.zeros(len(shares), np.float32)
    for low, high in itertools.pairwise(offsets):
        p, d = shares[low:high], slope[low:high]
        out[low:high] = p * (d - (p * d).sum())
    return out


def segment_softmax_slope(offsets: np.ndarray, shares: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """As :func:`segment_softmax_slope_reference`, fast."""
    out = np.empty(len(shares), np.float32)
    each_span(lambda a, b: _slope(offsets, shares, slope, out, a, b), even_spans(offsets), 4 * len(shares))
    return out


def edge_inner_reference(offsets: np.ndarray, tails: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return ``float32[m]``: the inner product of the head's row of ``a`` and the tail's row of ``b``, for every edge.

    Parameters
    ----------
    offsets, tails
        ``int64[n + 1]`` and ``int32[m]``, the edges by head.
    a, b
        ``float32[n, d]`` and ``float32[columns, d]``.
    """
    heads = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    found: np.ndarray = (a[heads] * b[tails]).sum(1, dtype=np.float32)
    return found


def edge_inner(offsets: np.ndarray, tails: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """As :func:`edge_inner_reference`, fast."""
    out = np.empty(len(tails), np.float32)
    each_span(lambda low, high: _inner(offsets, tails, a, b, out, low, high), even_spans(offsets), len(tails) * a.shape[1])
    return out


@compiled()
def _softmax(offsets, scores, out, first, last):  # type: ignore[no-untyped-def]
    for row in range(first, last):
        low, high = offsets[row], offsets[row + 1]
        if low == high:
            continue
        top = scores[low]
        for at in range(low + 1, high):
            top = max(top, scores[at])
        mass = 0.0
        for at in range(low, high):
            out[at] = np.exp(scores[at] - top)
            mass += out[at]
        for at in range(low, high):
            out[at] /= mass


@compiled()
def _slope(offsets, shares, slope, out, first, last):  # type: ignore[no-untyped-def]
    for row in range(first, last):
        mean = 0.0
        for at in range(offsets[row], offsets[row + 1]):
            mean += shares[at] * slope[at]
        for at in range(offsets[row], offsets[row + 1]):
            out[at] = shares[at] * (slope[at] - mean)


@compiled(fast_math=True)
def _inner(offsets, tails, a, b, out, first, last):  # type: ignore[no-untyped-def]
    for row in range(first, last):
        for at in range(offsets[row], offsets[row + 1]):
            total = np.float32(0.0)
            tail = tails[at]
            for c in range(a.shape[1]):
                total += a[row, c] * b[tail, c]
            out[at] = total
