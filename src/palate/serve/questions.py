"""From a request on the wire to a question that the pipeline understands: the person, what is barred, what may come."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from palate.errors import DataError
from palate.serve.catalogue import Catalogue
from palate.serve.errors import NotFound
from palate.serve.people import Person
from palate.serve.pipeline.filters import Filter, compile_filter
from palate.serve.wire import HistoryEvent


def given_history(history: Sequence[str | HistoryEvent] | None, user: str | None, catalogue: Catalogue) -> Person:
    """Return the person that a history on the wire describes."""
    items, times = [], []
    for event in history or ():
        items.append(event if isinstance(event, str) else event.item)
        times.append(0.0 if isinstance(event, str) or event.time is None else event.time)
    return Person.of(user, items, times, catalogue)


def row_of(item: str, catalogue: Catalogue) -> int:
    """Return the row of an item that exists.

    Raises
    ------
    NotFound
        If it doesn't, or was deleted.
    """
    if catalogue.known(item) is None:
        raise NotFound("no such item.", where="item", value=item, remedy="put it in with PUT /v1/items/{id}")
    return catalogue.row[item]


def allowed_rows(filter_: Filter | None, catalogue: Catalogue) -> Callable[[int], bool] | None:
    """Return the test of rows that a caller's filter makes."""
    if filter_ is None:
        return None
    test, items = compile_filter(filter_), catalogue.items
    return lambda row: test(items[row])


def barred_rows(person: Person, near: np.ndarray, exclude: Sequence[str], seen: str, catalogue: Catalogue) -> np.ndarray:
    """Return ``int32[m]``: rows that must not come."""
    parts = [near, np.array(catalogue.rows_of(exclude), np.int32)]
    if seen == "exclude":
        parts.append(person.seen)
    return np.unique(np.concatenate(parts)).astype(np.int32)


def check_k(k: int, most: int) -> int:
    """Refuse lists that are too long."""
    if k > most:
        raise DataError("k is too large.", where="k", value=k, remedy=f"ask for at most {most}; the limit is server.max_k")
    return k
