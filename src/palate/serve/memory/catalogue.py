"""The catalogue as it is now: every item of the store in memory, by row, kept up to date by revisions.

A row is given once and never again, so that arrays of models and indexes can point at it; an item that was deleted keeps its
row and is never shown.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

#: Items fetched at a time.
PAGE = 5_000


@dataclass(frozen=True, slots=True)
class Item:
    """An item as the service knows it."""

    id: str
    title: str = ""
    text: str = ""
    categories: tuple[str, ...] = ()
    price: float | None = None
    available: bool = True
    attributes: Mapping[str, Any] = field(default_factory=dict)
    image: str | None = None
    created: float = 0.0
    deleted: bool = False

    @property
    def shown(self) -> bool:
        """Whether it may be shown at all."""
        return self.available and not self.deleted

    def public(self) -> dict[str, Any]:
        """Return what an answer shows of it."""
        return {
            "id": self.id,
            "title": self.title or self.id,
            "categories": list(self.categories),
            "price": self.price,
            "image": self.image,
        }


class ItemSource(Protocol):
    """What the catalogue reads from (the store)."""

    def items_after(self, revision: int, limit: int) -> Sequence[tuple[int, Item]]:
        """Return items that changed after a revision, each with its own, in that order."""


class Catalogue:
    """Items by row.

    Attributes
    ----------
    items
        By row.
    row
        Row of each id.
    shown
        ``bool[n]``; may be longer than ``items``, and is false there.
    revision
        Up to which change of the store it goes.
    """

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.row: dict[str, int] = {}
        self.shown = np.zeros(1_024, bool)
        self.revision = 0
        self._lock = threading.Lock()
        self._listeners: list[Callable[[Sequence[int]], None]] = []

    def __len__(self) -> int:
        return len(self.items)

    def listen(self, changed: Callable[[Sequence[int]], None]) -> None:
        """Have a function called with the rows that changed, from now on; it is told all present rows at once."""
        with self._lock:
            self._listeners.append(changed)
            if self.items:
                changed(range(len(self.items)))

    def forget(self, changed: Callable[[Sequence[int]], None]) -> None:
        """Call a function no more."""
        with self._lock:
            self._listeners = [listener for listener in self._listeners if listener != changed]

    def refresh(self, source: ItemSource, revision: int | None = None) -> int:
        """Read what changed in the store; return how many items did. ``revision`` is the store's, where it is known."""
        if revision is not None and revision <= self.revision:
            return 0
        with self._lock:
            total = 0
            while True:
                page = source.items_after(self.revision, PAGE)
                if not page:
                    return total
                rows = [self._put(item) for _, item in page]
                self.revision = page[-1][0]
                total += len(rows)
                for tell in self._listeners:
                    tell(rows)

    def rows_of(self, ids: Iterable[str]) -> list[int]:
        """Return the rows of ids; unknown ones are left out."""
        row = self.row
        return [found for i in ids if (found := row.get(i)) is not None]

    def known(self, item: str) -> Item | None:
        """Return an item that may be looked at, or ``None``."""
        at = self.row.get(item)
        return None if at is None or self.items[at].deleted else self.items[at]

    def _put(self, item: Item) -> int:
        at = self.row.get(item.id)
        if at is None:
            at = len(self.items)
            if at >= len(self.shown):
                self.shown = np.concatenate([self.shown, np.zeros(len(self.shown), bool)])
            self.items.append(item)
            self.row[item.id] = at
        else:
            self.items[at] = item
        self.shown[at] = item.shown
        return at
