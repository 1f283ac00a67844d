"""Ragged rows: one flat array and the offsets of its rows (the CSR idea, for anything)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from palate.kernels.rows import distinct_rows

#: :func:`renumbered` keeps a table where the numbers are at least one in so many.
TABLE = 8


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths, stored flat.

    Attributes
    ----------
    offsets
        ``int64[n + 1]``; row ``r`` is ``values[offsets[r]:offsets[r + 1]]``.
    values
        One array of any type, rows one after the other.
    """

    offsets: np.ndarray
    values: np.ndarray

    @classmethod
    def from_rows(cls, rows: Iterable[Sequence[int] | np.ndarray], dtype: np.typing.DTypeLike = np.int32) -> Ragged:
        """Build from a list of rows."""
        arrays = [np.asarray(row, dtype=dtype) for row in rows]
        return cls(offsets_of([len(row) for row in arrays]), np.concatenate([np.empty(0, dtype), *arrays]))

    @classmethod
    def empty(cls, n: int, dtype: np.typing.DTypeLike = np.int32) -> Ragged:
        """Build ``n`` empty rows."""
        return cls(np.zeros(n + 1, np.int64), np.empty(0, dtype))

    @classmethod
    def group(cls, rows: np.ndarray, values: np.ndarray, n: int) -> Ragged:
        """Gather ``values`` by their row number; within a row the given order is kept."""
        order = np.argsort(rows, kind="stable")
        return cls(offsets_of(np.bincount(rows, minlength=n)), values[order])

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """``int64[n]``, the length of each row."""
        return np.diff(self.offsets)

    @property
    def row_numbers(self) -> np.ndarray:
        """``int64[len(values)]``, the row that each value belongs to."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @cached_property
    def distinct(self) -> Ragged:
        """The rows as sets: the distinct values of each, ascending."""
        return Ragged(*distinct_rows(self.offsets, self.values))

    def take(self, rows: np.ndarray) -> Ragged:
        """Return the rows named, in that order; a negative row number gives an empty row."""
        return Ragged(*take_rows(self.offsets, rows, self.values))

    def slice(self, start: int, stop: int) -> Ragged:
        """Return rows ``start`` to ``stop`` as a view."""
        low, high = self.offsets[start], self.offsets[min(stop, len(self))]
        return Ragged(self.offsets[start : stop + 1] - low, self.values[low:high])

    def tolist(self) -> list[list[int]]:
        """Return plain nested lists."""
        return [self[row].tolist() for row in range(len(self))]


def offsets_of(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return the ``int64[n + 1]`` offsets of rows of these lengths."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


def in_sorted(known: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Return ``bool``, shaped as ``asked``: which numbers stand in ``known``, which is ascending (no sort, unlike ``isin``)."""
    if not len(known):
        return np.zeros(np.shape(asked), bool)
    return np.asarray(known[np.minimum(np.searchsorted(known, asked), len(known) - 1)] == asked)


def renumbered(n: int, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the distinct numbers (from 0, below ``n``) of some arrays, ascending, and each array as places among them.

    By a table of ``n`` where there are many of them, else by sorting.
    """
    if n > TABLE * sum(np.size(numbers) for numbers in arrays):
        found = np.unique(np.concatenate([np.ravel(numbers) for numbers in arrays]))
        return found, *(np.searchsorted(found, numbers) for numbers in arrays)
    met = np.zeros(n, bool)
    for numbers in arrays:
        met[numbers] = True
    place = np.cumsum(met) - 1
    return np.flatnonzero(met), *(place[numbers] for numbers in arrays)


def row_positions(offsets: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return new offsets and flat positions of the rows named (negative numbers give empty rows)."""
    rows = np.asarray(rows, dtype=np.int64)
    known = rows >= 0
    safe = np.where(known, rows, 0)
    starts = np.where(known, offsets[safe], 0) if len(offsets) > 1 else np.zeros(len(rows), np.int64)
    lengths = np.where(known, offsets[safe + 1] - offsets[safe], 0) if len(offsets) > 1 else starts
    out = offsets_of(lengths)
    positions = np.arange(out[-1]) + np.repeat(starts - out[:-1], lengths)
    return out, positions


def take_rows(offsets: np.ndarray, rows: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return offsets and values of the rows named."""
    out, positions = row_positions(offsets, rows)
    return out, values[positions]
