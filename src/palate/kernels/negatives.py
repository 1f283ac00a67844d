"""Uniform negatives: for each row, items that it does not hold, drawn exactly and reproducibly; and which draws a row holds.

A draw is a hash of (seed, position), so it does not depend on order, batch or threads. There is no rejection: the ``r``-th item
that a row lacks is found by one binary search in the row (the count of missing items before ``row[k]`` is ``row[k] - k``).
"""

from __future__ import annotations

import numpy as np

from palate.kernels.compile import compiled

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def draw_missing_reference(
    offsets: np.ndarray, columns: np.ndarray, rows: np.ndarray, width: int, seed: int, first: int = 0
) -> np.ndarray:
    """Return ``int32[m]``: for each of ``rows``, a uniform draw from the columns that the row lacks (-1 where it has all).

    Parameters
    ----------
    offsets, columns
        CSR rows, each with distinct ascending columns in ``0 … width - 1``.
    rows
        ``int[m]`` row of each draw.
    seed, first
        Names the stream, and the position of the first draw in it.
    """
    out = np.full(len(rows), -1, np.int32)
    for at, row in enumerate(rows):
        missing = np.setdiff1d(np.arange(width), columns[offsets[row] : offsets[row + 1]])
        if len(missing):
            out[at] = missing[(_mix_plain(seed, first + at) >> 32) * len(missing) >> 32]
    return out


def draw_missing(
    offsets: np.ndarray, columns: np.ndarray, rows: np.ndarray, width: int, seed: int, first: int = 0
) -> np.ndarray:
    """As :func:`draw_missing_reference`, fast."""
    out = np.empty(len(rows), np.int32)
    _draw(offsets, columns, rows, width, np.uint64(seed), np.uint64(first), out)
    return out


def held_reference(offsets: np.ndarray, columns: np.ndarray, rows: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return ``bool[m, w]``: whether each of ``rows`` holds what is wanted of it.

    Parameters
    ----------
    offsets, columns
        CSR rows, each with distinct ascending columns.
    rows
        ``int[m]`` row that each line of ``wanted`` is asked of.
    wanted
        ``int[m, w]`` columns.
    """
    out = np.zeros(wanted.shape, bool)
    for at, row in enumerate(rows):
        out[at] = np.isin(wanted[at], columns[offsets[row] : offsets[row + 1]])
    return out


def held(offsets: np.ndarray, columns: np.ndarray, rows: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """As :func:`held_reference`, fast: one binary search within the row for each."""
    out = np.empty(wanted.shape, bool)
    _held(offsets, columns, rows, wanted, out)
    return out


def _mix_plain(seed: int, position: int) -> int:
    mask = 2**64 - 1
    z = (seed + (position + 1) * int(_GOLDEN)) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


@compiled(inline="always")
def _mix(seed, position):  # type: ignore[no-untyped-def]
    z = seed + (position + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@compiled()
def _draw(offsets, columns, rows, width, seed, first, out):  # type: ignore[no-untyped-def]
    for at in range(len(rows)):
        low, high = offsets[rows[at]], offsets[rows[at] + 1]
        start, missing = low, width - (high - low)
        if missing <= 0:
            out[at] = -1
            continue
        word = _mix(seed, first + np.uint64(at))
        r = np.int64(((word >> np.uint64(32)) * np.uint64(missing)) >> np.uint64(32))
        while low < high:
            middle = (low + high) >> 1
            if columns[middle] - (middle - start) > r:
                high = middle
            else:
                low = middle + 1
        out[at] = r + (low - start)


@compiled()
def _held(offsets, columns, rows, wanted, out):  # type: ignore[no-untyped-def]
    for at in range(len(rows)):
        start, stop = offsets[rows[at]], offsets[rows[at] + 1]
        for place in range(wanted.shape[1]):
            item, low, high = wanted[at, place], start, stop
            while low < high:
                middle = (low + high) >> 1
                if columns[middle] < item:
                    low = middle + 1
                else:
                    high = middle
            out[at, place] = low < stop and columns[low] == item
