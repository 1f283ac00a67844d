"""A person's rights: all that is held, erasure down to the bytes of the file, and a limit to how long things are kept.

SQLite: deleted rows are overwritten (``secure_delete``), then the file is built anew without them (VACUUM, because rebalancing
a tree may leave a copy of a row behind) and the write-ahead log is emptied. PostgreSQL: rows are deleted and vacuumed; its
log, archives and backups are the administrator's. What stays is a tombstone: a keyed hash of the id, and the time.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, delete, func, insert, or_, select, text
from sqlalchemy.exc import DBAPIError

from palate.errors import DataError
from palate.serve.errors import StoreError
from palate.serve.store.checks import check_id
from palate.serve.store.events import event_of
from palate.serve.store.logs import conversation_of, search_of
from palate.serve.store.part import Part, chunks
from palate.serve.store.rows import Erased
from palate.serve.store.schema import ERASURE_KEY
from palate.serve.store.slates import read_feedback, read_slates
from palate.serve.store.tables import (
    conversations,
    erasures,
    events,
    exposures,
    feedback,
    impressions,
    meta,
    models,
    searches,
    slates,
    ties,
    users,
)
from palate.serve.store.users import user_of

log = logging.getLogger("palate.serve")
#: Where a person stands in each table: as a user, or with the key of a visitor without an account. Slates, to which impressions
#: and feedback belong, come first.
HELD = (
    (slates, (slates.c.user, slates.c.anonymous)),
    (events, (events.c.user,)),
    (searches, (searches.c.user, searches.c.anonymous)),
    (conversations, (conversations.c.user,)),
    (exposures, (exposures.c.unit,)),
    (ties, (ties.c.user, ties.c.other)),
    (users, (users.c.id,)),
)
#: Rows deleted in one transaction by retention.
BLOCK = 10_000
_DAY = 86_400.0


@dataclass(frozen=True)
class Erasures:
    """Who was erased: ``user in erasures`` answers, though no id is kept.

    Attributes
    ----------
    last
        Number of the last erasure; 0 where there was none.
    marks
        Keyed hashes of the ids.
    """

    last: int = 0
    marks: frozenset[str] = frozenset()
    key: str = field(default="", repr=False)

    def __contains__(self, user: str) -> bool:
        """Say whether a person of this id was erased."""
        return bool(self.marks) and _marked(self.key, user) in self.marks

    def __or__(self, other: Erasures) -> Erasures:
        """Return those of both."""
        return Erasures(max(self.last, other.last), self.marks | other.marks, other.key)


class Privacy(Part):
    """The store's part for persons' rights."""

    def export_user(self, user: str) -> dict[str, Any]:
        """Return everything that is held about a person, as plain JSON data; every value is empty where nothing is held.

        ``user`` is the id of a user, or the ``anonymous`` key of a visitor.

        Keys: ``user`` (with their ties), ``events``, ``slates`` (with items and feedback), ``searches``, ``conversations``,
        ``exposures``, ``tied_by`` (how many name them; who does is theirs to tell).
        """
        check_id(user, "user")
        with self.database.snapshot() as connection:
            row = connection.execute(select(users).where(_of(users, user))).first()
            done = connection.execute(select(events).where(_of(events, user)).order_by(events.c.time, events.c.n))
            asked = connection.execute(select(searches).where(_of(searches, user)).order_by(searches.c.n))
            said = connection.execute(select(conversations).where(_of(conversations, user)))
            met = connection.execute(select(exposures).where(_of(exposures, user)))
            named = list(connection.scalars(select(ties.c.other).where(ties.c.user == user).order_by(ties.c.other)))
            return {
                "user": {} if row is None else {**asdict(user_of(row)), "ties": named},
                "events": [asdict(event_of(event)) for event in done],
                "slates": _slates(connection, user),
                "searches": [asdict(search_of(search)) for search in asked],
                "conversations": [asdict(conversation_of(one)) for one in said],
                "exposures": [dict(one) for one in met.mappings()],
                "tied_by": int(connection.scalar(select(func.count()).where(ties.c.other == user)) or 0),
            }

    def erase_user(self, user: str, *, scrub: bool = True, elsewhere: bool = False) -> Erased:
        """Remove a person: every row in one transaction, then the bytes from the files.

        The rows stay removed where the files can't be scrubbed now (locked, no space): ``files_clean`` tells of it, and erasing
        again tries again.

        Parameters
        ----------
        user
            Id of a user, or the ``anonymous`` key of a visitor.
        scrub
            ``False`` leaves the files to a later :meth:`scrub` (to erase many people and scrub once).
        elsewhere
            Something of the person was held outside of the store (by a bundle) and is gone: the erasure counts even where no
            row was.
        """
        check_id(user, "user")
        with self.database.write() as connection:
            owed = _owed(connection, user)
            counts = _remove(connection, user)
            if elsewhere or any(counts.values()):
                mark = {"mark": _mark(connection, user), "time": self.clock()}
                connection.execute(insert(erasures), mark)
        return Erased(counts, owed, self._scrubbed() if scrub else False)

    def erased_at(self, user: str) -> float | None:
        """Return when a person of this id was last erased, or ``None``; a keyed hash answers, the id itself is not kept."""
        with self.database.read() as connection:
            mark = _mark(connection, check_id(user, "user"))
            found = connection.scalar(select(func.max(erasures.c.time)).where(erasures.c.mark == mark))
        return None if found is None else float(found)

    def erasures_since(self, number: int) -> Erasures:
        """Return whom the erasures after one (:attr:`Pulse.erasures`) removed; ``last`` is never below ``number``."""
        with self.database.read() as connection:
            wanted = select(erasures.c.n, erasures.c.mark).where(erasures.c.n > number)
            found = [(int(n), str(mark)) for n, mark in connection.execute(wanted)]
            return Erasures(max([number, *(n for n, _ in found)]), frozenset(mark for _, mark in found), _key(connection))

    def scrub(self) -> bool:
        """Take the bytes of deleted rows out of the database's files; say whether they are known to be gone.

        Writers wait meanwhile. ``False`` on PostgreSQL (see the module's text), or while a reader keeps the log in use.
        """
        with self.database.outside() as connection:
            if connection.dialect.name == "postgresql":
                quote = connection.dialect.identifier_preparer.quote
                names = (table.name for table in (impressions, feedback, *(table for table, _ in HELD)))
                connection.execute(text("VACUUM " + ", ".join(map(quote, names))))
                return False
            connection.execute(text("VACUUM"))
            return _empty_log(connection)

    def _scrubbed(self) -> bool:
        try:
            return self.scrub()
        except StoreError as error:
            log.warning("what was erased is not scrubbed from the files yet: %s", error.what)
            return False

    def retain(self, days: float) -> dict[str, int]:
        """Delete events, slates with their impressions and feedback, searches and conversations older than this.

        Works in blocks, so that writers get their turn. Returns rows deleted, by table.
        """
        if not days > 0:
            raise DataError("things are kept for a number of days above 0.", where="days", value=days)
        before = self.clock() - days * _DAY
        aged = ((events, "n", "time"), (slates, "id", "time"), (searches, "n", "time"), (conversations, "id", "updated"))
        return {table.name: self._forget(table, key, when, before) for table, key, when in aged}

    def _forget(self, table: Table, key: str, when: str, before: float) -> int:
        total = 0
        while True:
            old = select(table.c[key]).where(table.c[when] < before).limit(BLOCK)
            with self.database.write() as connection:
                number = connection.execute(delete(table).where(table.c[key].in_(old))).rowcount
            total += number
            if number < BLOCK:
                return total


def _of(table: Table, user: str) -> ColumnElement[bool]:
    """Return the condition that a row of a table is a person's."""
    return or_(*(column == user for held, columns in HELD if held is table for column in columns))


def _slates(connection: Connection, user: str) -> list[dict[str, Any]]:
    found = read_slates(connection, _of(slates, user))
    given: dict[str, list[dict[str, Any]]] = {slate.id: [] for slate in found}
    for one in read_feedback(connection, given):
        given[one.slate].append(asdict(one))
    return [{**asdict(slate), "feedback": given[slate.id]} for slate in found]


def _owed(connection: Connection, user: str) -> list[str]:
    """Return versions of models that may have learnt from the person's events or ties.

    A model that says up to which event it learnt is compared by number, others, and for ties all, by the time of their making.
    """
    first = connection.scalar(select(func.min(events.c.n)).where(events.c.user == user))
    tied = connection.scalar(select(func.min(ties.c.time)).where(_of(ties, user)))
    since = connection.scalar(select(users.c.created).where(users.c.id == user)) or 0.0
    rows = connection.execute(select(models.c.version, models.c.position, models.c.created).order_by(models.c.version))

    def learnt(seen: int | None, made: float) -> bool:
        by_events = first is not None and (made >= since if seen is None else seen >= first)
        return by_events or (tied is not None and made >= tied)

    return [version for version, seen, made in rows if learnt(seen, made)]


def _remove(connection: Connection, user: str) -> dict[str, int]:
    """Delete a person's rows; return how many, by table."""
    counts: dict[str, int] = {}
    ids = list(connection.scalars(select(slates.c.id).where(_of(slates, user))))
    for table, column in ((feedback, feedback.c.slate), (impressions, impressions.c.slate)):
        counts[table.name] = sum(connection.execute(delete(table).where(column.in_(some))).rowcount for some in chunks(ids))
    for table, _ in HELD:
        counts[table.name] = connection.execute(delete(table).where(_of(table, user))).rowcount
    return counts


def _mark(connection: Connection, user: str) -> str:
    return _marked(_key(connection), user)


def _key(connection: Connection) -> str:
    return str(connection.scalars(select(meta.c.value).where(meta.c.key == ERASURE_KEY)).one())


def _marked(key: str, user: str) -> str:
    return hmac.new(bytes.fromhex(key), user.encode(), hashlib.sha256).hexdigest()


def _empty_log(connection: Connection, tries: Iterable[float] = (0.0, 0.1, 0.5, 2.0)) -> bool:
    """Move the write-ahead log into the file and cut it to nothing; ``False`` while a reader holds it."""
    for pause in tries:
        time.sleep(pause)
        try:
            if connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)")).one()[0] == 0:
                return True
        except DBAPIError:
            continue
    return False
