"""Upgrade: run the migrations that a database lacks (Alembic is imported only then)."""

from __future__ import annotations

from pathlib import Path

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from palate.serve.errors import SchemaError
from palate.serve.store.schema import version

HERE = Path(__file__).parent / "migrations"


def scripts() -> ScriptDirectory:
    """Return the migrations."""
    return ScriptDirectory.from_config(_config())


def upgrade(connection: Connection, target: str = "head") -> None:
    """Run the migrations that are missing.

    Raises
    ------
    SchemaError
        If a newer Palate made the database.
    """
    known, found = scripts(), version(connection)
    if found is not None and found not in {script.revision for script in known.walk_revisions()}:
        raise SchemaError(
            "the store was made by a newer Palate.",
            where="schema version",
            value=found,
            remedy="install that version of Palate, or open another store",
        )
    config = _config()
    config.attributes["connection"] = connection

    def steps(revision: object, context: MigrationContext) -> object:
        return known._upgrade_revs(target, revision)  # type: ignore[arg-type]

    with EnvironmentContext(config, known, fn=steps):
        known.run_env()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(HERE))
    return config
