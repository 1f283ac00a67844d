"""Events: written by the batch, read by person, by number, and as counts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection, Select, func, select

from palate.data.positive import Positive
from palate.errors import PalateError
from palate.serve.errors import ConflictError
from palate.serve.store.bulk import put_block, rows_named
from palate.serve.store.checks import (
    check_id,
    check_new_id,
    check_optional_id,
    check_optional_number,
    check_time,
    from_json,
    object_to_json,
)
from palate.serve.store.items import ensure_items
from palate.serve.store.part import Part, raised, sort_out
from palate.serve.store.positive import counts
from palate.serve.store.rows import Added, Event
from palate.serve.store.tables import events
from palate.serve.store.users import ensure_users

#: What must be equal for two events of one id to be the same event (and the time, where it was given).
CONTENT = ("user", "item", "type", "value", "session", "context")
NAMES = ("id", "user", "item", "type", "value", "time", "session", "context")
_TYPES = {"n": pa.int64(), "value": pa.float64(), "time": pa.float64()}
SCHEMA = pa.schema([(column.name, _TYPES.get(column.name, pa.string())) for column in events.columns])

_LAST = select(func.max(events.c.n))


class Events(Part):
    """The store's part for events."""

    def add_events(self, batch: Sequence[Event]) -> Added:
        """Write a batch: all or nothing, in one transaction; it is on disk when this returns.

        Raises
        ------
        DataError
            If an event is not well formed; ``where`` is such as ``events[3].time``, counted from 0.
        ConflictError
            If an event's id is known with another content.
        """
        with self.database.write() as connection:
            return raised(write_events(connection, [batch], self.clock())[0])

    def position(self) -> int:
        """Return the number of the last event, or 0."""
        with self.database.read() as connection:
            return last_number(connection)

    def events_of(
        self, user: str, limit: int = 100, after: int | None = None, *, positive: Positive | None = None
    ) -> list[Event]:
        """Return a person's latest events, oldest first (``after``: of a larger number; ``positive``: that count)."""
        wanted = select(events).where(events.c.user == check_id(user, "user"), counts(positive))
        if after is not None:
            wanted = wanted.where(events.c.n > after)
        wanted = wanted.order_by(events.c.time.desc(), events.c.n.desc()).limit(limit)
        with self.database.read() as connection:
            return [event_of(row) for row in reversed(connection.execute(wanted).all())]

    def count_of(self, user: str) -> int:
        """Return how many events a person has."""
        with self.database.read() as connection:
            return int(connection.scalar(select(func.count()).where(events.c.user == check_id(user, "user"))) or 0)

    def events_after(self, position: int, limit: int = 10_000) -> pa.Table:
        """Return the events after a number, in order, as the columns of ``SCHEMA``; the last ``n`` is the next position."""
        wanted = select(events).where(events.c.n > position).order_by(events.c.n).limit(limit)
        with self.database.read() as connection:
            return to_table(connection.execute(wanted).all())

    def tally(
        self,
        since: float,
        until: float | None = None,
        *,
        after: int = 0,
        upto: int | None = None,
        types: Iterable[str] = (),
        positive: Positive | None = None,
    ) -> dict[str, int]:
        """Return how many events each item has.

        Parameters
        ----------
        since, until
            Times in ``[since, until)``; to the end by default.
        after, upto
            Numbers in ``(after, upto]``; all by default.
        types
            Of these types only; of all where none is given.
        positive
            Which of them count; all by default.
        """
        wanted: Select[Any] = select(events.c.item, func.count().label("number")).group_by(events.c.item)
        # A term that is no bare column is not looked up: new events are found by number, a stretch of time by time.
        wanted = wanted.where((events.c.time + 0.0 if after else events.c.time) >= since)
        if until is not None:
            wanted = wanted.where(events.c.time < until)
        if after:
            wanted = wanted.where(events.c.n > after)
        if upto is not None:
            wanted = wanted.where((events.c.n if after else events.c.n + 0) <= upto)
        kinds = sorted(set(types))
        if kinds:
            wanted = wanted.where(events.c.type.in_(kinds))
        if positive is not None:
            wanted = wanted.where(counts(positive))
        with self.database.read() as connection:
            if self.database.dialect == "sqlite":  # as one row (see palate.serve.store.bulk)
                found = wanted.subquery()
                told = connection.scalar(select(func.json_group_object(found.c.item, found.c.number)))
                return dict(json.loads(told or "{}"))
            return {item: int(number) for item, number in connection.execute(wanted)}


def write_events(connection: Connection, batches: Sequence[Sequence[Event]], now: float) -> list[Added | PalateError]:
    """Write batches in one transaction; a batch that can't be written gives its error, and leaves the others alone."""
    ready = [_checked(batch, now) for batch in batches]
    good = [batch for batch in ready if not isinstance(batch, PalateError)]
    kept = _kept(connection, {row["id"] for batch in good for row in batch if row["id"] is not None})
    fresh, outcomes = sort_out(ready, lambda batch: _new_rows(batch, kept))
    if fresh:
        ensure_users(connection, {row["user"] for row in fresh}, now)
        ensure_items(connection, {row["item"] for row in fresh}, now)
        put_block(connection, events, NAMES, ([row[name] for name in NAMES] for row in fresh))
    position = last_number(connection)
    return [one if isinstance(one, PalateError) else replace(one, position=position) for one in outcomes]


def last_number(connection: Connection) -> int:
    """Return the number of the last event, or 0."""
    return int(connection.scalar(_LAST) or 0)


def event_of(row: Any) -> Event:
    """Return a row of the table as an event."""
    n, id_, user, item, type_, value, time, session, context = row
    return Event(user, item, type_, value, time, session, from_json(context), id_, n)


def to_table(rows: Sequence[Sequence[Any]]) -> pa.Table:
    """Return rows of the table as columns."""
    columns: Sequence[Sequence[Any]] = list(zip(*rows, strict=True)) if rows else [[] for _ in SCHEMA]
    return pa.Table.from_arrays([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)


def _checked(batch: Sequence[Event], now: float) -> list[dict[str, Any]] | PalateError:
    try:
        return [_row(event, f"events[{at}]", now) for at, event in enumerate(batch)]
    except PalateError as error:
        return error


def _row(event: Event, where: str, now: float) -> dict[str, Any]:
    return {
        "id": check_optional_id(event.id, f"{where}.id"),
        "user": check_new_id(event.user, f"{where}.user"),
        "item": check_new_id(event.item, f"{where}.item"),
        "type": check_id(event.type, f"{where}.type"),
        "value": check_optional_number(event.value, f"{where}.value"),
        "time": now if event.time is None else check_time(event.time, f"{where}.time"),
        "session": check_optional_id(event.session, f"{where}.session"),
        "context": object_to_json(event.context, f"{where}.context"),
        "timed": event.time is not None,
    }


def _kept(connection: Connection, ids: set[str]) -> dict[str, Mapping[str, Any]]:
    """Return the rows that have these ids already."""
    kept: dict[str, Mapping[str, Any]] = {}
    columns = list(events.columns)
    for row in rows_named(connection, columns, events.c.id, ids):
        known = dict(zip((column.name for column in columns), row, strict=True))
        kept[known["id"]] = known
    return kept


def _new_rows(batch: Sequence[dict[str, Any]], kept: dict[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows that are not there yet, and remember them in ``kept`` if all are in order."""
    own: dict[str, Mapping[str, Any]] = {}
    new: list[dict[str, Any]] = []
    for at, row in enumerate(batch):
        known = None if row["id"] is None else own.get(row["id"]) or kept.get(row["id"])
        if known is None:
            if row["id"] is not None:
                own[row["id"]] = row
            new.append(row)
        elif not _same(row, known):
            raise ConflictError(
                "an event of this id is kept with another content.",
                where=f"events[{at}].id",
                value=row["id"],
                remedy="give every event an id of its own",
            )
    kept.update(own)
    return new


def _same(row: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    return all(row[name] == known[name] for name in CONTENT) and (not row["timed"] or row["time"] == known["time"])
