"""Interactions: the columnar, immutable table of who did what, when."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from palate.data.histories import Histories
from palate.data.ragged import offsets_of

#: Optional columns and their types.
OPTIONAL = {"time": np.int64, "value": np.float32, "action": np.int32, "session": np.int32}


@dataclass(frozen=True, eq=False)
class Interactions:
    """Events sorted by user, then time, then file order.

    Build with :meth:`sorted`, which puts rows in that order; the constructor trusts its caller.

    Attributes
    ----------
    user, item
        ``int32[n]`` numbers.
    time
        ``int64[n]`` seconds since 1970, or ``None``.
    value
        ``float32[n]`` rating, count or strength, or ``None``.
    action, session
        ``int32[n]`` codes, or ``None``.
    row
        ``int32[n]`` row of the source that each event came from (the file order), or ``None`` where the source
        was sorted already.
    """

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray | None = None
    value: np.ndarray | None = None
    action: np.ndarray | None = None
    session: np.ndarray | None = None
    row: np.ndarray | None = None

    @classmethod
    def sorted(cls, user: np.ndarray, item: np.ndarray, **columns: np.ndarray | None) -> Interactions:
        """Sort columns by (user, time, file order), stably, and freeze them."""
        user = np.ascontiguousarray(user, np.int32)
        given = {name: c for name, c in columns.items() if c is not None}
        time = given.get("time")
        order = _order(user, time)
        table = {"user": user, "item": np.ascontiguousarray(item, np.int32), **given}
        row = given.pop("row", None)
        table.pop("row", None)
        for name, dtype in OPTIONAL.items():
            if name in table:
                table[name] = np.ascontiguousarray(table[name], dtype)
        if order is not None:
            table = {name: column[order] for name, column in table.items()}
            row = order.astype(np.int32) if row is None else row[order]
        if row is not None:
            table["row"] = row
        return cls(**_frozen(table))

    def __len__(self) -> int:
        return len(self.user)

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """The columns present, by name (``row`` included where kept)."""
        pairs = ((f.name, getattr(self, f.name)) for f in fields(self))
        return {name: column for name, column in pairs if column is not None}

    @property
    def file_order(self) -> np.ndarray:
        """``int32[n]`` the source row of each event."""
        return np.arange(len(self), dtype=np.int32) if self.row is None else self.row

    def take(self, keep: np.ndarray) -> Interactions:
        """Return the events of a boolean mask or of ascending positions (the order stays)."""
        kept = {name: column[keep] for name, column in self.columns.items()}
        kept.setdefault("row", np.flatnonzero(keep).astype(np.int32) if keep.dtype == bool else keep.astype(np.int32))
        return Interactions(**_frozen(kept))

    def without(self, *names: str) -> Interactions:
        """Return a view that lacks some optional columns."""
        absent: dict[str, Any] = dict.fromkeys(names)
        return replace(self, **absent)

    def user_offsets(self, n_users: int) -> np.ndarray:
        """Return ``int64[n_users + 1]``, the CSR offsets of each user's events."""
        return offsets_of(np.bincount(self.user, minlength=n_users))

    def histories(self, n_users: int) -> Histories:
        """Return every user's history as views on these columns."""
        return Histories(self.user_offsets(n_users), self.item, self.time, self.value, self.action)

    @cached_property
    def time_order(self) -> np.ndarray:
        """Positions of all events by (time, file order): the order in which the world saw them."""
        if self.time is None:
            return np.argsort(self.file_order, kind="stable")
        return np.lexsort((self.file_order, self.time))


def concat(*parts: Interactions) -> Interactions:
    """Merge tables of events over the same ids; equal times keep source-row order.

    Columns that any part lacks are dropped.
    """
    parts = tuple(p for p in parts if len(p)) or parts[:1]
    names = set.intersection(*(set(p.columns) for p in parts)) - {"row"}
    rows = np.concatenate([p.file_order for p in parts])
    joined = {name: np.concatenate([getattr(p, name) for p in parts]) for name in names}
    by_row = np.argsort(rows, kind="stable")
    return Interactions.sorted(**{name: column[by_row] for name, column in joined.items()}, row=rows[by_row])


def _frozen(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    for column in columns.values():
        column.flags.writeable = False
    return columns


def _order(user: np.ndarray, time: np.ndarray | None) -> np.ndarray | None:
    """Return the stable order by (user, time), or ``None`` where rows are in it already."""
    step = np.diff(user)
    if time is None:
        return None if (step >= 0).all() else np.argsort(user, kind="stable")
    if ((step > 0) | ((step == 0) & (np.diff(time) >= 0))).all():
        return None
    return np.lexsort((time, user))
