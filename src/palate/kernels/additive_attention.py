"""Additive attention over neighbours: a small network scores each of them, and their vectors are averaged by its softmax.

    s_e = Σ_c w_c relu(a_rc + b_jc)       p_e = exp(s_e) / Σ_{f of row r} exp(s_f)       out_r = Σ_e p_e v_j

for the edge ``e`` from row ``r`` to column ``j``. This is a two-layer network on ``[x_r; y_j]`` whose first layer has been
applied to rows and columns apart, so nothing as large as edges times width is ever held. A row without neighbours gives zero.

Rows (and, for the gradient by columns, columns) are cut into spans of equal work that threads take one after another; each is
summed by one thread in the order of its edges, so the bits don't depend on the number of threads.
"""

from __future__ import annotations

import numpy as np

from palate.kernels.compile import compiled
from palate.kernels.spans import each_span, even_spans

#: Multiplications that an edge costs for each number of its vectors.
COST = 4


def attend_reference(
    offsets: np.ndarray, columns: np.ndarray, a: np.ndarray, b: np.ndarray, w: np.ndarray, v: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``float32[n, d]`` averages and ``float32[m]`` weights of the edges, by the plain definition.

    Parameters
    ----------
    offsets, columns
        ``int64[n + 1]`` and ``int32[m]``: the neighbours of each row (CSR).
    a, b
        ``float32[n, h]`` of rows and ``float32[columns, h]`` of columns.
    w
        ``float32[h]``.
    v
        ``float32[columns, d]``.
    """
    out, shares = np.zeros((len(offsets) - 1, v.shape[1]), np.float32), np.zeros(len(columns), np.float32)
    for row in range(len(out)):
        span = slice(offsets[row], offsets[row + 1])
        near = columns[span]
        if len(near):
            scores = np.maximum(a[row] + b[near], 0) @ w
            mass = np.exp(scores - scores.max())
            shares[span] = mass / mass.sum()
            out[row] = shares[span] @ v[near]
    return out, shares


def attend(
    offsets: np.ndarray, columns: np.ndarray, a: np.ndarray, b: np.ndarray, w: np.ndarray, v: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`attend_reference`, fast."""
    out, shares = np.zeros((len(offsets) - 1, v.shape[1]), np.float32), np.empty(len(columns), np.float32)
    work = len(columns) * (a.shape[1] + v.shape[1]) * COST
    each_span(lambda low, high: _attend(offsets, columns, a, b, w, v, out, shares, low, high), even_spans(offsets), work)
    return out, shares


def attend_slope_reference(
    offsets: np.ndarray,
    columns: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    w: np.ndarray,
    v: np.ndarray,
    shares: np.ndarray,
    slope: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the gradients by ``a``, ``b``, ``w`` and ``v``, from the weights and the gradient by the output (``[n, d]``)."""
    by_a, by_b, by_w, by_v = (np.zeros_like(x) for x in (a, b, w, v))
    for row in range(len(offsets) - 1):
        span = slice(offsets[row], offsets[row + 1])
        near, p = columns[span], shares[span]
        inner = v[near] @ slope[row]
        by_score = p * (inner - (p * inner).sum())
        hidden = a[row] + b[near]
        back = by_score[:, None] * w * (hidden > 0)
        by_a[row] += back.sum(0)
        np.add.at(by_b, near, back)
        by_w += by_score @ np.maximum(hidden, 0)
        np.add.at(by_v, near, p[:, None] * slope[row])
    return by_a, by_b, by_w, by_v


def attend_slope(
    offsets: np.ndarray,
    columns: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    w: np.ndarray,
    v: np.ndarray,
    shares: np.ndarray,
    slope: np.ndarray,
    back: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """As :func:`attend_slope_reference`, fast.

    Parameters
    ----------
    back
        The edges by column: ``int64[columns + 1]`` offsets, ``int32[m]`` rows, and ``int64[m]`` places of these edges by row.
    """
    by_a, by_b, by_v = np.zeros_like(a), np.zeros_like(b), np.zeros_like(v)
    parts, by_score = np.zeros_like(a), np.empty(len(columns), np.float32)
    work = len(columns) * (a.shape[1] + v.shape[1]) * COST

    def rows(low: int, high: int) -> None:
        _row_slope(offsets, columns, a, b, w, v, shares, slope, by_a, parts, by_score, low, high)

    def others(low: int, high: int) -> None:
        _column_slope(*back, a, b, w, shares, slope, by_score, by_b, by_v, low, high)

    each_span(rows, even_spans(offsets), work)
    each_span(others, even_spans(back[0]), work)
    return by_a, by_b, parts.sum(0, dtype=np.float64).astype(np.float32), by_v


@compiled(fast_math=True)
def _attend(offsets, columns, a, b, w, v, out, shares, low, high):  # type: ignore[no-untyped-def]
    for row in range(low, high):
        first, last = offsets[row], offsets[row + 1]
        top = np.float32(0.0)
        for at in range(first, last):
            score, j = np.float32(0.0), columns[at]
            for c in range(len(w)):
                score += w[c] * max(a[row, c] + b[j, c], np.float32(0.0))
            shares[at] = score
            top = score if at == first else max(top, score)
        mass = np.float32(0.0)
        for at in range(first, last):
            shares[at] = np.exp(shares[at] - top)
            mass += shares[at]
        for at in range(first, last):
            shares[at] /= mass
            p, j = shares[at], columns[at]
            for c in range(v.shape[1]):
                out[row, c] += p * v[j, c]


@compiled(fast_math=True)
def _row_slope(offsets, columns, a, b, w, v, shares, slope, by_a, parts, by_score, low, high):  # type: ignore[no-untyped-def]
    for row in range(low, high):
        mean = np.float32(0.0)
        for at in range(offsets[row], offsets[row + 1]):
            inner, j = np.float32(0.0), columns[at]
            for c in range(v.shape[1]):
                inner += slope[row, c] * v[j, c]
            by_score[at] = inner
            mean += shares[at] * inner
        for at in range(offsets[row], offsets[row + 1]):
            g, j = shares[at] * (by_score[at] - mean), columns[at]
            by_score[at] = g
            for c in range(len(w)):
                hidden = a[row, c] + b[j, c]
                if hidden > 0:
                    by_a[row, c] += g * w[c]
                    parts[row, c] += g * hidden


@compiled(fast_math=True)
def _column_slope(offsets, rows, places, a, b, w, shares, slope, by_score, by_b, by_v, low, high):  # type: ignore[no-untyped-def]
    for column in range(low, high):
        for at in range(offsets[column], offsets[column + 1]):
            row, place = rows[at], places[at]
            g, p = by_score[place], shares[place]
            for c in range(len(w)):
                if a[row, c] + b[column, c] > 0:
                    by_b[column, c] += g * w[c]
            for c in range(slope.shape[1]):
                by_v[column, c] += p * slope[row, c]
