"""Past: what a person did, and what they said of items: all that an answer needs of them, in one statement."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, Subquery, bindparam, func, null, select, union_all

from palate.serve.store.checks import check_id, check_optional_id
from palate.serve.store.part import Part
from palate.serve.store.tables import OPINION, events, feedback

#: How many of a person's latest words on items are read, at most.
MOST_SAID = 10_000


class Said(NamedTuple):
    """What a person said of an item: kind of the feedback, its value, and when."""

    item: str
    kind: str
    value: float
    time: float


class Past(NamedTuple):
    """A person's latest events (items and times) and what they said of items, both oldest first."""

    items: list[str]
    times: list[float]
    said: list[Said]


_DONE = (
    select(events.c.item, events.c.time, events.c.n)
    .where(events.c.user == bindparam("user"), events.c.time < bindparam("before"))
    .order_by(events.c.time.desc(), events.c.n.desc())
    .limit(bindparam("most"))
    .subquery()
)


def _words(whose: ColumnElement[bool]) -> Subquery:
    return (
        select(feedback.c.item, feedback.c.kind, feedback.c.value, feedback.c.time, feedback.c.n)
        .where(whose, OPINION, feedback.c.time < bindparam("before"))
        .order_by(feedback.c.time.desc(), feedback.c.n.desc())
        .limit(MOST_SAID)
        .subquery()
    )


def _in_one(said: Subquery) -> Select[Any]:
    """Return the statement for one row: lists in JSON, and times of events to the last bit between commas (see ``bulk``)."""
    words = func.json_group_array(func.json_array(said.c.item, said.c.kind, said.c.value, said.c.time))
    return select(
        func.json_group_array(_DONE.c.item),
        func.group_concat(func.printf("%!.17g", _DONE.c.time)),
        select(words).select_from(said).scalar_subquery(),
    )


def _in_rows(said: Subquery) -> Select[Any]:
    """Return the statement for rows, of which those without a kind are events."""
    both = union_all(
        select(_DONE.c.item, null().label("kind"), null().label("value"), _DONE.c.time, _DONE.c.n),
        select(said.c.item, said.c.kind, said.c.value, said.c.time, said.c.n),
    ).subquery()
    return select(both).order_by(both.c.time.desc(), both.c.n.desc())


_UNIT = _words(feedback.c.unit == bindparam("unit"))
_EITHER = _words(feedback.c.unit.in_([bindparam("unit"), bindparam("visitor")]))
#: The statement by the kind of database, and whether both a user and a visitor are asked for.
_ASK = {
    (dialect, both): make(_EITHER if both else _UNIT)
    for dialect, make in (("sqlite", _in_one), ("postgresql", _in_rows))
    for both in (True, False)
}


class PastReader(Part):
    """The store's part for what an answer needs of a person."""

    def past_of(self, user: str | None, anonymous: str | None = None, *, limit: int = 500, before: float = math.inf) -> Past:
        """Return a person's latest ``limit`` events, and what they said of items (the latest :data:`MOST_SAID` words).

        Parameters
        ----------
        user, anonymous
            As in the requests: a user's id, the key of a visitor, or both. Events are users' only.
        before
            As it was at that moment (what is of that very moment is left out).
        """
        unit = check_optional_id(user, "user") or check_optional_id(anonymous, "anonymous")
        values = {"user": user, "unit": unit, "visitor": anonymous, "most": limit, "before": before}
        statement = _ASK[self.database.dialect, user is not None and anonymous is not None]
        if self.database.dialect == "sqlite":
            [(items, times, words)] = self.database.glance(statement, values)
            return _oldest_first(
                json.loads(items),
                [float(time) for time in (times or "").split(",") if time],
                [Said(*one) for one in json.loads(words)] if words != "[]" else [],
            )
        rows = self.database.glance(statement, values)
        done = [row for row in rows if row[1] is None]
        said = [Said(*row[:4]) for row in rows if row[1] is not None]
        return _oldest_first([row[0] for row in done], [row[3] for row in done], said)

    def said_by(self, user: str) -> list[tuple[Said, str]]:
        """Return what a user (or visitor) said of items, each with the slate that it was said of; oldest first."""
        wanted = (
            select(feedback.c.item, feedback.c.kind, feedback.c.value, feedback.c.time, feedback.c.slate)
            .where(feedback.c.unit == check_id(user, "user"), OPINION)
            .order_by(feedback.c.time.desc(), feedback.c.n.desc())
            .limit(MOST_SAID)
        )
        with self.database.read() as connection:
            return [(Said(*row[:4]), row[4]) for row in reversed(connection.execute(wanted).all())]


def _oldest_first(items: Sequence[str], times: Sequence[float], said: Sequence[Said]) -> Past:
    return Past(list(items[::-1]), list(times[::-1]), list(said[::-1]))
