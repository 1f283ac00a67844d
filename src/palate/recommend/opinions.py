"""Opinions: the values of events (ratings, play counts), cut into a few levels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palate.data.dataset import Dataset
from palate.data.histories import Histories
from palate.data.ragged import offsets_of


@dataclass(frozen=True, eq=False)
class Opinions:
    """Where levels begin.

    Attributes
    ----------
    bounds
        ``float32[levels - 1]``, ascending: level ``l`` holds values from ``bounds[l - 1]`` to below ``bounds[l]``.
    typical
        Level of an event without a value: the commonest.
    n_items
        Size of the catalogue.
    scale
        Mean and standard deviation of the values (0 and 1 where there are none).
    valued
        Whether any event has a value.
    """

    bounds: np.ndarray
    typical: int
    n_items: int
    scale: tuple[float, float] = (0.0, 1.0)
    valued: bool = False

    @classmethod
    def of(cls, dataset: Dataset, levels: int) -> Opinions:
        """Choose the levels of a data set: each distinct value, or quantiles where there are more than ``levels``."""
        values = dataset.interactions.value
        known = np.empty(0, np.float32) if values is None else values[np.isfinite(values)]
        if not len(known):
            return cls(np.empty(0, np.float32), 0, dataset.n_items)
        found = np.unique(known)
        if len(found) > levels:
            found = np.unique(np.quantile(known, np.arange(levels) / levels).astype(np.float32))
        bounds = found[1:].astype(np.float32)
        typical = int(np.bincount(np.searchsorted(bounds, known, side="right")).argmax())
        return cls(bounds, typical, dataset.n_items, (float(known.mean()), float(known.std()) or 1.0), valued=True)

    @property
    def levels(self) -> int:
        """How many there are."""
        return len(self.bounds) + 1

    def read(self, histories: Histories, kept: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the distinct items of each history with the level of the latest opinion on each.

        Parameters
        ----------
        histories
            What people did.
        kept
            ``bool[n_items]``: items to keep, or ``None`` for all.

        Returns
        -------
        tuple
            ``int64[n + 1]`` offsets and ``int32[m]`` numbers, ``level * n_items + item``.
        """
        rows, items = histories.ragged.row_numbers, histories.items.astype(np.int64)
        level = np.full(len(items), self.typical, np.int64)
        if histories.values is not None and len(self.bounds):
            known = np.isfinite(histories.values)
            level[known] = np.searchsorted(self.bounds, histories.values[known], side="right")
        order = np.lexsort((np.arange(len(items)), items, rows))
        last = np.ones(len(order), bool)
        last[:-1] = (rows[order][1:] != rows[order][:-1]) | (items[order][1:] != items[order][:-1])
        if kept is not None:
            last &= kept[items[order]]
        chosen = order[last]
        offsets = offsets_of(np.bincount(rows[chosen], minlength=len(histories)))
        return offsets, (level[chosen] * self.n_items + items[chosen]).astype(np.int32)
