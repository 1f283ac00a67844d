"""Lists: ranked lists beside what should have been found, checked once and shared by all metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from palate.data.histories import Histories
from palate.data.ragged import Ragged
from palate.errors import DataError
from palate.kernels.find_ranks import FAULTS, find_ranks


@dataclass(frozen=True, eq=False)
class Lists:
    """Ranked lists and their truth, row by row.

    Attributes
    ----------
    items
        ``int32[n, k]``, best first; -1 ends a row.
    truth
        Relevant items, distinct within a row.
    n_items
        Size of the catalogue.
    gains
        ``float64`` aligned with ``truth.values``, or ``None`` where all count the same.
    histories
        What each person did before, or ``None``.
    times
        ``int64[n]`` when each was asked, or ``None``.
    n_candidates
        Items that could have been listed (one number, or ``int64[n]``); ``None`` means the catalogue without the items of the
        history that are not relevant.
    """

    items: np.ndarray
    truth: Ragged
    n_items: int
    gains: np.ndarray | None = None
    histories: Histories | None = None
    times: np.ndarray | None = None
    n_candidates: int | np.ndarray | None = None

    @classmethod
    def of(
        cls,
        items: Sequence[Sequence[int]] | np.ndarray,
        truth: Sequence[Sequence[int]] | Ragged,
        *,
        n_items: int | None = None,
        gains: Sequence[Sequence[float]] | np.ndarray | None = None,
        histories: Sequence[Sequence[int]] | Histories | None = None,
    ) -> Lists:
        """Build from plain lists (short rows are padded); the catalogue is as large as it must be unless said otherwise."""
        width = max((len(row) for row in items), default=0)
        table = np.full((len(items), width), -1, np.int32)
        for row, line in enumerate(items):
            table[row, : len(line)] = line
        wanted = truth if isinstance(truth, Ragged) else Ragged.from_rows(truth)
        size = n_items or 1 + int(max(table.max(initial=0), wanted.values.max(initial=0)))
        nested = gains is not None and not isinstance(gains, np.ndarray)
        worth = Ragged.from_rows(gains, np.float64).values if nested else gains  # type: ignore[arg-type]
        known = Histories.from_rows(histories) if isinstance(histories, (list, tuple)) else histories
        return cls(table, wanted, size, worth, known)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.items)

    @property
    def width(self) -> int:
        """Ranks a row can hold."""
        return self.items.shape[1]

    @cached_property
    def _found(self) -> tuple[np.ndarray, np.ndarray]:
        if len(self.truth) != len(self.items):
            raise DataError(f"{len(self.items)} lists for {len(self.truth)} people with answers.", where="items")
        ranks, lengths, faults = find_ranks(self.items, self.truth.offsets, self.truth.values, self.n_items)
        if faults.any():
            row = int(np.flatnonzero(faults)[0])
            fault = int(faults[row])
            line = self.truth[row] if fault > 3 else self.items[row]
            raise DataError(FAULTS[fault], where=f"row {row}", value=line.tolist(), remedy="mend the lists before judging them")
        return ranks, lengths

    @property
    def ranks(self) -> np.ndarray:
        """``int32`` aligned with ``truth.values``: rank from 1, or 0 where it was not listed."""
        return self._found[0]

    @property
    def lengths(self) -> np.ndarray:
        """``int32[n]`` items in each list."""
        return self._found[1]

    @cached_property
    def relevant(self) -> np.ndarray:
        """``int64[n]`` relevant items of each row."""
        return self.truth.lengths

    @cached_property
    def candidates(self) -> np.ndarray:
        """``int64[n]`` items that could have been listed (never fewer than were)."""
        if self.n_candidates is not None:
            pool = np.broadcast_to(np.asarray(self.n_candidates, np.int64), (len(self),))
        else:
            pool = self.n_items - self._spent()
        return np.maximum(pool, self.lengths)

    def _spent(self) -> np.ndarray:
        """Distinct items of each history that are not relevant."""
        if self.histories is None:
            return np.zeros(len(self), np.int64)
        pairs = self.histories.ragged.row_numbers * self.n_items + self.histories.items
        wanted = self.truth.row_numbers * self.n_items + self.truth.values
        spent = np.setdiff1d(pairs, wanted)
        return np.bincount(spent // self.n_items, minlength=len(self))

    def hits(self, k: int) -> np.ndarray:
        """``bool`` aligned with ``truth.values``: found within ``k``."""
        return (self.ranks > 0) & (self.ranks <= k)

    def row_sums(self, values: np.ndarray) -> np.ndarray:
        """Sum values aligned with ``truth.values`` by row."""
        return np.bincount(self.truth.row_numbers, values, minlength=len(self))
