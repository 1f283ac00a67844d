"""Rows of a table taken out and put back, weighted: what stands between whole tables and the rows of a batch."""

from __future__ import annotations

import numpy as np

from palate.kernels.compile import compiled
from palate.kernels.spans import each_span, even_rows

#: Multiplications that a number costs, about (rows lie far apart in memory).
_WORK = 4


def gather_reference(x: np.ndarray, rows: np.ndarray, weight: float = 1.0, add_to: np.ndarray | None = None) -> np.ndarray:
    """Return ``float32[m, d]``: ``weight`` times the rows (``int64[m]``) of ``x``, plus ``add_to`` (changed in place)."""
    found: np.ndarray = x[rows] * np.float32(weight)
    if add_to is None:
        return found
    add_to += found
    return add_to


def gather(x: np.ndarray, rows: np.ndarray, weight: float = 1.0, add_to: np.ndarray | None = None) -> np.ndarray:
    """As :func:`gather_reference`, fast."""
    out = np.empty((len(rows), x.shape[1]), np.float32) if add_to is None else add_to
    fresh = add_to is None

    def run(low: int, high: int) -> None:
        _gather(x, rows, np.float32(weight), fresh, out, low, high)

    each_span(run, even_rows(len(rows)), _WORK * out.size)
    return out


def scatter_reference(total: np.ndarray, rows: np.ndarray, values: np.ndarray, weight: float = 1.0) -> None:
    """Add ``weight`` times ``values`` (``float32[m, d]``) to rows of ``total``, in place; a row named twice gets both."""
    np.add.at(total, rows, np.float32(weight) * values)


def scatter(total: np.ndarray, rows: np.ndarray, values: np.ndarray, weight: float = 1.0) -> None:
    """As :func:`scatter_reference`, fast; rows are added in order, by one thread."""
    _scatter(total, rows, values, np.float32(weight))


def scatter_pulled_reference(total: np.ndarray, rows: np.ndarray, values: np.ndarray, x: np.ndarray, pull: float) -> None:
    """Add ``values`` (``float32[m, d]``) plus ``pull`` times the rows of ``x`` to the same rows of ``total``, in place."""
    np.add.at(total, rows, values + np.float32(pull) * x[rows])


def scatter_pulled(total: np.ndarray, rows: np.ndarray, values: np.ndarray, x: np.ndarray, pull: float) -> None:
    """As :func:`scatter_pulled_reference`, fast; rows are added in order, by one thread."""
    _scatter_pulled(total, rows, values, x, np.float32(pull))


@compiled()
def _gather(x, rows, weight, fresh, out, low, high):  # type: ignore[no-untyped-def]
    for at in range(low, high):
        row = rows[at]
        if fresh:
            for c in range(x.shape[1]):
                out[at, c] = weight * x[row, c]
        else:
            for c in range(x.shape[1]):
                out[at, c] += weight * x[row, c]


@compiled()
def _scatter(total, rows, values, weight):  # type: ignore[no-untyped-def]
    for at in range(len(rows)):
        row = rows[at]
        for c in range(total.shape[1]):
            total[row, c] += weight * values[at, c]


@compiled()
def _scatter_pulled(total, rows, values, x, pull):  # type: ignore[no-untyped-def]
    for at in range(len(rows)):
        row = rows[at]
        for c in range(total.shape[1]):
            total[row, c] += values[at, c] + pull * x[row, c]
