"""API keys (only hashes), and settings: a key and a JSON value."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import delete, insert, select, update

from palate.errors import DataError
from palate.serve.errors import ConflictError, NotFound
from palate.serve.store.checks import LONGEST_ID, check_id, is_clean, to_json
from palate.serve.store.part import Part, upsert
from palate.serve.store.rows import KeyRow
from palate.serve.store.tables import keys, meta

#: Keys of ``meta`` that are settings begin with this.
SETTING = "setting."


class Keys(Part):
    """The store's part for API keys and settings."""

    def add_key(self, name: str, hash: str, scopes: Iterable[str]) -> KeyRow:
        """Keep the hash of a key.

        Raises
        ------
        ConflictError
            If there is a key of that name; one that was revoked is replaced.
        """
        words = sorted({check_id(scope, "scopes") for scope in scopes})
        if any(" " in word for word in words):
            raise DataError("a scope has no blanks.", where="scopes", value=words)
        now = self.clock()
        row = {"name": check_id(name, "name"), "hash": check_id(hash, "hash"), "scopes": " ".join(words), "created": now}
        with self.database.write() as connection:
            known = connection.execute(select(keys).where(keys.c.name == name)).first()
            if known is not None and known.revoked is None:
                raise ConflictError("there is a key of that name.", where="name", value=name, remedy="revoke it first")
            connection.execute(delete(keys).where(keys.c.name == name))
            connection.execute(insert(keys), row)
        return KeyRow(name, hash, tuple(words), now)

    def key(self, name: str) -> KeyRow | None:
        """Return a key that is good, or ``None`` (also for a name that no key can have)."""
        if not (0 < len(name) <= LONGEST_ID and is_clean(name)):
            return None
        with self.database.read() as connection:
            row = connection.execute(select(keys).where(keys.c.name == name)).first()
        return None if row is None or row.revoked is not None else _key(row)

    def keys(self) -> list[KeyRow]:
        """Return the keys that are good, by name."""
        with self.database.read() as connection:
            return [_key(row) for row in connection.execute(select(keys).where(keys.c.revoked.is_(None)).order_by(keys.c.name))]

    def revoke_key(self, name: str) -> None:
        """Take a key back.

        Raises
        ------
        NotFound
            If there is no such key.
        """
        wanted = (keys.c.name == check_id(name, "name")) & keys.c.revoked.is_(None)
        with self.database.write() as connection:
            done = connection.execute(update(keys).where(wanted).values(revoked=self.clock()))
            if not done.rowcount:
                raise NotFound("no such key.", where="name", value=name)

    def set_setting(self, key: str, value: Any) -> None:
        """Keep a JSON value under a key (``None`` forgets it)."""
        name = SETTING + check_id(key, "key")
        with self.database.write() as connection:
            if value is None:
                connection.execute(delete(meta).where(meta.c.key == name))
            else:
                upsert(connection, meta, [{"key": name, "value": to_json(value, f"settings.{key}")}])

    def setting(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or ``default``."""
        with self.database.read() as connection:
            found = connection.scalar(select(meta.c.value).where(meta.c.key == SETTING + check_id(key, "key")))
        return default if found is None else json.loads(found)

    def settings(self) -> dict[str, Any]:
        """Return all settings by key."""
        with self.database.read() as connection:
            rows = connection.execute(
                select(meta.c.key, meta.c.value).where(meta.c.key.startswith(SETTING)).order_by(meta.c.key)
            )
            return {row.key.removeprefix(SETTING): json.loads(row.value) for row in rows}


def _key(row: Any) -> KeyRow:
    name, hashed, scopes, created, revoked = row
    return KeyRow(name, hashed, tuple(scopes.split()), created, revoked)
