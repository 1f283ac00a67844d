"""Store: everything that the service keeps, in SQLite or PostgreSQL, behind one class."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from sqlalchemy import func, select

from palate.serve.store.database import Database
from palate.serve.store.events import Events
from palate.serve.store.experiments import Experiments
from palate.serve.store.items import Items
from palate.serve.store.keys import Keys
from palate.serve.store.logs import Logs
from palate.serve.store.models import Models
from palate.serve.store.part import upsert
from palate.serve.store.past import PastReader
from palate.serve.store.privacy import Privacy
from palate.serve.store.rows import Pulse
from palate.serve.store.schema import HEARTBEAT, prepare
from palate.serve.store.slates import Slates
from palate.serve.store.tables import IN_ORDER, erasures, events, items, meta, models
from palate.serve.store.ties import Ties
from palate.serve.store.users import Users

_PULSE = select(
    select(func.max(events.c.n)).scalar_subquery(),
    select(func.max(items.c.revision)).scalar_subquery(),
    select(models.c.version).where(models.c.state == "active").scalar_subquery(),
    select(func.max(erasures.c.n)).scalar_subquery(),
)


class Store(Events, PastReader, Users, Ties, Items, Slates, Logs, Experiments, Models, Keys, Privacy):
    """Users, items, events, slates, experiments, models and keys; synchronous, and safe to call from many threads.

    Open with :meth:`open`; it is a context manager. Every method that writes returns after the commit. Errors are
    :class:`palate.errors.DataError` for what is not well formed, and those of :mod:`palate.serve.errors`.

    Attributes
    ----------
    identity
        Random name that the store got when it was made; it stays through exports and imports.
    """

    def __init__(self, database: Database, identity: str, clock: Callable[[], float]) -> None:
        self.database, self.identity, self.clock = database, identity, clock

    @classmethod
    def open(cls, url: str, *, synchronous: str = "FULL", wait: float = 5.0, clock: Callable[[], float] = time.time) -> Store:
        """Open a store; make it, or bring it up to date, where needed. Several processes may do so at once.

        Parameters
        ----------
        url
            ``sqlite:///FILE`` (or the path of the file alone), or ``postgresql://USER:PASSWORD@HOST/NAME``.
        synchronous
            SQLite: ``FULL`` survives a power cut, ``NORMAL`` is faster and may lose the last moments in one.
        wait
            Seconds to wait for a lock, a connection or the server before :class:`palate.serve.errors.Unavailable`.
        clock
            Seconds since 1970.

        Raises
        ------
        ConfigError
            If the URL or the place is wrong.
        SchemaError
            If a newer Palate made the store.
        Unavailable
            If the store can't be reached.
        """
        database = Database(url, synchronous=synchronous, wait=wait)
        try:
            return cls(database, prepare(database), clock)
        except BaseException:
            database.close()
            raise

    @property
    def url(self) -> str:
        """The URL, without the password."""
        return self.database.url

    def close(self) -> None:
        """Close all connections."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def check(self) -> float:
        """Write and read a row; return the seconds that it took.

        Raises
        ------
        Unavailable
            If the store can't be reached, or takes no writes.
        """
        started, now = time.perf_counter(), self.clock()
        with self.database.write() as connection:
            upsert(connection, meta, [{"key": HEARTBEAT, "value": json.dumps(now)}])
        with self.database.read() as connection:
            connection.scalars(select(meta.c.value).where(meta.c.key == HEARTBEAT)).one()
        return time.perf_counter() - started

    def pulse(self) -> Pulse:
        """Return what tells a worker whether it is up to date (cheap)."""
        with self.database.read() as connection:
            row = connection.execute(_PULSE).one()
        return Pulse(int(row[0] or 0), int(row[1] or 0), row[2], int(row[3] or 0))

    def sizes(self) -> dict[str, int]:
        """Return how many rows each table has."""
        with self.database.read() as connection:
            return {t.name: int(connection.scalar(select(func.count()).select_from(t)) or 0) for t in IN_ORDER}
