"""Driver errors become the store's errors, in this one place; no SQL and no stored value gets out with them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import exc

from palate.serve.errors import BusyError, ConflictError, StoreError, Unavailable

#: Advice by SQLite's primary result code.
_SQLITE: dict[int, tuple[str, str, float]] = {
    5: ("the database is locked by somebody else.", "try again; end long transactions of other programs", 1.0),
    6: ("the database is locked by somebody else.", "try again", 1.0),
    8: ("the database can't be written to.", "see who owns the file and its folder, and whether the disk is read-only", 30.0),
    10: ("the disk failed to read or write.", "see to the disk; the store goes on when it works again", 10.0),
    13: ("the disk is full.", "free some space; the store goes on by itself", 10.0),
    14: ("the database file can't be opened.", "see whether the folder exists and may be written to", 10.0),
}
#: Advice by the first characters of PostgreSQL's error code, the longest first.
_POSTGRESQL: tuple[tuple[str, str, str, float], ...] = (
    ("53100", "the disk of the database server is full.", "free some space there; the store goes on by itself", 10.0),
    ("53300", "the database server has no connection left.", "raise max_connections, or run fewer workers", 2.0),
    ("55P03", "the database is locked by somebody else.", "try again; end long transactions of other programs", 1.0),
    ("25006", "the database server takes no writes.", "connect to the primary server", 10.0),
    ("53", "the database server is out of resources.", "try again later", 5.0),
    ("57", "the database server is going down or coming up.", "try again; the store connects by itself", 2.0),
    ("58", "the database server's disk failed.", "see to the server", 10.0),
    ("08", "the connection to the database server is lost.", "try again; the store connects by itself", 2.0),
    ("28", "the database server refused the login.", "see the user and password in the store's URL", 30.0),
    ("3D", "there is no such database on the server.", "make it with createdb, or mend the store's URL", 30.0),
    ("40", "two writers were in each other's way.", "try again", 0.5),
)
_LOST = ("the connection to the database server is lost.", "try again; the store connects by itself", 2.0)


@contextmanager
def told() -> Iterator[None]:
    """Turn what SQLAlchemy and drivers raise into a :class:`StoreError`."""
    try:
        yield
    except (exc.SQLAlchemyError, sqlite3.Error) as error:
        raise fault(error) from None
    except Exception as error:
        if not _is_psycopg(error):
            raise
        raise fault(error) from None


def fault(error: BaseException) -> StoreError:
    """Return the store's error for an error of a driver or of SQLAlchemy."""
    if isinstance(error, exc.TimeoutError):
        return BusyError("all connections to the database are in use.", remedy="try again", retry_after=1.0)
    lost = isinstance(error, exc.DBAPIError) and error.connection_invalidated
    original: Any = getattr(error, "orig", None) or error
    if isinstance(original, sqlite3.Error):
        return _of_sqlite(original)
    if _is_psycopg(original):
        return _of_postgresql(original, lost)
    return StoreError("the database failed.", value=type(error).__name__)


def _of_sqlite(error: sqlite3.Error) -> StoreError:
    code = getattr(error, "sqlite_errorcode", None)
    primary = -1 if code is None else code & 0xFF
    if primary in _SQLITE:
        what, remedy, wait = _SQLITE[primary]
        return Unavailable(what, remedy=remedy, retry_after=wait)
    if primary == 19:
        return ConflictError("it contradicts what is kept.", value=getattr(error, "sqlite_errorname", None))
    if primary in (11, 26):
        return StoreError("the database file is damaged, or is none.", remedy="restore it from an export or a backup")
    return StoreError("the database failed.", value=getattr(error, "sqlite_errorname", type(error).__name__))


def _of_postgresql(error: Any, lost: bool) -> StoreError:
    state = getattr(error, "sqlstate", None)
    for prefix, what, remedy, wait in _POSTGRESQL:
        if state is not None and state.startswith(prefix):
            return Unavailable(what, remedy=remedy, retry_after=wait)
    if lost or (state is None and type(error).__name__ in ("OperationalError", "ConnectionTimeout", "InterfaceError")):
        what, remedy, wait = _LOST
        return Unavailable(what, remedy=remedy, retry_after=wait)
    if state is not None and state.startswith("23"):
        return ConflictError("it contradicts what is kept.", value=state)
    return StoreError("the database failed.", value=state or type(error).__name__)


def _is_psycopg(error: BaseException) -> bool:
    return any(kind.__module__.split(".")[0] in ("psycopg", "psycopg_pool") for kind in type(error).__mro__)
