"""Items: every change gets the next revision, so that workers can follow; deleting keeps a row that never shows again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, update

from palate.errors import DataError
from palate.serve.memory.catalogue import Item
from palate.serve.store.bulk import names_new, put_block
from palate.serve.store.checks import (
    check_id,
    check_new_id,
    check_optional_number,
    check_text,
    check_time,
    from_json,
    object_to_json,
    to_json,
)
from palate.serve.store.part import Part, chunks, upsert
from palate.serve.store.rows import ItemRow
from palate.serve.store.tables import items


class Items(Part):
    """The store's part for items."""

    def put_items(self, rows: Sequence[ItemRow]) -> int:
        """Make or replace items, all or none; return how many.

        The time of making is the one given, else the one kept, else now. An item that was deleted comes back.
        """
        now = self.clock()
        ready = [_checked(row, f"items[{at}]", now) for at, row in enumerate(rows)]
        with self.database.write() as connection:
            made = _made(connection, {row["id"] for row in ready})
            first = last_revision(connection) + 1
            for at, row in enumerate(ready):
                row["revision"] = first + at
                row["created"] = made.setdefault(row["id"], now) if row["created"] is None else row["created"]
            upsert(connection, items, ready)
        return len(ready)

    def item(self, item: str) -> ItemRow | None:
        """Return an item, or ``None`` if there is none or it was deleted."""
        with self.database.read() as connection:
            row = connection.execute(select(items).where(items.c.id == check_id(item, "item"))).first()
        return None if row is None or row.deleted is not None else item_of(row)

    def items(self, after: str | None = None, limit: int = 100) -> list[ItemRow]:
        """Return a page of items in the order of their ids (by code point), after an id; deleted ones are left out."""
        wanted = select(items).where(items.c.deleted.is_(None)).order_by(items.c.id).limit(limit)
        if after is not None:
            wanted = wanted.where(items.c.id > check_id(after, "after"))
        with self.database.read() as connection:
            return [item_of(row) for row in connection.execute(wanted)]

    def delete_items(self, ids: Iterable[str]) -> int:
        """Delete items, all or none; return how many there were. Their rows and events stay, for histories."""
        now = self.clock()
        wanted = [check_id(id_, f"items[{at}]") for at, id_ in enumerate(dict.fromkeys(ids))]
        there = items.c.deleted.is_(None)
        with self.database.write() as connection:
            found = [
                id_
                for some in chunks(wanted)
                for id_ in connection.scalars(select(items.c.id).where(items.c.id.in_(some), there).order_by(items.c.id))
            ]
            first = last_revision(connection) + 1
            gone = [{"key": id_, "revision": first + at} for at, id_ in enumerate(found)]
            if gone:
                change = update(items).where(items.c.id == bindparam("key")).values(deleted=now, updated=now, available=False)
                connection.execute(change.values(revision=bindparam("revision")), gone)
        return len(found)

    def items_after(self, revision: int, limit: int = 5_000) -> list[tuple[int, Item]]:
        """Return items that changed after a revision, each with its own, in that order; deleted ones are among them."""
        wanted = select(items).where(items.c.revision > revision).order_by(items.c.revision).limit(limit)
        with self.database.read() as connection:
            return [(row[10], _entry(row)) for row in connection.execute(wanted).all()]


def ensure_items(connection: Connection, ids: Iterable[str], now: float) -> None:
    """Make bare rows for items that are new (a deleted one stays deleted)."""
    new = names_new(connection, items.c.id, ids)
    if new:
        first = last_revision(connection) + 1
        names = ("id", "title", "text", "available", "created", "updated", "revision")
        put_block(connection, items, names, ((id_, "", "", True, now, now, first + at) for at, id_ in enumerate(new)))


def last_revision(connection: Connection) -> int:
    """Return the revision of the last change of an item, or 0."""
    return int(connection.scalar(select(func.max(items.c.revision))) or 0)


def item_of(row: Any) -> ItemRow:
    """Return a row of the table as an item."""
    id_, title, text, categories, price, available, attributes, image, created, updated, revision, deleted = row
    own = (_words(categories), price, available, from_json(attributes), image)
    return ItemRow(id_, title, text, *own, created, updated, revision, deleted)


def _entry(row: Any) -> Item:
    """Return a row of the table as an entry of the catalogue (straight: a service reads all of them when it starts)."""
    id_, title, text, categories, price, available, attributes, image, created, _, _, deleted = row
    return Item(
        id_, title, text, _words(categories), price, available, from_json(attributes), image, created, deleted is not None
    )


@lru_cache(10_000)
def _words(categories: str | None) -> tuple[str, ...]:
    """Return the categories of a row: many items have the same ones."""
    return () if categories is None else tuple(json.loads(categories))


def _made(connection: Connection, ids: set[str]) -> dict[str, float]:
    """Return when items that are there were made."""
    made: dict[str, float] = {}
    for some in chunks(sorted(ids)):
        rows = connection.execute(select(items.c.id, items.c.created).where(items.c.id.in_(some)))
        made.update((id_, created) for id_, created in rows)
    return made


def _checked(row: ItemRow, where: str, now: float) -> dict[str, Any]:
    price = check_optional_number(row.price, f"{where}.price")
    if price is not None and price < 0:
        raise DataError("a price is not negative.", where=f"{where}.price", value=price)
    words = [check_text(word, f"{where}.categories[{at}]") for at, word in enumerate(row.categories)]
    return {
        "id": check_new_id(row.id, f"{where}.id"),
        "title": check_text(row.title, f"{where}.title"),
        "text": check_text(row.text, f"{where}.text"),
        "categories": to_json(words, f"{where}.categories") if words else None,
        "price": price,
        "available": bool(row.available),
        "attributes": object_to_json(row.attributes, f"{where}.attributes"),
        "image": None if row.image is None else check_text(row.image, f"{where}.image"),
        "created": None if row.created is None else check_time(row.created, f"{where}.created"),
        "updated": now,
        "deleted": None,
    }
