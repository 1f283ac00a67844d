"""Searches and conversations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, insert, select

from palate.errors import PalateError
from palate.serve.store.checks import (
    check_id,
    check_optional_id,
    check_text,
    check_time,
    from_json,
    object_to_json,
    to_json,
)
from palate.serve.store.part import Part, raised, sort_out, upsert
from palate.serve.store.rows import Added, Conversation, Search
from palate.serve.store.tables import conversations, searches


class Logs(Part):
    """The store's part for searches and conversations."""

    def add_searches(self, batch: Sequence[Search]) -> Added:
        """Write searches, all or none."""
        with self.database.write() as connection:
            return raised(write_searches(connection, [batch], self.clock())[0])

    def searches_of(self, user: str, limit: int = 100) -> list[Search]:
        """Return a person's latest searches, oldest first."""
        wanted = select(searches).where(searches.c.user == check_id(user, "user")).order_by(searches.c.n.desc()).limit(limit)
        with self.database.read() as connection:
            return [search_of(row) for row in reversed(connection.execute(wanted).all())]

    def put_conversation(self, conversation: Conversation) -> None:
        """Make or replace a conversation; the time of its making stays."""
        now = self.clock()
        row = {
            "id": check_id(conversation.id, "id"),
            "user": check_optional_id(conversation.user, "user"),
            "turns": to_json([dict(turn) for turn in conversation.turns], "turns"),
            "created": now,
            "updated": now,
        }
        with self.database.write() as connection:
            upsert(connection, conversations, [row], keep=["created"])

    def conversation(self, conversation: str) -> Conversation | None:
        """Return a conversation, or ``None``."""
        wanted = select(conversations).where(conversations.c.id == check_id(conversation, "id"))
        with self.database.read() as connection:
            row = connection.execute(wanted).first()
        return None if row is None else conversation_of(row)

    def conversations_of(self, user: str, limit: int = 100) -> list[Conversation]:
        """Return a person's latest conversations, oldest first."""
        wanted = select(conversations).where(conversations.c.user == check_id(user, "user"))
        wanted = wanted.order_by(conversations.c.updated.desc(), conversations.c.id).limit(limit)
        with self.database.read() as connection:
            return [conversation_of(row) for row in reversed(connection.execute(wanted).all())]


def write_searches(connection: Connection, batches: Sequence[Sequence[Search]], now: float) -> list[Added | PalateError]:
    """Write batches of searches in one transaction; a bad batch gives its error, and leaves the others alone."""
    fresh, outcomes = sort_out(batches, lambda batch: [_row(search, f"searches[{at}]", now) for at, search in enumerate(batch)])
    if fresh:
        connection.execute(insert(searches), fresh)
    return outcomes


def search_of(row: Any) -> Search:
    """Return a row of the table as a search."""
    _, user, query, time, results, context, anonymous = row
    found = () if results is None else tuple(json.loads(results))
    return Search(query, user, time, found, from_json(context), anonymous)


def conversation_of(row: Any) -> Conversation:
    """Return a row of the table as a conversation."""
    id_, user, turns, created, updated = row
    return Conversation(id_, user, tuple(json.loads(turns)), created, updated)


def _row(search: Search, where: str, now: float) -> dict[str, Any]:
    found = [check_id(item, f"{where}.results[{at}]") for at, item in enumerate(search.results)]
    return {
        "user": check_optional_id(search.user, f"{where}.user"),
        "anonymous": check_optional_id(search.anonymous, f"{where}.anonymous"),
        "query": check_text(search.query, f"{where}.query"),
        "time": now if search.time is None else check_time(search.time, f"{where}.time"),
        "results": to_json(found, f"{where}.results") if found else None,
        "context": object_to_json(search.context, f"{where}.context"),
    }
