"""Neighbours: the ``k`` most similar rows of a sparse matrix, and weighted sums of sparse rows.

Similarity of two rows ``a`` and ``b`` from their inner product (``p``) and their sizes::

    cosine   p / (|a| |b| + shrink)
    jaccard  p / (n_a + n_b - p + shrink)      weights are taken as ones; n counts them
    dot      p

Products are gathered a row at a time through the transposed matrix, so the memory is one line of reference rows a thread, never
rows x rows. Equal similarities rank by :func:`palate.kernels.topk.tie_key`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import sparse

from palate.kernels.compile import compiled
from palate.kernels.spans import each_span, even_spans
from palate.kernels.topk import _insert, topk_dense_reference

#: Ways to compare two rows.
Similarity = Literal["cosine", "jaccard", "dot"]
_CODES = {"dot": 0, "cosine": 1, "jaccard": 2}


def sizes(matrix: sparse.csr_matrix, similarity: Similarity) -> np.ndarray:
    """Return ``float32[n]``: lengths of the rows for cosine, their sums for Jaccard, ones for the inner product."""
    if similarity == "dot":
        return np.ones(matrix.shape[0], np.float32)
    data = matrix.data.astype(np.float64)
    each = data**2 if similarity == "cosine" else data
    sums = np.concatenate([[0.0], np.cumsum(each)])
    totals = sums[matrix.indptr[1:]] - sums[matrix.indptr[:-1]]
    return (np.sqrt(totals) if similarity == "cosine" else totals).astype(np.float32)


def nearest_reference(
    rows: sparse.csr_matrix,
    others: sparse.csr_matrix,
    k: int,
    *,
    similarity: Similarity = "cosine",
    shrink: float = 0.0,
    own: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``k`` most similar of ``others`` for each of ``rows`` by computing all similarities.

    Parameters
    ----------
    rows, others
        CSR matrices with the same columns, entries positive.
    own
        ``int32[n]``, the row of ``others`` that is the row itself and isn't its own neighbour (-1 for none), or ``None``.

    Returns
    -------
    neighbours, similarities
        ``int32[n, k]`` (-1 where fewer have anything in common) and ``float32[n, k]`` (0 there), most similar first.
    """
    if similarity == "jaccard":
        rows, others = _ones(rows), _ones(others)
    product = (rows @ others.T).toarray().astype(np.float32)
    a, b = sizes(rows, similarity)[:, None], sizes(others, similarity)[None, :]
    below = {"dot": np.ones_like(product), "cosine": a * b + shrink, "jaccard": a + b - product + shrink}[similarity]
    similar = np.where(product > 0, product / np.where(product > 0, below, 1), -np.inf)
    if own is not None:
        known = np.flatnonzero(own >= 0)
        similar[known, own[known]] = -np.inf
    found, values = topk_dense_reference(similar, k)
    return found, np.where(found >= 0, values, 0).astype(np.float32)


def nearest(
    rows: sparse.csr_matrix,
    others: sparse.csr_matrix,
    k: int,
    *,
    similarity: Similarity = "cosine",
    shrink: float = 0.0,
    own: np.ndarray | None = None,
    columns: sparse.csr_matrix | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`nearest_reference`, fast; ``columns`` is ``others`` transposed (CSR), where it is at hand."""
    turned = others.T.tocsr() if columns is None else columns
    if similarity == "jaccard":
        rows, others, turned = (_ones(m) for m in (rows, others, turned))
    n = rows.shape[0]
    found, similar = np.full((n, k), -1, np.int32), np.full((n, k), -np.inf, np.float32)
    mine = np.full(n, -1, np.int32) if own is None else np.asarray(own, np.int32)
    left, right = (rows.indptr, rows.indices, rows.data), (turned.indptr, turned.indices, turned.data)
    norms = (sizes(rows, similarity), sizes(others, similarity))
    code, damp = _CODES[similarity], np.float32(shrink)
    reach = np.diff(turned.indptr)[rows.indices].sum(dtype=np.int64)
    each_span(
        lambda a, b: _nearest(left, right, norms, code, damp, mine, found, similar, a, b),
        even_spans(rows.indptr.astype(np.int64)),
        int(reach) * 2,
    )
    similar[found < 0] = 0.0
    return found, similar


def mix_sparse_reference(chosen: np.ndarray, weights: np.ndarray, matrix: sparse.csr_matrix) -> np.ndarray:
    """Return ``float32[n, width]``: the chosen sparse rows ``int32[n, k]`` (-1 is none) times their weights, summed."""
    out = np.zeros((len(chosen), matrix.shape[1]), np.float32)
    for row in range(len(out)):
        for other, weight in zip(chosen[row], weights[row], strict=True):
            if other >= 0:
                place = slice(matrix.indptr[other], matrix.indptr[other + 1])
                out[row, matrix.indices[place]] += np.float32(weight) * matrix.data[place]
    return out


def mix_sparse(chosen: np.ndarray, weights: np.ndarray, matrix: sparse.csr_matrix) -> np.ndarray:
    """As :func:`mix_sparse_reference`, fast."""
    out = np.zeros((len(chosen), matrix.shape[1]), np.float32)
    each_span(
        lambda a, b: _mix_sparse(chosen, weights, matrix.indptr, matrix.indices, matrix.data, out, a, b),
        np.linspace(0, len(chosen), 33).astype(np.int64),
        out.size + chosen.size * matrix.nnz // max(1, matrix.shape[0]),
    )
    return out


def _ones(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    return sparse.csr_matrix((np.ones(matrix.nnz, np.float32), matrix.indices, matrix.indptr), matrix.shape)


@compiled()
def _nearest(left, right, norms, code, shrink, own, found, similar, low, high):  # type: ignore[no-untyped-def]
    offsets, columns, values = left
    turned, others, weights = right
    total = np.zeros(norms[1].shape[0], np.float32)
    touched = np.empty(norms[1].shape[0], np.int32)
    last = found.shape[1] - 1
    for row in range(low, high):
        count = 0
        for at in range(offsets[row], offsets[row + 1]):
            column, value = columns[at], values[at]
            for spot in range(turned[column], turned[column + 1]):
                other = others[spot]
                if total[other] == 0:
                    touched[count] = other
                    count += 1
                total[other] += value * weights[spot]
        for at in range(count):
            other = touched[at]
            product, below = total[other], np.float32(1.0)
            total[other] = 0
            if other == own[row]:
                continue
            if code == 1:
                below = norms[0][row] * norms[1][other] + shrink
            elif code == 2:
                below = norms[0][row] + norms[1][other] - product + shrink
            value = product / below
            if value >= similar[row, last]:
                _insert(found[row], similar[row], other, value)


@compiled()
def _mix_sparse(chosen, weights, starts, columns, values, out, low, high):  # type: ignore[no-untyped-def]
    for row in range(low, high):
        for at in range(chosen.shape[1]):
            other = chosen[row, at]
            if other >= 0:
                for spot in range(starts[other], starts[other + 1]):
                    out[row, columns[spot]] += weights[row, at] * values[spot]
