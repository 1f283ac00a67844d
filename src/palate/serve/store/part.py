"""Part: what the store's parts share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Connection, Insert, Table
from sqlalchemy.dialects import postgresql, sqlite

from palate.errors import PalateError
from palate.serve.store.database import Database
from palate.serve.store.rows import Added

T = TypeVar("T")
R = TypeVar("R")
#: Ids looked up in one statement.
CHUNK = 500


class Part:
    """Base of the store's parts.

    Attributes
    ----------
    database
        Connections.
    clock
        Seconds since 1970.
    """

    database: Database
    clock: Callable[[], float]


def chunks(values: Iterable[T], size: int = CHUNK) -> Iterator[list[T]]:
    """Cut values into lists of at most ``size``."""
    left = iter(values)
    while chunk := list(islice(left, size)):
        yield chunk


def upsert(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], *, keep: Sequence[str] = ()) -> None:
    """Put rows in, over those of the same primary key (whose columns ``keep`` stay)."""
    if not rows:
        return
    insert: Any = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement: Any = insert(table)
    index = [column.name for column in table.primary_key]
    changed = {name: statement.excluded[name] for name in rows[0] if name not in index and name not in keep}
    done: Insert = statement.on_conflict_do_update(index_elements=index, set_=changed)
    connection.execute(done, [dict(row) for row in rows])


def raised(outcome: T | PalateError) -> T:
    """Return an outcome, or raise it if it is an error."""
    if isinstance(outcome, PalateError):
        raise outcome
    return outcome


def sort_out(
    batches: Iterable[Sequence[T] | PalateError], new_of: Callable[[Sequence[T]], Sequence[R]]
) -> tuple[list[R], list[Added | PalateError]]:
    """Return what is new in all good batches, and for each batch how much that is, or its error.

    Parameters
    ----------
    batches
        Batches, or what was wrong with them.
    new_of
        Gives what is new in a batch, or raises what is wrong with it (and then the others stand).
    """
    fresh: list[R] = []
    outcomes: list[Added | PalateError] = []
    for given in batches:
        try:
            batch = raised(given)
            new = new_of(batch)
        except PalateError as error:
            outcomes.append(error)
            continue
        fresh.extend(new)
        outcomes.append(Added(len(new), len(batch) - len(new), 0))
    return fresh, outcomes
