"""Exact top-k for one or a few queries: 8-bit codes prove which vectors can't be among the best, the rest is scored as it is.

    v = s c + e         c int8[d],   s = max |v_i| / 127
    q = t p + f         p int16[d],  t = max |q_i| / P
    <q, v>  <=  s t <p, c>  +  |q| (|e| + rho |v|),        rho >= |f| / |q| + rounding

``<p, c>`` is a whole number, so it has no rounding at all; ``|e|`` is measured, not assumed; ``rho`` counts the error of the
query's code and every rounding of float32, those of :func:`palate.kernels.inner.dot` too. A vector whose bound is under the
bar can't enter, nor tie. All others are scored by ``dot``: items and scores have the bits of
:func:`palate.kernels.inner.topk_inner`.

Codes lie in falling order of norm, so the bar rises early, and a search ends where ``|q| |v|`` can't reach it any more. A
pass reads a quarter of the bytes that float32 vectors take. Everything here runs on the calling thread, without the GIL: a
service calls it from many threads at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palate.kernels.compile import compiled
from palate.kernels.inner import RUN, _in_row, _largest, _sorted_rows, dot
from palate.kernels.topk import _insert, topk_dense_reference

#: Vectors whose bounds are computed at a time.
CHUNK = 512
#: Steps of a code (s and t) outside these limits are not used: a product could leave the range of float32.
SMALLEST, LARGEST = 1e-25, 1e18
#: Bound of ``|q| |v|`` up to which no sum can overflow.
SAFE = 1e37


@dataclass(frozen=True)
class Codes:
    """Vectors as 8-bit codes, in falling order of norm.

    Attributes
    ----------
    order
        ``int32[n]``: the item at each place.
    codes
        ``int8[n, d]``.
    steps
        ``float32[n]``: ``s``.
    widths
        ``float32[n]``: ``|e| + rho |v|``, rounded up.
    norms
        ``float32[n]``: ``|v|``, with room for rounding.
    limit
        ``P``: the largest number in a query's code.
    """

    order: np.ndarray
    codes: np.ndarray
    steps: np.ndarray
    widths: np.ndarray
    norms: np.ndarray
    limit: int

    @property
    def nbytes(self) -> int:
        """Bytes that the arrays take."""
        return sum(a.nbytes for a in (self.order, self.codes, self.steps, self.widths, self.norms))


def encode_reference(vectors: np.ndarray) -> Codes:
    """Return the codes of finite vectors ``float32[n, d]``: the plain definition."""
    exact = np.asarray(vectors, np.float64)
    n, d = exact.shape
    limit, rho = _precision(d)
    lengths = np.sqrt((exact * exact).sum(axis=1))
    order = np.argsort(-lengths, kind="stable").astype(np.int32)
    exact, lengths = exact[order], lengths[order]
    steps = (np.abs(exact).max(axis=1, initial=0.0) / 127).astype(np.float32)
    steps[(steps < SMALLEST) | (steps > LARGEST)] = 0
    whole = np.rint(np.divide(exact, steps[:, None], out=np.zeros_like(exact), where=steps[:, None] > 0))
    codes = np.clip(whole, -127, 127)
    rest = exact - steps[:, None].astype(np.float64) * codes
    error = np.sqrt((rest * rest).sum(axis=1))
    widths = _up(error + rho * (lengths + error))
    return Codes(order, codes.astype(np.int8).reshape(n, d), steps, widths, _up(lengths * (1 + rho)), limit)


def encode(vectors: np.ndarray) -> Codes:
    """As :func:`encode_reference`, fast, and without a copy of the vectors in float64."""
    vectors = np.ascontiguousarray(vectors, np.float32)
    n, d = vectors.shape
    limit, rho = _precision(d)
    lengths = np.empty(n)
    _lengths(vectors, lengths)
    order = np.argsort(-lengths, kind="stable").astype(np.int32)
    codes, steps, errors = np.empty((n, d), np.int8), np.empty(n, np.float32), np.empty(n)
    _encode(vectors, order, codes, steps, errors)
    lengths = lengths[order]
    return Codes(order, codes, steps, _up(errors + rho * (lengths + errors)), _up(lengths * (1 + rho)), limit)


def topk_coded_reference(
    queries: np.ndarray,
    vectors: np.ndarray,
    k: int,
    offsets: np.ndarray | None = None,
    exclude: np.ndarray | None = None,
    allowed: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best ``k`` of each row by scoring and sorting everything: the plain definition."""
    scores = np.array([[dot(q, v) for v in vectors] for q in queries], np.float32).reshape(len(queries), len(vectors))
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    return topk_dense_reference(scores, k, offsets, exclude)


def topk_coded(
    queries: np.ndarray,
    vectors: np.ndarray,
    codes: Codes,
    k: int,
    offsets: np.ndarray | None = None,
    exclude: np.ndarray | None = None,
    allowed: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``k`` vectors of highest inner product with each query, ties by :func:`palate.kernels.topk.tie_key`.

    Parameters
    ----------
    queries, vectors
        ``float32[n, d]`` and ``float32[n_items, d]``, finite.
    codes
        What :func:`encode` made of the vectors.
    k
        How many; rows with fewer end in item -1 and score ``-inf``.
    offsets, exclude
        Ragged item numbers not to return (``int64[n + 1]``, ``int32[m]``), or ``None``.
    allowed
        ``bool[n_items]``: the only items that may be returned, or ``None`` for all.

    Returns
    -------
    items, scores
        ``int32[n, k]`` and ``float32[n, k]``, best first.
    """
    queries, vectors = np.ascontiguousarray(queries, np.float32), np.ascontiguousarray(vectors, np.float32)
    items, best = _blank(len(queries), k)
    if items.size and len(vectors):
        offsets, exclude = _sorted_rows(offsets, exclude, len(queries))
        parts = (codes.order, codes.codes, codes.steps, codes.widths, codes.norms, codes.limit)
        _search_rows(queries, vectors, *parts, offsets, exclude, _mask(allowed), items, best)
    return items, best


def topk_among(
    queries: np.ndarray,
    vectors: np.ndarray,
    candidates: np.ndarray,
    k: int,
    offsets: np.ndarray | None = None,
    exclude: np.ndarray | None = None,
    allowed: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`topk_coded`, among each row's own candidates ``int32[n, m]`` (distinct in a row, -1 is padding)."""
    queries, vectors = np.ascontiguousarray(queries, np.float32), np.ascontiguousarray(vectors, np.float32)
    items, best = _blank(len(queries), k)
    if items.size and len(vectors):
        offsets, exclude = _sorted_rows(offsets, exclude, len(queries))
        _among_rows(queries, vectors, candidates, offsets, exclude, _mask(allowed), items, best)
    return items, best


def _precision(d: int) -> tuple[int, float]:
    """Return ``P``, so that ``<p, c>`` fits in 32 bits, and ``rho``."""
    limit = int(min(32767, (2**31 - 1) // (127 * max(d, 1))))
    return limit, 1.00001 * np.sqrt(d) / (2 * max(limit, 1)) + (d + 16) * 2.0**-23


def _up(values: np.ndarray) -> np.ndarray:
    """Round up to float32, with room for the roundings of a bound."""
    return np.nextafter((values * (1 + 1e-6)).astype(np.float32), np.float32(np.inf), dtype=np.float32)


def _blank(n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full((n, k), -1, np.int32), np.full((n, k), -np.inf, np.float32)


def _mask(allowed: np.ndarray | None) -> np.ndarray:
    """Return the mask; an empty one allows all."""
    return np.empty(0, np.bool_) if allowed is None else np.ascontiguousarray(allowed, np.bool_)


@compiled()
def _lengths(vectors, out):  # type: ignore[no-untyped-def]
    for row in range(vectors.shape[0]):
        total = 0.0
        for at in range(vectors.shape[1]):
            total += np.float64(vectors[row, at]) * np.float64(vectors[row, at])
        out[row] = np.sqrt(total)


@compiled()
def _encode(vectors, order, codes, steps, errors):  # type: ignore[no-untyped-def]
    for place in range(order.shape[0]):
        line, top, total = vectors[order[place]], np.float32(0.0), 0.0
        for at in range(line.shape[0]):
            top = max(top, abs(line[at]))
        step = np.float32(np.float64(top) / 127.0)
        if step < SMALLEST or step > LARGEST:
            step = np.float32(0.0)
        steps[place] = step
        for at in range(line.shape[0]):
            value = np.float64(line[at])
            whole = np.rint(value / np.float64(step)) if step > 0 else 0.0
            whole = min(max(whole, -127.0), 127.0)
            codes[place, at] = np.int8(whole)
            total += (value - np.float64(step) * whole) ** 2
        errors[place] = np.sqrt(total)


@compiled()
def _search_rows(queries, vectors, order, codes, steps, widths, norms, limit, offsets, exclude, allowed, items, best):  # type: ignore[no-untyped-def]
    code, bounds = np.empty(queries.shape[1], np.int16), np.empty(CHUNK, np.float32)
    for row in range(queries.shape[0]):
        low, high = offsets[row], offsets[row + 1]
        step, length = _encode_query(queries[row], limit, code)
        if step < SMALLEST or step > LARGEST or length * norms[0] > SAFE:
            _among(queries[row], vectors, order, low, high, exclude, allowed, items[row], best[row])
            continue
        tiny = np.float32(queries.shape[1] * 1.2e-38)  # what underflow can hide
        for first in range(0, order.shape[0], CHUNK):
            if length * norms[first] + tiny < best[row, -1]:
                break
            chunk = order[first : first + CHUNK]
            _bound(code, codes[first : first + CHUNK], steps[first:], widths[first:], step, length, tiny, bounds)
            _take(queries[row], vectors, chunk, bounds, low, high, exclude, allowed, items[row], best[row])


@compiled()
def _encode_query(query, limit, code):  # type: ignore[no-untyped-def]
    """Fill the query's code; return its step and its length, rounded up."""
    top, total = np.float32(0.0), 0.0
    for at in range(query.shape[0]):
        top = max(top, abs(query[at]))
        total += np.float64(query[at]) * np.float64(query[at])
    step = np.float32(np.float64(top) / limit)
    if step >= SMALLEST:
        for at in range(query.shape[0]):
            whole = np.rint(np.float64(query[at]) / np.float64(step))
            code[at] = np.int16(min(max(whole, -np.float64(limit)), np.float64(limit)))
    return step, np.float32(np.sqrt(total) * (1 + 1e-6))


@compiled()
def _bound(code, codes, steps, widths, step, length, tiny, out):  # type: ignore[no-untyped-def]
    totals = np.empty(codes.shape[0], np.int32)  # two loops of one kind each: both become vector instructions
    for place in range(codes.shape[0]):
        total, line = np.int32(0), codes[place]
        for at in range(code.shape[0]):
            total = np.int32(total + np.int32(np.int32(code[at]) * np.int32(line[at])))
        totals[place] = total
    for place in range(codes.shape[0]):
        out[place] = np.float32(totals[place]) * steps[place] * step + (length * widths[place] + tiny)


@compiled()
def _take(query, vectors, chunk, bounds, low, high, exclude, allowed, items, best):  # type: ignore[no-untyped-def]
    """Score what may enter, run by run."""
    whole = chunk.shape[0] - chunk.shape[0] % RUN
    for start in range(0, chunk.shape[0], RUN):
        if start < whole and _largest(bounds, start) < best[-1]:
            continue
        for at in range(start, min(start + RUN, chunk.shape[0])):
            if bounds[at] >= best[-1]:
                _offer(query, vectors, chunk[at], low, high, exclude, allowed, items, best)


@compiled()
def _among(query, vectors, candidates, low, high, exclude, allowed, items, best):  # type: ignore[no-untyped-def]
    for at in range(candidates.shape[0]):
        if candidates[at] >= 0:
            _offer(query, vectors, candidates[at], low, high, exclude, allowed, items, best)


@compiled()
def _among_rows(queries, vectors, candidates, offsets, exclude, allowed, items, best):  # type: ignore[no-untyped-def]
    for row in range(queries.shape[0]):
        low, high = offsets[row], offsets[row + 1]
        _among(queries[row], vectors, candidates[row], low, high, exclude, allowed, items[row], best[row])


@compiled()
def _offer(query, vectors, item, low, high, exclude, allowed, items, best):  # type: ignore[no-untyped-def]
    """Score one item exactly, and put it in its place."""
    if allowed.shape[0] and not allowed[item]:
        return
    if low < high and _in_row(exclude, low, high, item):
        return
    score = dot(query, vectors[item])
    if score >= best[-1] and score > -np.inf:
        _insert(items, best, item, score)
