"""What every index of vectors has in common: its question, its answer, and the checks of both."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from palate.data.ragged import Ragged
from palate.errors import DataError

#: Items not to return: one row a query, or one array for all queries (``int32``, any order).
Exclude = Ragged | np.ndarray | None


class VectorIndex(Protocol):
    """An index of item vectors that answers with the best items of each query."""

    def __len__(self) -> int:
        """Return the number of items."""

    def search(
        self, queries: np.ndarray, k: int = 10, *, exclude: Exclude = None, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return ``int32[n, k]`` items and ``float32[n, k]`` scores, best first; short rows end in -1 and ``-inf``."""


def as_vectors(vectors: np.ndarray) -> np.ndarray:
    """Return item vectors as contiguous ``float32[n_items, d]``; refuse other shapes, NaN and infinity."""
    table = np.ascontiguousarray(vectors, np.float32)
    if table.ndim != 2 or table.shape[1] == 0:
        raise DataError("item vectors are a table, one row an item.", value=list(np.shape(vectors)))
    _refuse_infinite(table, "item vectors")
    return table


def as_queries(queries: np.ndarray, d: int) -> np.ndarray:
    """Return queries as contiguous ``float32[n, d]`` (one vector ``float32[d]`` is one query)."""
    table = np.ascontiguousarray(np.atleast_2d(queries), np.float32)
    if table.ndim != 2 or table.shape[1] != d:
        raise DataError(f"queries have as many columns as the item vectors: {d}.", value=list(np.shape(queries)))
    _refuse_infinite(table, "queries")
    return table


def as_rows(exclude: Exclude, n: int) -> Ragged | None:
    """Return excluded items as one row for each of ``n`` queries."""
    if exclude is None:
        return None
    if isinstance(exclude, Ragged):
        if len(exclude) != n:
            raise DataError("exclude has one row for each query.", where="exclude", value=len(exclude), remedy=f"give {n} rows")
        return exclude
    values = np.asarray(exclude, np.int32)
    if values.ndim != 1:
        raise DataError("exclude is one list of items, or a Ragged with one row for each query.", value=list(values.shape))
    return Ragged(np.arange(n + 1, dtype=np.int64) * len(values), np.tile(values, n))


def pair_of(rows: Ragged | None) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return excluded rows as the two arrays that kernels take."""
    return (None, None) if rows is None else (rows.offsets, rows.values)


def as_mask(allowed: np.ndarray | None, n_items: int) -> np.ndarray | None:
    """Return the mask of allowed items; refuse what is not ``bool[n_items]``."""
    if allowed is None:
        return None
    mask = np.asarray(allowed)
    if mask.dtype != np.bool_ or mask.shape != (n_items,):
        raise DataError(
            f"allowed says yes or no of each of the {n_items} items.",
            where="allowed",
            value=f"{mask.dtype}{list(mask.shape)}",
            remedy="give a bool array as long as the index",
        )
    return mask


def check_k(k: int) -> None:
    """Refuse fewer than one."""
    if k < 1:
        raise DataError("k must be at least 1.", value=k)


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Return the rows scaled to length 1 (rows of zeros stay zeros); their inner products are cosines."""
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
    safe = np.where(lengths > 0, lengths, 1.0)
    return np.ascontiguousarray(vectors / safe[:, None], np.float32)


def _refuse_infinite(table: np.ndarray, what: str) -> None:
    if not np.isfinite(table).all():
        row = int(np.flatnonzero(~np.isfinite(table).all(axis=1))[0])
        raise DataError(f"{what} hold NaN or infinity.", where=f"row {row}", value=table[row].tolist())
