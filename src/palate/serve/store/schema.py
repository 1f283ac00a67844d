"""Schema: bring a database up to this version of Palate, whoever else is doing so."""

from __future__ import annotations

import secrets
import threading
from pathlib import Path

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, insert, select

from palate.serve.errors import SchemaError
from palate.serve.store.database import Database
from palate.serve.store.tables import meta

HERE = Path(__file__).parent / "migrations"
#: Table in which the version stands.
VERSION_TABLE = "palate_version"
#: Keys of ``meta`` that belong to the store: its name, the key of tombstones, and the row that :meth:`Store.check` writes.
IDENTITY, ERASURE_KEY, HEARTBEAT = "store.identity", "store.erasure_key", "store.heartbeat"
#: Alembic keeps what it works on in module globals, so one thread migrates at a time.
_ONE_AT_A_TIME = threading.Lock()


def scripts() -> ScriptDirectory:
    """Return the migrations."""
    config = Config()
    config.set_main_option("script_location", str(HERE))
    return ScriptDirectory.from_config(config)


def prepare(database: Database) -> str:
    """Create or migrate the schema, in one transaction; return the store's identity.

    Raises
    ------
    SchemaError
        If a newer Palate made it.
    """
    known = scripts()
    with database.read() as connection:
        if current(connection) == known.get_current_head():
            return connection.scalars(select(meta.c.value).where(meta.c.key == IDENTITY)).one()
    with _ONE_AT_A_TIME, database.write() as connection:
        upgrade(connection, known)
        return _settle(connection)


def current(connection: Connection) -> str | None:
    """Return the version of a database; ``None`` for an empty one."""
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()


def upgrade(connection: Connection, known: ScriptDirectory, target: str = "head") -> None:
    """Run the migrations that are missing."""
    found = current(connection)
    if found is not None and found not in {script.revision for script in known.walk_revisions()}:
        raise SchemaError(
            "the store was made by a newer Palate.",
            where="schema version",
            value=found,
            remedy="install that version of Palate, or open another store",
        )
    config = Config()
    config.set_main_option("script_location", str(HERE))
    config.attributes["connection"] = connection

    def steps(revision: object, context: MigrationContext) -> object:
        return known._upgrade_revs(target, revision)  # type: ignore[arg-type]

    with EnvironmentContext(config, known, fn=steps):
        known.run_env()


def _settle(connection: Connection) -> str:
    """Return the identity; a new store gets one."""
    kept = {row.key: row.value for row in connection.execute(select(meta))}
    for key in (IDENTITY, ERASURE_KEY):
        if key not in kept:
            kept[key] = secrets.token_hex(16)
            connection.execute(insert(meta), {"key": key, "value": kept[key]})
    return kept[IDENTITY]
