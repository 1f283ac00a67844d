"""Histories: what each person did, oldest first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from palate.data.ragged import Ragged, row_positions


@dataclass(frozen=True)
class Histories:
    """Ragged event histories of ``n`` people, most recent last.

    Attributes
    ----------
    offsets
        ``int64[n + 1]``.
    items
        ``int32[m]`` item numbers.
    times
        ``int64[m]`` seconds since 1970, where known.
    values
        ``float32[m]`` ratings, play counts or other strengths, where known.
    actions
        ``int32[m]`` action codes, where known.
    """

    offsets: np.ndarray
    items: np.ndarray
    times: np.ndarray | None = None
    values: np.ndarray | None = None
    actions: np.ndarray | None = None

    @classmethod
    def empty(cls, n: int) -> Histories:
        """Return ``n`` empty histories."""
        return cls(np.zeros(n + 1, np.int64), np.empty(0, np.int32))

    @classmethod
    def from_rows(cls, rows: Iterable[Sequence[int] | np.ndarray]) -> Histories:
        """Build from lists of item numbers."""
        ragged = Ragged.from_rows(rows)
        return cls(ragged.offsets, ragged.values)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def ragged(self) -> Ragged:
        """The item numbers alone."""
        return Ragged(self.offsets, self.items)

    @property
    def lengths(self) -> np.ndarray:
        """``int64[n]`` events of each person."""
        return np.diff(self.offsets)

    def take(self, rows: np.ndarray) -> Histories:
        """Return the histories of the rows named; a negative row number gives an empty one."""
        offsets, at = row_positions(self.offsets, rows)
        return Histories(offsets, self.items[at], *(None if c is None else c[at] for c in self._optional))

    def slice(self, start: int, stop: int) -> Histories:
        """Return rows ``start`` to ``stop`` as views."""
        stop = min(stop, len(self))
        low, high = self.offsets[start], self.offsets[stop]
        columns = (None if c is None else c[low:high] for c in self._optional)
        return Histories(self.offsets[start : stop + 1] - low, self.items[low:high], *columns)

    def matrix(self, n_items: int, *, values: bool = False) -> sparse.csr_matrix:
        """Return the ``n x n_items`` matrix of float32 ones (or summed values), repeats merged."""
        data = self.values if values and self.values is not None else np.ones(len(self.items), np.float32)
        shape = (len(self), n_items)
        matrix = sparse.csr_matrix((data.astype(np.float32), self.items.copy(), self.offsets.copy()), shape=shape)
        matrix.sum_duplicates()
        if not values:
            matrix.data[:] = 1.0
        return matrix

    @property
    def _optional(self) -> tuple[np.ndarray | None, ...]:
        return (self.times, self.values, self.actions)
