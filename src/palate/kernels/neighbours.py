"""Nearest rows of a sparse matrix: similarities of co-occurring rows in blocks of bounded memory, the best ``k`` kept.

With ``x_r`` the (weighted) rows and ``s`` the shrink:

    dot      <x_r, x_c>
    cosine   <x_r, x_c> / (|x_r| |x_c| + s)
    jaccard  |r ∩ c| / (|r ∪ c| + s)            (of the rows as sets)

A row is never its own neighbour; similarities of zero or below are left out; ties rank by :func:`palate.kernels.topk.tie_key`.
"""

from __future__ import annotations

from typing import Literal

import numba as nb
import numpy as np
from scipy import sparse

from palate.kernels.compile import compiled
from palate.kernels.topk import _insert, topk_dense_reference
from palate.runtime import threads

Similarity = Literal["dot", "cosine", "jaccard"]
_CODES = {"dot": 0, "cosine": 1, "jaccard": 2}


def nearest_rows_reference(
    matrix: sparse.csr_matrix, k: int, similarity: Similarity = "cosine", shrink: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``k`` nearest rows of each row by the plain definition (memory: rows x rows)."""
    x = matrix.toarray().astype(np.float64)
    if similarity == "jaccard":
        x = (x != 0).astype(np.float64)
    product = x @ x.T
    square = np.diag(product)
    if similarity == "cosine":
        root = np.sqrt(square)
        product = product / np.maximum(np.outer(root, root) + shrink, 1e-30)
    elif similarity == "jaccard":
        product = product / np.maximum(square[:, None] + square[None, :] - product + shrink, 1e-30)
    scores = np.where(product > 0, product, -np.inf).astype(np.float32)
    np.fill_diagonal(scores, -np.inf)
    return topk_dense_reference(scores, k)


def nearest_rows(
    matrix: sparse.csr_matrix, k: int, similarity: Similarity = "cosine", shrink: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`nearest_rows_reference`, fast; memory is one accumulator of ``rows`` a thread.

    Parameters
    ----------
    matrix
        ``n x m`` CSR of float32; weights are applied already.

    Returns
    -------
    rows, similarities
        ``int32[n, k]`` (-1 is padding) and ``float32[n, k]``, best first.
    """
    across = matrix.T.tocsr()
    n = matrix.shape[0]
    found, best = np.full((n, k), -1, np.int32), np.full((n, k), -np.inf, np.float32)
    if n and k:
        ones = similarity == "jaccard"
        data, back = (np.ones_like(m.data) if ones else m.data.astype(np.float32) for m in (matrix, across))
        square = np.bincount(np.repeat(np.arange(n), np.diff(matrix.indptr)), data.astype(np.float64) ** 2, n)
        order = np.argsort(-np.diff(matrix.indptr), kind="stable")
        code, lanes = _CODES[similarity], min(threads(), n)
        _nearest(
            order,
            lanes,
            matrix.indptr,
            matrix.indices,
            data,
            across.indptr,
            across.indices,
            back,
            square,
            code,
            shrink,
            found,
            best,
        )
    return found, best


def nearest_to_reference(
    queries: sparse.csr_matrix,
    matrix: sparse.csr_matrix,
    k: int,
    similarity: Similarity = "cosine",
    shrink: float = 0.0,
    skip: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``k`` rows of ``matrix`` nearest to each query by the plain definition; row ``skip[q]`` is left out."""
    x, q = (m.toarray().astype(np.float64) for m in (matrix, queries))
    if similarity == "jaccard":
        x, q = (x != 0).astype(np.float64), (q != 0).astype(np.float64)
    product, own, square = q @ x.T, (q * q).sum(1), (x * x).sum(1)
    if similarity == "cosine":
        product = product / np.maximum(np.sqrt(np.outer(own, square)) + shrink, 1e-30)
    elif similarity == "jaccard":
        product = product / np.maximum(own[:, None] + square[None, :] - product + shrink, 1e-30)
    scores = np.where(product > 0, product, -np.inf).astype(np.float32)
    if skip is not None:
        rows = np.flatnonzero(skip >= 0)
        scores[rows, skip[rows]] = -np.inf
    return topk_dense_reference(scores, k)


def nearest_to(
    queries: sparse.csr_matrix,
    across: sparse.csr_matrix,
    square: np.ndarray,
    k: int,
    similarity: Similarity = "cosine",
    shrink: float = 0.0,
    skip: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`nearest_to_reference`, fast; the matrix is given as its transpose ``across`` and its squared row norms."""
    n = queries.shape[0]
    found, best = np.full((n, k), -1, np.int32), np.full((n, k), -np.inf, np.float32)
    if n and k and len(square):
        ones = similarity == "jaccard"
        data, back = (np.ones_like(m.data) if ones else m.data.astype(np.float32) for m in (queries, across))
        own = np.bincount(np.repeat(np.arange(n), np.diff(queries.indptr)), data.astype(np.float64) ** 2, n)
        left_out = np.full(n, -1, np.int64) if skip is None else np.asarray(skip, np.int64)
        code, lanes = _CODES[similarity], min(threads(), n)
        _nearest_to(
            lanes, queries.indptr, queries.indices, data, across.indptr, across.indices, back, own, square, left_out, code,
            shrink, found, best,
        )  # fmt: skip
    return found, best


@compiled(inline="always")
def _similar(product, own, other, code, shrink):  # type: ignore[no-untyped-def]
    if code == 1:
        return product / max(np.sqrt(own * other) + shrink, 1e-30)
    if code == 2:
        return product / max(own + other - product + shrink, 1e-30)
    return product


@compiled(parallel=True)
def _nearest(  # type: ignore[no-untyped-def]
    order, lanes, starts, columns, data, back_starts, back_rows, back, square, code, shrink, found, best
):
    n = starts.shape[0] - 1
    for lane in nb.prange(lanes):
        sums, touched, mark = np.zeros(n, np.float64), np.empty(n, np.int32), np.full(n, -1, np.int64)
        for place in range(lane, n, lanes):
            row = order[place]
            count = _gather(columns[starts[row] : starts[row + 1]], data[starts[row] : starts[row + 1]],
                            back_starts, back_rows, back, sums, touched, mark, row)  # fmt: skip
            _keep(sums, touched, count, square[row], square, row, code, shrink, found[row], best[row])


@compiled(parallel=True)
def _nearest_to(  # type: ignore[no-untyped-def]
    lanes, starts, columns, data, back_starts, back_rows, back, own, square, skip, code, shrink, found, best
):
    n = starts.shape[0] - 1
    for lane in nb.prange(lanes):
        size = square.shape[0]
        sums, touched, mark = np.zeros(size, np.float64), np.empty(size, np.int32), np.full(size, -1, np.int64)
        for row in range(lane, n, lanes):
            count = _gather(columns[starts[row] : starts[row + 1]], data[starts[row] : starts[row + 1]],
                            back_starts, back_rows, back, sums, touched, mark, row)  # fmt: skip
            _keep(sums, touched, count, own[row], square, skip[row], code, shrink, found[row], best[row])


@compiled()
def _gather(columns, data, back_starts, back_rows, back, sums, touched, mark, row):  # type: ignore[no-untyped-def]
    """Add up the products of one row with all others; return how many others share a column."""
    count = 0
    for at in range(columns.shape[0]):
        column, weight = columns[at], np.float64(data[at])
        for place in range(back_starts[column], back_starts[column + 1]):
            other = back_rows[place]
            if mark[other] != row:
                mark[other] = row
                touched[count] = other
                count += 1
            sums[other] += weight * back[place]
    return count


@compiled()
def _keep(sums, touched, count, own, square, skip, code, shrink, found, best):  # type: ignore[no-untyped-def]
    """Put the best of the rows touched in place, and clear the sums."""
    k = found.shape[0]
    for at in range(count):
        other = touched[at]
        product = sums[other]
        sums[other] = 0.0
        if other != skip and product > 0.0:
            score = np.float32(_similar(product, own, square[other], code, shrink))
            if score >= best[k - 1] and score > np.float32(0.0):
                _insert(found, best, other, score)
