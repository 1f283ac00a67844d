"""Exact top-k with seen items left out: from dense scores, and from short rows of candidates.

Inner products have their own form in :mod:`palate.kernels.inner`.

Every function has one rule for ties: equal scores rank by :func:`tie_key`, a fixed hash of the item number. The answer is
the same for any block size and thread count.
"""

from __future__ import annotations

import numpy as np

from palate.kernels.compile import compiled
from palate.kernels.spans import each_span, even_rows, even_spans


def tie_key(items: np.ndarray) -> np.ndarray:
    """Return ``uint32`` keys that order equal scores: a bijective hash, so no two items share a key."""
    x = np.asarray(items).astype(np.uint32)
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))


def topk_dense_reference(
    scores: np.ndarray, k: int, offsets: np.ndarray | None = None, exclude: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best ``k`` of each row by sorting it whole: the plain definition.

    Parameters
    ----------
    scores
        ``float32[n, n_items]``; NaN and ``-inf`` are never returned.
    k
        How many; rows with fewer end in item -1 and score ``-inf``.
    offsets, exclude
        Ragged item numbers not to return, or ``None``.

    Returns
    -------
    items, scores
        ``int32[n, k]`` and ``float32[n, k]``.
    """
    n, width = scores.shape
    items, best = np.full((n, k), -1, np.int32), np.full((n, k), -np.inf, np.float32)
    keys = tie_key(np.arange(width))
    for row in range(n):
        line = np.where(np.isnan(scores[row]), -np.inf, scores[row]).astype(np.float32)
        if offsets is not None and exclude is not None:
            line[exclude[offsets[row] : offsets[row + 1]]] = -np.inf
        order = np.lexsort((keys, -line))[:k]
        order = order[line[order] > -np.inf]
        items[row, : len(order)], best[row, : len(order)] = order, line[order]
    return items, best


def topk_dense(
    scores: np.ndarray, k: int, offsets: np.ndarray | None = None, exclude: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`topk_dense_reference`, fast. ``scores`` may be overwritten."""
    scores = np.ascontiguousarray(scores, np.float32)
    if offsets is not None and exclude is not None:
        each_span(lambda a, b: _mask(scores, offsets, exclude, a, b), even_spans(offsets), len(exclude))
    items = np.full((len(scores), k), -1, np.int32)
    best = np.full((len(scores), k), -np.inf, np.float32)
    each_span(lambda a, b: _select_rows(scores, items, best, a, b), even_rows(len(scores)), scores.size)
    return items, best


def topk_rows(
    items: np.ndarray,
    scores: np.ndarray,
    k: int,
    offsets: np.ndarray | None = None,
    exclude: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best ``k`` of short rows of candidates ``int32[n, m]`` (-1 is padding)."""
    n, width = items.shape
    scores = np.where((items < 0) | np.isnan(scores), -np.inf, scores).astype(np.float32)
    if offsets is not None and exclude is not None:
        for row in range(n):
            scores[row, np.isin(items[row], exclude[offsets[row] : offsets[row + 1]])] = -np.inf
    order = np.lexsort((tie_key(items), -scores), axis=-1)[:, :k]
    top, best = np.take_along_axis(items, order, 1), np.take_along_axis(scores, order, 1)
    top = np.where(best > -np.inf, top, -1).astype(np.int32)
    pad = ((0, 0), (0, max(0, k - width)))
    return np.pad(top, pad, constant_values=-1), np.pad(best, pad, constant_values=-np.inf)


@compiled()
def _mask(scores, offsets, exclude, first, last):  # type: ignore[no-untyped-def]
    for row in range(first, last):
        for at in range(offsets[row], offsets[row + 1]):
            scores[row, exclude[at]] = -np.inf


@compiled(inline="always")
def _key(item):  # type: ignore[no-untyped-def]
    x = np.uint32(item)
    x = np.uint32((x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D))
    x = np.uint32((x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B))
    return np.uint32(x ^ (x >> np.uint32(16)))


@compiled()
def _insert(items, best, item, score):  # type: ignore[no-untyped-def]
    """Put a candidate in its place of a descending row, if it belongs there."""
    last = items.shape[0] - 1
    if score == best[last] and items[last] >= 0 and _key(item) > _key(items[last]):
        return
    at = last
    while at > 0 and (
        best[at - 1] < score or items[at - 1] < 0 or (best[at - 1] == score and _key(items[at - 1]) > _key(item))
    ):
        best[at], items[at] = best[at - 1], items[at - 1]
        at -= 1
    best[at], items[at] = score, item


@compiled()
def _select_rows(scores, items, best, first, last):  # type: ignore[no-untyped-def]
    k = items.shape[1]
    for row in range(first, last):
        line = scores[row]
        for item in range(line.shape[0]):
            score = line[item]
            if score >= best[row, k - 1] and score > -np.inf:
                _insert(items[row], best[row], item, score)
