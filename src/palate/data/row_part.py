"""Row part: some fields of encoded rows, with a range of codes of their own, so that one table of vectors covers them alone."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from palate.data.row_encoder import Encoded, RowLayout
from palate.errors import ConfigError, nearest


@dataclass(frozen=True)
class RowPart:
    """Some fields of a layout (made by :meth:`of`).

    Attributes
    ----------
    layout
        The layout of the part.
    columns
        ``int64[w]``: columns of codes of the whole that it takes.
    shifts
        ``int32[w]``: what is taken off the codes of each column (padding stays 0).
    numbers
        ``int64[m]``: columns of numbers that it takes.
    """

    layout: RowLayout
    columns: np.ndarray
    shifts: np.ndarray
    numbers: np.ndarray

    @classmethod
    def of(cls, layout: RowLayout, names: Collection[str]) -> RowPart:
        """Return the part of some fields, in the order of the layout.

        Raises
        ------
        ConfigError
            If a name is of no field.
        """
        for name in names:
            if name not in layout.names:
                raise ConfigError("there is no such field.", where="fields", value=name, remedy=nearest(name, layout.names))
        kept = [name for name in layout.names if name in set(names)]
        bases, at = {}, 1
        for base, size in sorted({(layout.bases[name], layout.sizes[name]) for name in kept if name in layout.bases}):
            bases[base] = at
            at += size
        single = tuple(name for name in layout.single if name in kept)
        columns, shifts = [layout.single.index(name) for name in single], [_shift(layout, bases, name) for name in single]
        spans = {}
        for name, (start, stop) in {**layout.bags, **layout.sequences}.items():
            if name in kept:
                spans[name] = (len(columns), len(columns) + stop - start)
                columns += range(start, stop)
                shifts += [_shift(layout, bases, name)] * (stop - start)
        numbers = tuple(name for name in layout.numbers if name in kept)
        own = RowLayout(
            single,
            {name: span for name, span in spans.items() if name in layout.bags},
            {name: span for name, span in spans.items() if name in layout.sequences},
            numbers,
            {name: bases[layout.bases[name]] for name in kept if name in layout.bases},
            {name: layout.sizes[name] for name in kept if name in layout.sizes},
            at,
        )
        where = np.array([layout.numbers.index(name) for name in numbers], np.int64)
        return cls(own, np.array(columns, np.int64), np.array(shifts, np.int32), where)

    def take(self, rows: Encoded) -> Encoded:
        """Return the part of rows."""
        codes = rows.codes[:, self.columns]
        return Encoded(np.where(codes > 0, codes - self.shifts, 0).astype(np.int32, copy=False), rows.numbers[:, self.numbers])


def _shift(layout: RowLayout, bases: dict[int, int], name: str) -> int:
    return layout.bases[name] - bases[layout.bases[name]]
