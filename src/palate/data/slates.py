"""Slates in the order in which each person saw them: what dynamic models of slates learn from.

An impression log has one row an item shown. Here it becomes one row an event: a slate with the place that was clicked, or with
no click. A slate with several clicks gives one event a click, in the order of the places.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from palate.data.dataset import Dataset
from palate.data.ragged import Ragged, offsets_of
from palate.errors import DataError

#: What stands for the place of a click where there was none, and where the clicked item is unknown.
NO_CLICK, UNKNOWN = -1, -2
#: Columns that may tell which slate a row belongs to.
SLATE_COLUMNS = ("impression", "slate")


@dataclass(frozen=True, eq=False)
class SlateLog:
    """Events, person by person, oldest first.

    Attributes
    ----------
    person
        ``int64[n]``, ascending: user numbers. A slate of an unknown person has a negative number of its own.
    items
        Known items of each slate, first place first (``int32``).
    clicked
        ``int32[n]``: place in that row, from 0; :data:`NO_CLICK`; or :data:`UNKNOWN`.
    lengths
        ``int32[n]``: items shown, known or not, and one more for the option of no click.
    """

    person: np.ndarray
    items: Ragged
    clicked: np.ndarray
    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.person)

    @property
    def clicked_items(self) -> np.ndarray:
        """``int32[n]`` the item that was clicked, -1 where none that is known."""
        real = self.clicked >= 0
        found = np.full(len(self), -1, np.int32)
        found[real] = self.items.values[self.items.offsets[:-1][real] + self.clicked[real]]
        return found

    def windows(self, max_len: int) -> np.ndarray:
        """Return the ``int64[w + 1]`` offsets of runs of at most ``max_len`` events of one person."""
        if not len(self):
            return np.zeros(1, np.int64)
        begins = np.flatnonzero(np.diff(self.person, prepend=self.person[0] - 1))
        place = np.arange(len(self)) - np.repeat(begins, np.diff(np.append(begins, len(self))))
        return np.append(np.flatnonzero(place % max_len == 0), len(self)).astype(np.int64)

    def take(self, rows: np.ndarray) -> SlateLog:
        """Return some events."""
        return SlateLog(self.person[rows], self.items.take(rows), self.clicked[rows], self.lengths[rows])

    @classmethod
    def empty(cls) -> SlateLog:
        """Return a log without events."""
        return cls(np.empty(0, np.int64), Ragged.empty(0), np.empty(0, np.int32), np.empty(0, np.int32))

    @classmethod
    def of(cls, dataset: Dataset) -> SlateLog:
        """Order the impressions of a data set (without any, the log is empty).

        Raises
        ------
        DataError
            If a column is missing, a row belongs to no slate, or a slate to two people.
        """
        table = dataset.impressions
        if table is None or table.num_rows == 0:
            return cls.empty()
        code, user, item = _codes(table), _numbers(table, "user"), _numbers(table, "item")
        first = np.empty(code.max() + 1, np.int64)
        first[code[::-1]] = np.arange(len(code))[::-1]
        torn = np.flatnonzero(user != user[first][code])
        if len(torn):
            raise DataError(
                "a slate belongs to two people.",
                where=f"impressions, row {torn[0] + 1}",
                value=table.column(_slate_column(table))[int(torn[0])].as_py(),
                remedy="give every slate a number of its own",
            )
        user = np.where(user < 0, -1 - code, user)
        time = _column(table, "time", np.int64)[first][code]
        order = np.lexsort((_column(table, "position", np.float64), code, time, user))
        return _events(user[order], code[order], item[order], _clicks(table)[order])


def _events(user: np.ndarray, code: np.ndarray, item: np.ndarray, click: np.ndarray) -> SlateLog:
    """Return the log of rows that are in order: person, time, slate, position."""
    starts = np.flatnonzero(np.diff(code, prepend=-1))
    slate = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(code))))
    known = item >= 0
    items = Ragged(offsets_of(np.bincount(slate[known], minlength=len(starts))), item[known].astype(np.int32))
    place = np.cumsum(known) - 1 - items.offsets[slate]
    real = np.flatnonzero(click & known)
    rest = np.ones(len(starts), bool)
    rest[slate[real]] = False
    lost = np.zeros(len(starts), bool)
    lost[slate[click & ~known]] = True
    silent = np.flatnonzero(rest)
    row = np.concatenate([slate[real], silent])
    clicked = np.concatenate([place[real], np.where(lost[silent], UNKNOWN, NO_CLICK)]).astype(np.int32)
    at = np.lexsort((clicked, row))
    row = row[at]
    lengths = np.bincount(slate, minlength=len(starts)) + 1
    return SlateLog(user[starts][row].astype(np.int64), items.take(row), clicked[at], lengths[row].astype(np.int32))


def _slate_column(table: pa.Table) -> str:
    for name in SLATE_COLUMNS:
        if name in table.column_names:
            return name
    raise DataError(
        "no column says which slate a row belongs to.",
        where="impressions",
        value=table.column_names,
        remedy="name it: read_impressions(…, columns={'impression': …})",
    )


def _codes(table: pa.Table) -> np.ndarray:
    """Return ``int64[n]`` slates, numbered by first appearance."""
    column = table.column(_slate_column(table))
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0])
        raise DataError("a row belongs to no slate.", where=f"impressions, row {row + 1}", remedy="number every slate")
    encoded = pc.dictionary_encode(column.combine_chunks())
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    codes: np.ndarray = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return codes


def _numbers(table: pa.Table, name: str) -> np.ndarray:
    if name not in table.column_names:
        raise DataError(f"impressions have no {name}.", where="impressions", value=table.column_names)
    found: np.ndarray = table.column(name).fill_null(-1).to_numpy().astype(np.int64)
    return found


def _clicks(table: pa.Table) -> np.ndarray:
    if "click" not in table.column_names:
        raise DataError(
            "impressions have no clicks.", where="impressions", value=table.column_names, remedy="add click: 0 or 1"
        )
    clicks: np.ndarray = table.column("click").cast(pa.float32()).fill_null(0).to_numpy() > 0
    return clicks


def _column(table: pa.Table, name: str, dtype: type) -> np.ndarray:
    """Return an optional column of numbers; zeros keep the order of rows."""
    if name not in table.column_names:
        return np.zeros(table.num_rows, dtype)
    return np.asarray(table.column(name).cast(pa.from_numpy_dtype(dtype)).fill_null(0).to_numpy())
