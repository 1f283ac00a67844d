"""Database: connections, and transactions of two kinds. Many read at once; one writes at a time.

On SQLite that is the file's nature. On PostgreSQL every writing transaction takes the same advisory lock, so that event numbers
and item revisions become visible in their order: a worker that has seen number ``n`` will never find a smaller one later.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Select, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from palate.errors import ConfigError
from palate.extras import require
from palate.serve.errors import BusyError
from palate.serve.store.faults import told

#: Advisory lock of writers ("palate" in ASCII).
WRITERS = 0x70616C617465
#: Pages of SQLite's write-ahead log at which a commit copies them into the file itself (64 MB).
LONGEST_LOG = 16_384
#: Options of a connection that writes, and of one that begins no transaction (SQLite).
_WRITES, _BARE = "palate_writes", "palate_bare"


class Database:
    """An engine with Palate's settings.

    Parameters
    ----------
    url
        ``sqlite:///FILE`` or ``postgresql://USER:PASSWORD@HOST/NAME``.
    synchronous
        SQLite's: ``FULL`` survives a power cut, ``NORMAL`` may lose the last moments in one.
    wait
        Seconds to wait for a lock, a connection, or the server.

    Attributes
    ----------
    dialect
        ``"sqlite"`` or ``"postgresql"``.
    path
        The file; ``None`` on PostgreSQL.
    """

    def __init__(self, url: str, *, synchronous: str = "FULL", wait: float = 5.0) -> None:
        if synchronous not in ("FULL", "NORMAL"):
            raise ConfigError("synchronous is FULL or NORMAL.", where="store.synchronous", value=synchronous)
        parsed = _parse(url)
        self.url, self.wait = parsed.render_as_string(hide_password=True), wait
        self.dialect = parsed.get_backend_name()
        self.path = Path(parsed.database or "").resolve() if self.dialect == "sqlite" else None
        self._turn = threading.Lock()
        self._texts: dict[Select[Any], tuple[str, list[tuple[str, Any]]]] = {}
        with told():
            make = _sqlite if self.path is not None else _postgresql
            self.engine: Engine = make(parsed, self.path, synchronous, wait)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection with a transaction that sees one moment (on PostgreSQL: each statement one)."""
        with told(), self.engine.connect() as connection, connection.begin():
            yield connection

    def glance(self, statement: Select[Any], values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Return the rows of one statement, outside of any transaction: for what every answer asks.

        On SQLite the statement's text is kept and goes to the driver as it is: a third of the time.
        """
        if self.dialect == "postgresql":
            with told(), self.engine.connect() as connection:
                bare = connection.execution_options(isolation_level="AUTOCOMMIT")
                return [tuple(row) for row in bare.execute(statement, values)]
        known = self._texts.get(statement)
        if known is None:
            compiled = statement.compile(self.engine)
            own = [(name, compiled.params[name]) for name in compiled.positiontup or ()]
            known = self._texts.setdefault(statement, (str(compiled), own))
        words, order = known
        with told(), closing(self.engine.raw_connection()) as raw:
            given = [values.get(name, fixed) for name, fixed in order]
            found: list[tuple[Any, ...]] = raw.cursor().execute(words, given).fetchall()
            return found

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Give a connection whose whole transaction sees one moment, and that streams its results."""
        with told(), self.engine.connect() as connection:
            if self.dialect == "postgresql":
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection.execution_options(stream_results=True)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give a connection that is the only one to write; it commits at the end, or rolls back on an error."""
        with self._alone(), told(), self.engine.connect() as connection:
            connection = connection.execution_options(**{_WRITES: True})
            with connection.begin():
                if self.dialect == "postgresql":
                    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": WRITERS})
                yield connection

    @contextmanager
    def outside(self) -> Iterator[Connection]:
        """Give a connection without a transaction, for VACUUM and its like; nobody else of this process writes meanwhile."""
        with self._alone(), told(), self.engine.connect() as connection:
            alone = {"isolation_level": "AUTOCOMMIT"} if self.dialect == "postgresql" else {_BARE: True}
            yield connection.execution_options(**alone)

    @contextmanager
    def bare(self) -> Iterator[Connection]:
        """Give a connection of SQLite without a transaction, beside whoever writes."""
        with told(), self.engine.connect() as connection:
            yield connection.execution_options(**{_BARE: True})

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._turn.acquire(timeout=self.wait):
            raise BusyError("another write takes long.", remedy="try again")
        try:
            yield
        finally:
            self._turn.release()


def _parse(url: str) -> URL:
    """Return the URL of a store; what holds no ``://`` is the path of a SQLite file."""
    try:
        parsed = make_url(url) if "://" in url else URL.create("sqlite", database=url)
    except ArgumentError:
        raise ConfigError(
            "the store's URL can't be read.",
            where="store.url",
            remedy="such as sqlite:///palate.db or postgresql://user@host/name",
        ) from None
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        raise ConfigError(
            "the store is SQLite or PostgreSQL.",
            where="store.url",
            value=parsed.drivername,
            remedy="use sqlite:/// or postgresql://",
        )
    if parsed.get_backend_name() == "sqlite" and (parsed.database or ":memory:").startswith((":memory:", "file:")):
        raise ConfigError("a SQLite store is a file.", where="store.url", value=url, remedy="such as sqlite:///palate.db")
    return parsed


def _sqlite(url: URL, path: Path | None, synchronous: str, wait: float) -> Engine:
    assert path is not None
    _touch(path)
    engine = create_engine(
        url.set(database=str(path)),
        hide_parameters=True,
        pool_size=8,
        max_overflow=24,
        pool_timeout=wait,
        connect_args={"timeout": wait, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _(connection: sqlite3.Connection, record: Any) -> None:
        connection.isolation_level = None  # transactions begin where SQLAlchemy says so
        connection.execute(f"PRAGMA busy_timeout={int(1_000 * wait)}")
        _to_wal(connection, wait)
        pages = f"wal_autocheckpoint={LONGEST_LOG}"
        for setting in (f"synchronous={synchronous}", "foreign_keys=ON", "secure_delete=ON", "cache_size=-16384", pages):
            connection.execute("PRAGMA " + setting)

    @event.listens_for(engine, "begin")
    def _(connection: Connection) -> None:
        options = connection.get_execution_options()
        if not options.get(_BARE):
            connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get(_WRITES) else "BEGIN")

    return engine


def _touch(path: Path) -> None:
    """Make the file, readable by its owner only (it holds personal data)."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        remedy = "see whether the folder exists and may be written to"
        raise ConfigError("the store's file can't be opened.", where=path, value=error.strerror, remedy=remedy) from None


def _to_wal(connection: sqlite3.Connection, wait: float) -> None:
    """Turn the write-ahead log on; SQLite does not wait for locks here by itself."""
    until = time.monotonic() + wait
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if (error.sqlite_errorcode & 0xFF) != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)


def _postgresql(url: URL, path: Path | None, synchronous: str, wait: float) -> Engine:
    require("psycopg", "a PostgreSQL store")
    engine = create_engine(
        url,
        hide_parameters=True,
        pool_size=8,
        max_overflow=8,
        pool_timeout=wait,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": max(2, int(wait)),
            "application_name": "palate",
            "prepare_threshold": None,  # plans kept from when a table was small would read all of it for ever
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,
        },
    )

    @event.listens_for(engine, "connect")
    def _(connection: Any, record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = {int(1_000 * wait)}")
            cursor.execute("SET client_encoding = 'UTF8'")
        connection.commit()

    return engine
