"""Users: bare rows come with events; attributes and ties are put in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, delete, select, update

from palate.serve.store.bulk import names_new, put_block
from palate.serve.store.checks import check_id, check_new_id, from_json, object_to_json
from palate.serve.store.part import Part, upsert
from palate.serve.store.rows import UserRow
from palate.serve.store.tables import ties, users
from palate.serve.store.ties import check_ties, replace_ties


class Users(Part):
    """The store's part for users."""

    def put_users(self, rows: Sequence[UserRow]) -> int:
        """Make or replace users, all or none; return how many. The time of their making stays, and ties that aren't given."""
        now = self.clock()
        ready = [
            {
                "id": check_new_id(row.id, f"users[{at}].id"),
                "attributes": object_to_json(row.attributes, f"users[{at}].attributes"),
                "created": now,
                "updated": now,
                "deleted": None,
            }
            for at, row in enumerate(rows)
        ]
        named = {
            row.id: check_ties(row.ties, row.id, f"users[{at}].ties") for at, row in enumerate(rows) if row.ties is not None
        }
        with self.database.write() as connection:
            upsert(connection, users, ready, keep=["created"])
            if named:
                replace_ties(connection, named, now)
        return len(ready)

    def delete_user(self, user: str) -> bool:
        """Take a user's attributes and ties away and mark the user as deleted; return whether there was one.

        Events, slates and searches stay, and go on counting (:meth:`erase_user` takes them too); so does the bare row, which
        the events need. Putting the user in again takes the mark away; events don't.
        """
        now = self.clock()
        there = (users.c.id == check_id(user, "user")) & users.c.deleted.is_(None)
        with self.database.write() as connection:
            changed = connection.execute(update(users).where(there).values(attributes=None, deleted=now, updated=now))
            if changed.rowcount:
                connection.execute(delete(ties).where(ties.c.user == user))
        return changed.rowcount > 0

    def user(self, user: str) -> UserRow | None:
        """Return a user, or ``None`` where there is none or it was deleted."""
        wanted = select(users).where(users.c.id == check_id(user, "user"), users.c.deleted.is_(None))
        with self.database.read() as connection:
            row = connection.execute(wanted).first()
        return None if row is None else user_of(row)

    def users(self, after: str | None = None, limit: int = 100) -> list[UserRow]:
        """Return a page of users in the order of their ids (by code point), after an id; those deleted are left out."""
        wanted = select(users).where(users.c.deleted.is_(None)).order_by(users.c.id).limit(limit)
        if after is not None:
            wanted = wanted.where(users.c.id > check_id(after, "after"))
        with self.database.read() as connection:
            return [user_of(row) for row in connection.execute(wanted)]


def ensure_users(connection: Connection, ids: Iterable[str], now: float) -> None:
    """Make bare rows for users that are new."""
    new = names_new(connection, users.c.id, ids)
    if new:
        put_block(connection, users, ("id", "created", "updated"), ((id_, now, now) for id_ in new))


def user_of(row: Any) -> UserRow:
    """Return a row of the table as a user."""
    id_, attributes, created, updated, deleted = row
    return UserRow(id_, from_json(attributes), created, updated, deleted)
