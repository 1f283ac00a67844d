"""Schema: bring a database up to this version of Palate, whoever else is doing so."""

from __future__ import annotations

import secrets
import threading

from sqlalchemy import Connection, insert, inspect, select, text

from palate.extras import require
from palate.serve.store.database import Database
from palate.serve.store.tables import meta

#: The version that this Palate works with: the last of ``migrations/versions``.
HEAD = "0005"
#: Table in which the version stands.
VERSION_TABLE = "palate_version"
#: Keys of ``meta`` that belong to the store: its name, the key of tombstones, and the row that :meth:`Store.check` writes.
IDENTITY, ERASURE_KEY, HEARTBEAT = "store.identity", "store.erasure_key", "store.heartbeat"
#: Alembic keeps what it works on in module globals, so one thread migrates at a time.
_ONE_AT_A_TIME = threading.Lock()


def prepare(database: Database) -> str:
    """Create or migrate the schema, in one transaction; return the store's identity.

    Raises
    ------
    SchemaError
        If a newer Palate made it.
    """
    with database.read() as connection:
        if version(connection) == HEAD:
            return connection.scalars(select(meta.c.value).where(meta.c.key == IDENTITY)).one()
    require("alembic", "the store")
    from palate.serve.store.upgrade import upgrade

    with _ONE_AT_A_TIME, database.write() as connection:
        upgrade(connection)
        return _settle(connection)


def version(connection: Connection) -> str | None:
    """Return the version of a database; ``None`` for an empty one."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))


def _settle(connection: Connection) -> str:
    """Return the identity; a new store gets one."""
    kept = {row.key: row.value for row in connection.execute(select(meta))}
    for key in (IDENTITY, ERASURE_KEY):
        if key not in kept:
            kept[key] = secrets.token_hex(16)
            connection.execute(insert(meta), {"key": key, "value": kept[key]})
    return kept[IDENTITY]
