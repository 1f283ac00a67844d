"""Checkpoints of SQLite's write-ahead log, made beside the writers instead of inside their commits.

By itself SQLite copies the log into the file within the commit that makes it long, and that commit takes as long as the disk
does. A passive checkpoint does the same work without stopping anybody; :data:`palate.serve.store.database.LONGEST_LOG` bounds
the log where it can't keep up.
"""

from __future__ import annotations

import logging
import threading

from palate.errors import PalateError
from palate.serve.store.database import Database

log = logging.getLogger("palate.serve")
#: Seconds between checkpoints while something is written.
EVERY = 1.0


class Checkpoints:
    """A thread that checkpoints a store after writes; on PostgreSQL there is nothing to do, and none is started."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._written, self._closed = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        if database.dialect == "sqlite":
            self._thread = threading.Thread(target=self._run, name="palate-checkpoints", daemon=True)
            self._thread.start()

    def written(self) -> None:
        """Say that something was committed."""
        self._written.set()

    def close(self) -> None:
        """Stop after the checkpoint under way."""
        self._closed.set()
        self._written.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._closed.wait(EVERY):
            self._written.wait()
            self._written.clear()
            try:
                with self.database.bare() as connection:
                    connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")
            except PalateError as error:
                log.warning("the log could not be checkpointed: %s", error.what)
