"""Answers kept in SQLite, with the record of what they cost; safe among threads and processes.

Answers stand under a hash of the model's fingerprint and the call: of the prompt itself, which may hold what people wrote,
nothing is kept. An answer is written once: of two processes that asked the same at once, both get the first one's.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from palate.errors import BundleError, DataError
from palate.language.model import Answer

#: Version of the tables below.
VERSION = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS answers(
  key TEXT PRIMARY KEY, model TEXT NOT NULL, text TEXT NOT NULL, finish TEXT NOT NULL, tokens_in INTEGER NOT NULL,
  tokens_out INTEGER NOT NULL, seconds REAL NOT NULL, cost REAL NOT NULL, created REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spent(
  day TEXT NOT NULL, model TEXT NOT NULL, currency TEXT NOT NULL, calls INTEGER NOT NULL, failed INTEGER NOT NULL,
  cached INTEGER NOT NULL, tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL, seconds REAL NOT NULL, cost REAL NOT NULL,
  PRIMARY KEY(day, model, currency)) WITHOUT ROWID;
"""
_COUNTS = ("calls", "failed", "cached", "tokens_in", "tokens_out", "seconds", "cost")


def cache_file() -> Path:
    """Return where answers are kept: below ``PALATE_CACHE``, else the platform's place for caches."""
    given = os.environ.get("PALATE_CACHE")
    if given:
        return Path(given) / "language" / "answers.sqlite"
    import platformdirs

    return Path(platformdirs.user_cache_dir("palate", appauthor=False)) / "language" / "answers.sqlite"


def _kept(text: str, finish: str, tokens_in: int, tokens_out: int, seconds: float) -> Answer:
    return Answer(text, finish, tokens_in, tokens_out, seconds, cached=True)


class AnswerCache:
    """Answers and their cost in one SQLite file.

    Parameters
    ----------
    path
        The file (default: :func:`cache_file`); made where it is absent, readable by its owner alone.

    Raises
    ------
    BundleError
        If the file is no such cache, damaged, or of a later version.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = cache_file() if path is None else Path(path)
        if self.path.is_dir():
            raise DataError("a folder stands where a file is needed.", where=self.path, remedy="name a file for the cache")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        self._db = sqlite3.connect(self.path, timeout=60, isolation_level=None, check_same_thread=False)
        with self._use():
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                raise BundleError(
                    "the cache of answers is of a later Palate.", where=self.path, value=version, remedy="update palate"
                )
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(f"BEGIN IMMEDIATE;{_TABLES}PRAGMA user_version={VERSION};COMMIT;")

    @contextmanager
    def _use(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._db
            except sqlite3.DatabaseError as error:
                remedy = "if it is busy, try again; else move the file away: answers are asked for anew"
                raise BundleError(f"the cache of answers can't be used: {error}.", where=self.path, remedy=remedy) from None

    @staticmethod
    def key(fingerprint: str, call_key: str) -> str:
        """Return the key of an answer."""
        return hashlib.sha256(f"{fingerprint}\n{call_key}".encode()).hexdigest()

    def get(self, key: str) -> Answer | None:
        """Return an answer, marked as cached and without cost now, or ``None``."""
        with self._use() as db:
            row = db.execute("SELECT text,finish,tokens_in,tokens_out,seconds FROM answers WHERE key=?", (key,)).fetchone()
        return None if row is None else _kept(*row)

    def put(self, key: str, model: str, answer: Answer) -> Answer:
        """Keep an answer unless one is there already; return the one that stays."""
        a = answer
        row = (key, model, a.text, a.finish, a.tokens_in, a.tokens_out, a.seconds, a.cost, time.time())
        with self._use() as db:
            done = db.execute("INSERT OR IGNORE INTO answers VALUES(?,?,?,?,?,?,?,?,?)", row)
            kept = done.rowcount == 1
        return answer if kept else self.get(key) or answer

    def spend(self, model: str, currency: str, **counts: float) -> None:
        """Add to the record of today: any of calls, failed, cached, tokens_in, tokens_out, seconds, cost."""
        day = time.strftime("%Y-%m-%d", time.gmtime())
        values = [counts.get(name, 0) for name in _COUNTS]
        sums = ", ".join(f"{name}={name}+excluded.{name}" for name in _COUNTS)
        with self._use() as db:
            db.execute(
                f"INSERT INTO spent VALUES(?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET {sums}",
                (day, model, currency, *values),
            )

    def spent(self) -> list[dict[str, Any]]:
        """Return what each model has cost so far: one row a model and currency, in order of names."""
        sums = ", ".join(f"SUM({name})" for name in _COUNTS)
        with self._use() as db:
            rows = db.execute(f"SELECT model, currency, {sums} FROM spent GROUP BY model, currency ORDER BY 1, 2").fetchall()
        return [dict(zip(("model", "currency", *_COUNTS), row, strict=True)) for row in rows]

    def __len__(self) -> int:
        with self._use() as db:
            return int(db.execute("SELECT COUNT(*) FROM answers").fetchone()[0])

    def clear(self, model: str | None = None) -> int:
        """Forget the answers of a model, or all; return how many. The record of cost stays."""
        with self._use() as db:
            if model is None:
                return db.execute("DELETE FROM answers").rowcount
            return db.execute("DELETE FROM answers WHERE model=?", (model,)).rowcount

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()
