"""Neighbours drawn at random, without replacement, and maxima over segments: what sampled graph networks need.

A draw is a hash of (seed, row, place), so it depends on neither batch nor threads: the same node with the same seed gets the
same neighbours in any company. A row with no more edges than are wanted keeps all of them.
"""

from __future__ import annotations

import numpy as np

from palate.kernels.compile import compiled
from palate.kernels.negatives import _mix, _mix_plain
from palate.kernels.spans import each_span, even_spans


def sample_edges_reference(offsets: np.ndarray, rows: np.ndarray, most: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return up to ``most`` different edges of each row, ascending.

    Floyd's algorithm: for ``j = n - k … n - 1`` draw ``t`` from ``0 … j``, and take ``j`` where ``t`` was taken before.

    Parameters
    ----------
    offsets
        ``int64[n + 1]`` bounds of the edges of each row.
    rows
        ``int[m]``.
    most
        k.

    Returns
    -------
    bounds, places
        ``int64[m + 1]``, and ``int64`` places of the edges.
    """
    found = []
    for row in rows:
        low, size = int(offsets[row]), int(offsets[row + 1] - offsets[row])
        if size <= most:
            found.append(np.arange(low, low + size))
            continue
        taken: list[int] = []
        for at, j in enumerate(range(size - most, size)):
            t = ((_mix_plain(seed, int(row) * most + at) >> 32) * (j + 1)) >> 32
            taken.append(j if t in taken else t)
        found.append(low + np.sort(np.array(taken)))
    bounds = np.cumsum([0, *(len(f) for f in found)]).astype(np.int64)
    return bounds, np.concatenate([np.empty(0, np.int64), *found]).astype(np.int64)


def sample_edges(offsets: np.ndarray, rows: np.ndarray, most: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`sample_edges_reference`, fast."""
    rows = np.asarray(rows, np.int64)
    sizes = np.minimum(offsets[rows + 1] - offsets[rows], most)
    bounds = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    places = np.empty(bounds[-1], np.int64)
    _sample(offsets, rows, most, np.uint64(seed), bounds, places)
    return bounds, places


def segment_max_reference(offsets: np.ndarray, tails: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the elementwise maximum over each segment's rows of ``x``, and which row it came from.

    Returns
    -------
    values, sources
        ``float32[n, d]`` (0 for an empty segment), and ``int32[n, d]`` (-1; of equal rows the first).
    """
    n, d = len(offsets) - 1, x.shape[1]
    values, sources = np.zeros((n, d), np.float32), np.full((n, d), -1, np.int32)
    for row in range(n):
        own = tails[offsets[row] : offsets[row + 1]]
        if len(own):
            best = x[own].argmax(0)
            sources[row] = own[best]
            values[row] = x[own][best, np.arange(d)]
    return values, sources


def segment_max(offsets: np.ndarray, tails: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`segment_max_reference`, fast."""
    n, d = len(offsets) - 1, x.shape[1]
    values, sources = np.zeros((n, d), np.float32), np.full((n, d), -1, np.int32)
    each_span(lambda a, b: _maximum(offsets, tails, x, values, sources, a, b), even_spans(offsets), len(tails) * d)
    return values, sources


def scatter_max(slope: np.ndarray, sources: np.ndarray, rows: int) -> np.ndarray:
    """Return ``float32[rows, d]``: the gradient by ``x`` of :func:`segment_max`, from that by its values."""
    out = np.zeros((rows, slope.shape[1]), np.float32)
    _scatter(slope, sources, out)
    return out


@compiled()
def _sample(offsets, rows, most, seed, bounds, places):  # type: ignore[no-untyped-def]
    for at in range(len(rows)):
        low, size = offsets[rows[at]], offsets[rows[at] + 1] - offsets[rows[at]]
        begin = bounds[at]
        if size <= most:
            for k in range(size):
                places[begin + k] = low + k
            continue
        for k in range(most):
            j = size - most + k
            word = _mix(seed, np.uint64(rows[at] * most + k))
            t = np.int64(((word >> np.uint64(32)) * np.uint64(j + 1)) >> np.uint64(32))
            # Places taken so far stand in ascending order.
            spot = k
            clash = False
            for p in range(k):
                if places[begin + p] == low + t:
                    clash = True
                    break
            value = low + (j if clash else t)
            while spot > 0 and places[begin + spot - 1] > value:
                places[begin + spot] = places[begin + spot - 1]
                spot -= 1
            places[begin + spot] = value


@compiled()
def _maximum(offsets, tails, x, values, sources, first, last):  # type: ignore[no-untyped-def]
    for row in range(first, last):
        for at in range(offsets[row], offsets[row + 1]):
            tail = tails[at]
            for c in range(x.shape[1]):
                if sources[row, c] < 0 or x[tail, c] > values[row, c]:
                    values[row, c] = x[tail, c]
                    sources[row, c] = tail


@compiled()
def _scatter(slope, sources, out):  # type: ignore[no-untyped-def]
    for row in range(slope.shape[0]):
        for c in range(slope.shape[1]):
            if sources[row, c] >= 0:
                out[sources[row, c], c] += slope[row, c]
