"""Exact top-k of inner products: a blocked product in BLAS, a selection that skips what can't enter, and a fixed rescoring.

    best k over j of <q_i, v_j>,   j not in the excluded items of row i

Three steps, each row on its own:

1. *Product.* Blocks of queries times chunks of vectors, small enough to stay in the cache of one core; each thread works on its
   own blocks with a one-threaded BLAS. Vectors are taken in falling order of norm, so the bar rises early, and a block of
   queries ends as soon as ``|q| |v|`` of the next chunk can't reach it (Cauchy-Schwarz).
2. *Selection.* A heap of ``k`` plus some spare candidates a row; runs of scores under the bar cost one vector maximum each.
3. *Rescoring.* BLAS sums in an order that depends on shapes. The few candidates are scored again by :func:`dot`, in a fixed
   order, so the answer has the same bits for any block size, batch and thread count. Where the spare candidates can't prove
   that nothing was missed (masses of near ties), the row is answered by the plain path.
"""

from __future__ import annotations

import numpy as np

from palate.kernels.compile import compiled
from palate.kernels.spans import each_span, even_rows
from palate.kernels.topk import _insert, topk_dense_reference
from palate.runtime import single_threaded_blas, threads

#: Queries of a block, and vectors of a chunk: their product takes 1 MiB, and stays in a core's own cache.
ROWS, CHUNK = 512, 512
#: Candidates kept beyond ``k``.
SPARE = 16
#: With fewer queries than this the plain path is as fast.
FEW = 128
#: Scores compared with the bar at a time.
RUN = 64


def topk_inner_reference(
    queries: np.ndarray, vectors: np.ndarray, k: int, offsets: np.ndarray | None = None, exclude: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best ``k`` by scoring and sorting everything: the plain definition (memory: queries x vectors)."""
    scores = np.array([[dot(q, v) for v in vectors] for q in queries], np.float32).reshape(len(queries), len(vectors))
    return topk_dense_reference(scores, k, offsets, exclude)


def topk_inner(
    queries: np.ndarray, vectors: np.ndarray, k: int, offsets: np.ndarray | None = None, exclude: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``k`` vectors of highest inner product with each query, ties by :func:`palate.kernels.topk.tie_key`.

    Parameters
    ----------
    queries, vectors
        ``float32[n, d]`` and ``float32[n_items, d]``.
    k
        How many; rows with fewer end in item -1 and score ``-inf``.
    offsets, exclude
        Ragged item numbers not to return (``int64[n + 1]``, ``int32[m]``), or ``None``.

    Returns
    -------
    items, scores
        ``int32[n, k]`` and ``float32[n, k]``, best first.
    """
    queries, vectors = np.ascontiguousarray(queries, np.float32), np.ascontiguousarray(vectors, np.float32)
    n = len(queries)
    items, best = np.full((n, k), -1, np.int32), np.full((n, k), -np.inf, np.float32)
    if n == 0 or len(vectors) == 0 or k == 0:
        return items, best
    offsets, exclude = _sorted_rows(offsets, exclude, n)
    if n < FEW or k + SPARE >= len(vectors):
        _plain(queries, vectors, np.arange(n), offsets, exclude, items, best)
        return items, best
    norms = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    order = np.argsort(-norms, kind="stable").astype(np.int32)
    search = _Search(queries, vectors[order], norms[order], order, offsets, exclude, items, best)
    doubtful = search.run()
    if len(doubtful):
        _plain(queries, vectors, doubtful, offsets, exclude, items, best)
    return items, best


def _plain(queries, vectors, rows, offsets, exclude, items, best) -> None:  # type: ignore[no-untyped-def]
    """Answer some rows by scoring everything."""
    each_span(
        lambda a, b: _plain_rows(queries, vectors, rows, offsets, exclude, items, best, a, b),
        even_rows(len(rows)),
        len(rows) * vectors.size,
    )


def inner_pairs(queries: np.ndarray, vectors: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Return ``float32[n, m]``: the inner product of each query with its own items ``int32[n, m]`` (-1 scores ``-inf``).

    The same bits as :func:`topk_inner` gives.
    """
    out = np.empty(items.shape, np.float32)
    queries, vectors = np.ascontiguousarray(queries, np.float32), np.ascontiguousarray(vectors, np.float32)
    work = items.size * vectors.shape[1]
    each_span(lambda a, b: _pairs(queries, vectors, items, out, a, b), even_rows(len(items)), work)
    return out


class _Search:
    """One call's arrays, and the work on one block of queries."""

    def __init__(self, queries, vectors, norms, order, offsets, exclude, items, best) -> None:  # type: ignore[no-untyped-def]
        self.queries, self.vectors, self.norms, self.order = queries, vectors, norms, order
        self.offsets, self.exclude, self.items, self.best = offsets, exclude, items, best
        self.wanted = items.shape[1] + SPARE
        self.lengths = np.sqrt(np.einsum("nd,nd->n", queries, queries))
        # |computed - exact| of a float32 inner product, whatever the order of summation (both sides counted).
        self.slack = np.float32(2 * (queries.shape[1] + 2) * np.finfo(np.float32).eps)

    def run(self) -> np.ndarray:
        """Answer every row; return the rows that need the plain path."""
        n = len(self.queries)
        self.rows = min(ROWS, -(-n // threads()))
        starts = range(0, n, self.rows)
        doubtful: list[np.ndarray] = [np.empty(0, np.int64)] * len(starts)

        def run(low: int, high: int) -> None:
            for at in range(low, high):
                doubtful[at] = self.block(starts[at])

        with single_threaded_blas():
            each_span(run, np.arange(len(starts) + 1), self.queries.size * len(self.vectors))
        return np.concatenate(doubtful)

    def block(self, start: int) -> np.ndarray:
        """Answer one block of queries."""
        stop = min(start + self.rows, len(self.queries))
        rows, lengths = self.queries[start:stop], self.lengths[start:stop]
        reach = lengths * (1 + self.slack)
        heap = np.full((len(rows), self.wanted), -np.inf, np.float32)
        place = np.full((len(rows), self.wanted), -1, np.int32)
        product = np.empty((len(rows), CHUNK), np.float32)
        for first in range(0, len(self.vectors), CHUNK):
            if not np.any(reach * self.norms[first] >= heap[:, 0]):
                break
            chunk = self.vectors[first : first + CHUNK]
            out = product[:, : len(chunk)] if len(chunk) == CHUNK else np.empty((len(rows), len(chunk)), np.float32)
            np.matmul(rows, chunk.T, out=out)
            _select(out, first, self.order, start, self.offsets, self.exclude, heap, place)
        largest = self.norms[0]
        ends = np.zeros(len(rows), np.bool_)
        _rescore(
            rows, self.vectors, self.order, heap, place, lengths * largest * self.slack,
            self.items[start:stop], self.best[start:stop], ends,
        )  # fmt: skip
        return np.flatnonzero(ends) + start


def _sorted_rows(offsets: np.ndarray | None, exclude: np.ndarray | None, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the excluded items with every row in ascending order."""
    if offsets is None or exclude is None:
        return np.zeros(n + 1, np.int64), np.empty(0, np.int32)
    values = np.array(exclude[offsets[0] : offsets[-1]], np.int32)
    offsets = np.asarray(offsets - offsets[0], np.int64)
    _sort_rows(offsets, values)
    return offsets, values


@compiled()
def _sort_rows(offsets, values):  # type: ignore[no-untyped-def]
    for row in range(len(offsets) - 1):
        low, high = offsets[row], offsets[row + 1]
        for at in range(low + 1, high):
            if values[at] < values[at - 1]:
                values[low:high] = np.sort(values[low:high])
                break


@compiled(fast_math=True)
def dot(a, b):  # type: ignore[no-untyped-def]
    """Return the inner product of two float32 rows, summed in an order that depends on their length alone."""
    total = np.float32(0.0)
    for at in range(a.shape[0]):
        total += a[at] * b[at]
    return total


@compiled(fast_math=True, inline="always")
def _largest(line, start):  # type: ignore[no-untyped-def]
    top = line[start]
    for at in range(start + 1, start + RUN):
        top = max(top, line[at])
    return top


@compiled()
def _push(heap, place, score, position):  # type: ignore[no-untyped-def]
    """Replace the least of a min-heap."""
    size, at = heap.shape[0], 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= score:
            break
        heap[at], place[at] = heap[child], place[child]
        at = child
    heap[at], place[at] = score, position


@compiled()
def _scan(line, start, stop, first, order, low, high, exclude, heap, place):  # type: ignore[no-untyped-def]
    for at in range(start, stop):
        score = line[at]
        if score > heap[0]:
            item = order[first + at]
            if low == high or not _in_row(exclude, low, high, item):
                _push(heap, place, score, first + at)


@compiled()
def _in_row(values, low, high, item):  # type: ignore[no-untyped-def]
    end = high
    while low < high:
        middle = (low + high) // 2
        if values[middle] < item:
            low = middle + 1
        else:
            high = middle
    return low < end and values[low] == item


@compiled()
def _select(product, first, order, start, offsets, exclude, heap, place):  # type: ignore[no-untyped-def]
    rows, width = product.shape
    whole = width - width % RUN
    for row in range(rows):
        line, low, high = product[row], offsets[start + row], offsets[start + row + 1]
        for at in range(0, whole, RUN):
            if _largest(line, at) > heap[row, 0]:
                _scan(line, at, at + RUN, first, order, low, high, exclude, heap[row], place[row])
        _scan(line, whole, width, first, order, low, high, exclude, heap[row], place[row])


@compiled()
def _rescore(rows, vectors, order, heap, place, slack, items, best, doubtful):  # type: ignore[no-untyped-def]
    k = items.shape[1]
    for row in range(rows.shape[0]):
        for at in range(place.shape[1]):
            position = place[row, at]
            if position >= 0:
                score = dot(rows[row], vectors[position])
                if score >= best[row, k - 1] and score > -np.inf:
                    _insert(items[row], best[row], order[position], score)
        doubtful[row] = heap[row, 0] > -np.inf and not best[row, k - 1] > heap[row, 0] + slack[row]


@compiled()
def _pairs(queries, vectors, items, out, first, last):  # type: ignore[no-untyped-def]
    for row in range(first, last):
        for at in range(items.shape[1]):
            item = items[row, at]
            out[row, at] = dot(queries[row], vectors[item]) if item >= 0 else -np.inf


@compiled()
def _plain_rows(queries, vectors, rows, offsets, exclude, items, best, first, last):  # type: ignore[no-untyped-def]
    k = items.shape[1]
    for at in range(first, last):
        row = rows[at]
        items[row, :], best[row, :] = -1, -np.inf
        for item in range(vectors.shape[0]):
            score = dot(queries[row], vectors[item])
            enters = score >= best[row, k - 1] and score > -np.inf
            if enters and not _in_row(exclude, offsets[row], offsets[row + 1], item):
                _insert(items[row], best[row], item, score)
