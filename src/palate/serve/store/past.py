"""Past: what a person did, and what they said of items: all that an answer needs of them, in one statement."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, Subquery, bindparam, case, func, null, select, union_all

from palate.data.positive import Positive
from palate.serve.store.checks import check_id, check_optional_id
from palate.serve.store.part import Part
from palate.serve.store.positive import counts
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
    """A person's latest events (items and times) and what they said of items, both oldest first.

    ``chosen`` says of each event whether it counts as a choice; ``None`` where all do.
    """

    items: list[str]
    times: list[float]
    said: list[Said]
    chosen: list[bool] | None = None


def _done(positive: Positive | None) -> Subquery:
    mark: list[Any] = [] if positive is None else [case((counts(positive), 1.0), else_=0.0).label("chosen")]
    return (
        select(events.c.item, events.c.time, events.c.n, *mark)
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


def _in_one(done: Subquery, said: Subquery) -> Select[Any]:
    """Return the statement for one row: lists in JSON, and times of events to the last bit between commas (see ``bulk``)."""
    words = func.json_group_array(func.json_array(said.c.item, said.c.kind, said.c.value, said.c.time))
    return select(
        func.json_group_array(done.c.item),
        func.group_concat(func.printf("%!.17g", done.c.time)),
        select(words).select_from(said).scalar_subquery(),
        func.json_group_array(done.c.chosen) if "chosen" in done.c else null(),
    )


def _in_rows(done: Subquery, said: Subquery) -> Select[Any]:
    """Return the statement for rows, of which those without a kind are events, whose value says whether they are chosen."""
    chosen = done.c.chosen if "chosen" in done.c else null()
    both = union_all(
        select(done.c.item, null().label("kind"), chosen.label("value"), done.c.time, done.c.n),
        select(said.c.item, said.c.kind, said.c.value, said.c.time, said.c.n),
    ).subquery()
    return select(both).order_by(both.c.time.desc(), both.c.n.desc())


_UNIT = _words(feedback.c.unit == bindparam("unit"))
_EITHER = _words(feedback.c.unit.in_([bindparam("unit"), bindparam("visitor")]))


@lru_cache(maxsize=64)
def _statement(dialect: str, both: bool, positive: Positive | None) -> Select[Any]:
    """Return the statement by the kind of database, whether both a user and a visitor are asked for, and what counts."""
    make = _in_one if dialect == "sqlite" else _in_rows
    return make(_done(positive), _EITHER if both else _UNIT)


class PastReader(Part):
    """The store's part for what an answer needs of a person."""

    def past_of(
        self,
        user: str | None,
        anonymous: str | None = None,
        *,
        limit: int = 500,
        before: float = math.inf,
        positive: Positive | None = None,
    ) -> Past:
        """Return a person's latest ``limit`` events, and what they said of items (the latest :data:`MOST_SAID` words).

        Parameters
        ----------
        user, anonymous
            As in the requests: a user's id, the key of a visitor, or both. Events are users' only.
        before
            As it was at that moment (what is of that very moment is left out).
        positive
            Which events count as choices; all by default.
        """
        unit = check_optional_id(user, "user") or check_optional_id(anonymous, "anonymous")
        values = {"user": user, "unit": unit, "visitor": anonymous, "most": limit, "before": before}
        statement = _statement(self.database.dialect, user is not None and anonymous is not None, positive)
        if self.database.dialect == "sqlite":
            [(items, times, words, chosen)] = self.database.glance(statement, values)
            return _oldest_first(
                json.loads(items),
                [float(time) for time in (times or "").split(",") if time],
                [Said(*one) for one in json.loads(words)] if words != "[]" else [],
                None if chosen is None else [mark == 1 for mark in json.loads(chosen)],
            )
        rows = self.database.glance(statement, values)
        done = [row for row in rows if row[1] is None]
        said = [Said(*row[:4]) for row in rows if row[1] is not None]
        marks = None if positive is None else [row[2] == 1 for row in done]
        return _oldest_first([row[0] for row in done], [row[3] for row in done], said, marks)

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


def _oldest_first(items: Sequence[str], times: Sequence[float], said: Sequence[Said], chosen: Sequence[bool] | None) -> Past:
    return Past(list(items[::-1]), list(times[::-1]), list(said[::-1]), None if chosen is None else list(chosen[::-1]))
