"""Vectors of texts kept in one SQLite file, under a hash of encoder and text; the texts themselves are not kept.

SQLite's journal (WAL) makes it safe against a kill at any moment and among processes and threads: every call opens the file,
does one transaction and closes it. The size is bounded: what was not read for the longest time goes first. It is a cache and
no more: a file that is damaged is put aside with a warning, and one that can't be written (a full disk, a folder that is
read-only) costs a warning and time, never an answer.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from palate.errors import ConfigError

#: Version of the table; another one is a file of its own.
VERSION = 1
_TABLE = "CREATE TABLE IF NOT EXISTS vectors(key BLOB NOT NULL UNIQUE, day INTEGER NOT NULL, vector BLOB NOT NULL)"
#: Bytes of a page; five vectors of 384 numbers fit in one.
_PAGE = 8192
#: Keys in one question; SQLite's own limit is higher.
_KEYS = 500
#: Vectors in one transaction.
_ROWS = 4096


def cache_folder() -> Path | None:
    """Return the folder of the cache, or ``None`` where ``PALATE_TEXT_CACHE=off`` turns it off.

    It is ``language`` below ``PALATE_CACHE``, else below the user's place for caches.
    """
    if os.environ.get("PALATE_TEXT_CACHE", "").casefold() == "off":
        return None
    given = os.environ.get("PALATE_CACHE")
    if given:
        return Path(given) / "language"
    import platformdirs

    return Path(platformdirs.user_cache_dir("palate", appauthor=False)) / "language"


class VectorCache:
    """Vectors by text.

    Parameters
    ----------
    folder
        Where the file lies; it is made when first needed.
    max_bytes
        Most bytes of kept vectors, over all encoders.
    """

    def __init__(self, folder: str | Path, max_bytes: int = 2_000_000_000) -> None:
        if max_bytes < 1_000_000:
            raise ConfigError("a cache has room for a megabyte at least.", where="max_bytes", value=max_bytes)
        self.path = Path(folder) / f"vectors-{VERSION}.sqlite"
        self.max_bytes = max_bytes

    def get(self, encoder: str, texts: Sequence[str], dim: int) -> tuple[np.ndarray, np.ndarray]:
        """Return which texts are known (``bool[n]``) and the vectors (``float32[n, dim]``, zero where unknown).

        Parameters
        ----------
        encoder
            Fingerprint of whatever made the vectors.
        texts
            Texts.
        dim
            Length of a vector; a kept one of another length counts as unknown.
        """
        known, vectors = np.zeros(len(texts), bool), np.zeros((len(texts), dim), np.float32)
        if not len(texts) or not self.path.exists():
            return known, vectors
        keys = _keys(encoder, texts)
        rows = {key: row for row, key in enumerate(keys)}
        today, stale = _today(), []
        with self._open("read") as base:
            if base is None:
                return known, vectors
            for start in range(0, len(keys), _KEYS):
                some = keys[start : start + _KEYS]
                marks = ",".join("?" * len(some))
                found = base.execute(f"SELECT key, day, vector FROM vectors WHERE key IN ({marks})", some)
                for key, day, vector in found:
                    if len(vector) == 4 * dim:
                        vectors[rows[key]] = np.frombuffer(vector, "<f4")
                        known[rows[key]] = True
                        if day != today:
                            stale.append((today, key))
            base.executemany("UPDATE vectors SET day = ? WHERE key = ?", stale)
        for row, key in enumerate(keys):  # texts that were given twice
            if rows[key] != row:
                known[row], vectors[row] = known[rows[key]], vectors[rows[key]]
        return known, vectors

    def put(self, encoder: str, texts: Sequence[str], vectors: np.ndarray) -> None:
        """Keep vectors (``float32[n, dim]``); of two processes that keep the same text, the first one's stays."""
        keys, today = _keys(encoder, texts), _today()
        plain = np.ascontiguousarray(vectors, "<f4")
        for start in range(0, len(keys), _ROWS):
            stop = start + _ROWS
            rows = [(key, today, row.tobytes()) for key, row in zip(keys[start:stop], plain[start:stop], strict=True)]
            with self._open("write") as base:
                if base is None:
                    return
                base.executemany("INSERT OR IGNORE INTO vectors VALUES(?, ?, ?)", rows)
                self._bound(base)

    def clear(self) -> None:
        """Forget everything."""
        for path in self.path.parent.glob(self.path.name + "*"):
            path.unlink(missing_ok=True)

    def __len__(self) -> int:
        if not self.path.exists():
            return 0
        with self._open("read") as base:
            if base is not None:
                return int(base.execute("SELECT COUNT(*) FROM vectors").fetchone()[0])
        return 0

    @property
    def nbytes(self) -> int:
        """Bytes of the pages that hold something."""
        if not self.path.exists():
            return 0
        with self._open("read") as base:
            if base is not None:
                return _used(base)
        return 0

    def _bound(self, base: sqlite3.Connection) -> None:
        """Delete the longest unread, down to nine tenths of the room, when there is more than fits."""
        used = _used(base)
        if used <= self.max_bytes:
            return
        count = int(base.execute("SELECT COUNT(*) FROM vectors").fetchone()[0])
        gone = min(count, int(count * (1 - 0.9 * self.max_bytes / used)) + 1)
        base.execute("DELETE FROM vectors WHERE key IN (SELECT key FROM vectors ORDER BY day, rowid LIMIT ?)", (gone,))

    @contextmanager
    def _open(self, what: str) -> Iterator[sqlite3.Connection | None]:
        """Give a connection inside a transaction; ``None`` where the file can't be used."""
        base = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))  # vectors tell something of people's texts
            base = sqlite3.connect(self.path, timeout=30)
            base.execute(f"PRAGMA page_size = {_PAGE}")
            base.execute("PRAGMA auto_vacuum = INCREMENTAL")
            base.execute("PRAGMA journal_mode = WAL")
            base.execute("PRAGMA synchronous = NORMAL")
            base.execute(_TABLE)
        except (OSError, sqlite3.Error) as error:
            self._unusable(base, error, what)
            yield None
            return
        try:
            with base:
                yield base
            if what == "write":
                base.execute("PRAGMA incremental_vacuum").fetchall()
        except sqlite3.Error as error:
            self._unusable(base, error, what)
        finally:
            base.close()

    def _unusable(self, base: sqlite3.Connection | None, error: Exception, what: str) -> None:
        """Warn, and put a file that is damaged aside."""
        if base is not None:
            base.close()
        note = f"the cache of text vectors can't be used to {what}: {error} ({self.path})"
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError) and self.path.exists():
            aside = self.path.with_suffix(f".damaged-{os.getpid()}")
            self.path.replace(aside)
            for extra in ("-wal", "-shm"):
                self.path.with_name(self.path.name + extra).unlink(missing_ok=True)
            note += f"; it was put aside as {aside.name} and a new one begins"
        warnings.warn(note, RuntimeWarning, stacklevel=4)


def _keys(encoder: str, texts: Sequence[str]) -> list[bytes]:
    begin = hashlib.blake2b(encoder.encode() + b"\0", digest_size=16)
    keys = []
    for text in texts:
        digest = begin.copy()
        digest.update(text.encode())
        keys.append(digest.digest())
    return keys


def _today() -> int:
    return int(time.time() // 86_400)


def _used(base: sqlite3.Connection) -> int:
    size, pages, free = (
        int(base.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_size", "page_count", "freelist_count")
    )
    return size * (pages - free)
