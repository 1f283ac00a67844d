"""Ragged lists as sets, and sums of the rows of a matrix that they choose: the score of every linear item-item model."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from palate.kernels.compile import compiled
from palate.kernels.spans import each_span, even_spans


def distinct_rows_reference(offsets: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ragged rows (``int64[n + 1]`` and values) with the distinct values of each row, ascending."""
    rows = [np.unique(values[a:b]) for a, b in pairwise(offsets)]
    lengths = np.cumsum([0, *(len(row) for row in rows)]).astype(np.int64)
    return lengths, np.concatenate([np.empty(0, values.dtype), *rows])


def distinct_rows(offsets: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`distinct_rows_reference`, fast."""
    offsets = np.asarray(offsets, np.int64)
    sorted_values, lengths = values[offsets[0] : offsets[-1]].copy(), np.empty(len(offsets) - 1, np.int64)
    starts = offsets - offsets[0]
    spans, work = even_spans(starts), 16 * len(sorted_values)
    each_span(lambda a, b: _distinct_in_place(starts, sorted_values, lengths, a, b), spans, work)
    packed = np.concatenate([[0], np.cumsum(lengths)])
    if packed[-1] == len(sorted_values):
        return packed, sorted_values
    out = np.empty(packed[-1], values.dtype)
    each_span(lambda a, b: _pack(starts, sorted_values, packed, out, a, b), spans, len(sorted_values))
    return packed, out


@compiled()
def _distinct_in_place(offsets, values, lengths, first, last):  # type: ignore[no-untyped-def]
    """Sort each row and bring its distinct values to its front."""
    for row in range(first, last):
        own = values[offsets[row] : offsets[row + 1]]
        if not _ascending(own):
            own[:] = np.sort(own)
        kept = 0
        for at in range(len(own)):
            if at == 0 or own[at] != own[kept - 1]:
                own[kept] = own[at]
                kept += 1
        lengths[row] = kept


@compiled()
def _pack(offsets, values, packed, out, first, last):  # type: ignore[no-untyped-def]
    for row in range(first, last):
        for at in range(packed[row + 1] - packed[row]):
            out[packed[row] + at] = values[offsets[row] + at]


@compiled()
def _ascending(values):  # type: ignore[no-untyped-def]
    at = 1
    while at < len(values) and values[at - 1] <= values[at]:
        at += 1
    return at >= len(values)


def sum_rows_reference(offsets: np.ndarray, items: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return ``float32[n, width]``: for each ragged row, the sum of the matrix rows of its distinct items.

    Items are added in ascending order, so the sum does not depend on the order of the list.
    """
    out = np.zeros((len(offsets) - 1, matrix.shape[1]), np.float32)
    for row in range(len(out)):
        for item in np.unique(items[offsets[row] : offsets[row + 1]]):
            out[row] += matrix[item]
    return out


def sum_rows(offsets: np.ndarray, items: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """As :func:`sum_rows_reference`, fast."""
    out = np.zeros((len(offsets) - 1, matrix.shape[1]), np.float32)
    each_span(lambda a, b: _sum_rows(offsets, items, matrix, out, a, b), even_spans(offsets), len(items) * matrix.shape[1])
    return out


@compiled()
def _sum_rows(offsets, items, matrix, out, first, last):  # type: ignore[no-untyped-def]
    for row in range(first, last):
        own = items[offsets[row] : offsets[row + 1]]
        if not _ascending(own):
            own = np.sort(own)
        for at in range(len(own)):
            if at == 0 or own[at] != own[at - 1]:
                total, line = out[row], matrix[own[at]]
                for column in range(len(total)):
                    total[column] += line[column]


def sum_sparse_rows_reference(
    offsets: np.ndarray, items: np.ndarray, starts: np.ndarray, columns: np.ndarray, weights: np.ndarray, width: int
) -> np.ndarray:
    """Return ``float32[n, width]``: for each ragged row, the sum of the sparse (CSR) rows of its distinct items.

    Items are added in ascending order.
    """
    out = np.zeros((len(offsets) - 1, width), np.float32)
    for row in range(len(out)):
        for item in np.unique(items[offsets[row] : offsets[row + 1]]):
            for at in range(starts[item], starts[item + 1]):
                out[row, columns[at]] += weights[at]
    return out


def sum_sparse_rows(
    offsets: np.ndarray, items: np.ndarray, starts: np.ndarray, columns: np.ndarray, weights: np.ndarray, width: int
) -> np.ndarray:
    """As :func:`sum_sparse_rows_reference`, fast."""
    out = np.zeros((len(offsets) - 1, width), np.float32)
    work = len(items) * max(1, len(columns) // max(1, len(starts) - 1))
    each_span(lambda a, b: _sum_sparse_rows(offsets, items, starts, columns, weights, out, a, b), even_spans(offsets), work)
    return out


@compiled()
def _sum_sparse_rows(offsets, items, starts, columns, weights, out, first, last):  # type: ignore[no-untyped-def]
    for row in range(first, last):
        own = items[offsets[row] : offsets[row + 1]]
        if not _ascending(own):
            own = np.sort(own)
        for place in range(len(own)):
            if place == 0 or own[place] != own[place - 1]:
                for at in range(starts[own[place]], starts[own[place] + 1]):
                    out[row, columns[at]] += weights[at]
