"""Sums of the rows of a dense matrix, chosen by ragged lists: the score of every linear item-item model."""

from __future__ import annotations

import numba as nb
import numpy as np

from palate.kernels.compile import compiled


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
    _sum_rows(offsets, items, matrix, out)
    return out


@compiled(parallel=True)
def _sum_rows(offsets, items, matrix, out):  # type: ignore[no-untyped-def]
    for row in nb.prange(out.shape[0]):
        own = np.sort(items[offsets[row] : offsets[row + 1]])
        for at in range(len(own)):
            if at == 0 or own[at] != own[at - 1]:
                for column in range(out.shape[1]):
                    out[row, column] += matrix[own[at], column]


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
    _sum_sparse_rows(offsets, items, starts, columns, weights, out)
    return out


@compiled(parallel=True)
def _sum_sparse_rows(offsets, items, starts, columns, weights, out):  # type: ignore[no-untyped-def]
    for row in nb.prange(out.shape[0]):
        own = np.sort(items[offsets[row] : offsets[row + 1]])
        for place in range(len(own)):
            if place == 0 or own[place] != own[place - 1]:
                for at in range(starts[own[place]], starts[own[place] + 1]):
                    out[row, columns[at]] += weights[at]
