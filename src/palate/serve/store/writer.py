"""Group commit: what many submit at once is written in one transaction; a commit costs the same for one row as for thousands.

Each batch stays all or nothing by itself: it is checked against what is kept and what is written beside it before anything is
inserted, so a bad one harms nobody else. A future is done after the commit, never before.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection

from palate.errors import PalateError
from palate.serve.errors import BusyError, StoreError, Unavailable
from palate.serve.store.checkpoints import Checkpoints
from palate.serve.store.events import write_events
from palate.serve.store.experiments import write_exposures
from palate.serve.store.logs import write_searches
from palate.serve.store.rows import Added, Event, Exposure, Feedback, Search, Slate
from palate.serve.store.slates import write_feedback, write_slates
from palate.serve.store.store import Store

Outcomes = list["Added | PalateError"]
#: What can be written, in the order in which it is (slates before the feedback on them).
KINDS: Mapping[str, Callable[[Connection, Sequence[Any], float], Outcomes]] = {
    "slates": write_slates,
    "events": write_events,
    "feedback": write_feedback,
    "searches": write_searches,
    "exposures": write_exposures,
}
#: Kinds for which nobody waits, and the seconds that they may wait for company: a commit for ten costs little more than one.
PATIENT, LINGER = frozenset({"slates", "searches", "exposures"}), 0.05


@dataclass(eq=False)
class _Job:
    kind: str
    rows: Sequence[Any]
    future: Future[Added] = field(default_factory=Future)


#: What only wakes the writer up.
_NUDGE = _Job("", ())


class GroupWriter:
    """A thread that writes what others submit; it is a context manager.

    Parameters
    ----------
    store
        Open; it stays the caller's to close.
    waiting
        Batches that may wait, at most.
    rows
        Rows written in one transaction, at most (a larger batch goes alone).
    """

    def __init__(self, store: Store, *, waiting: int = 1_000, rows: int = 5_000) -> None:
        self.store, self.rows = store, rows
        self._queue: queue.Queue[_Job | None] = queue.Queue()
        self._patient: deque[_Job] = deque()  # beside the queue: putting one there wakes nobody
        self._waiting, self._closed, self._awake, self._gate = waiting, False, False, threading.Lock()
        self._thread = threading.Thread(target=self._run, name="palate-writer", daemon=True)
        self._checkpoints = Checkpoints(store.database)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def depth(self) -> int:
        """How many batches wait."""
        return self._queue.qsize() + len(self._patient)

    def add_events(self, batch: Sequence[Event]) -> Future[Added]:
        """Have a batch of events written (see :meth:`Store.add_events`)."""
        return self._submit("events", batch)

    def add_slates(self, batch: Sequence[Slate]) -> Future[Added]:
        """Have slates written (see :meth:`Store.add_slates`)."""
        return self._submit("slates", batch)

    def add_slate(self, slate: Slate) -> Future[Added]:
        """Have a slate written."""
        return self._submit("slates", [slate])

    def add_feedback(self, batch: Sequence[Feedback]) -> Future[Added]:
        """Have feedback written (see :meth:`Store.add_feedback`)."""
        return self._submit("feedback", batch)

    def add_searches(self, batch: Sequence[Search]) -> Future[Added]:
        """Have searches written."""
        return self._submit("searches", batch)

    def add_exposures(self, batch: Sequence[Exposure]) -> Future[Added]:
        """Have exposures written (see :meth:`Store.add_exposures`)."""
        return self._submit("exposures", batch)

    def close(self) -> None:
        """Write all that waits, then stop."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()
        self._checkpoints.close()

    def _submit(self, kind: str, rows: Sequence[Any]) -> Future[Added]:
        """Put a batch into the queue.

        Raises
        ------
        BusyError
            If too many wait already, or the writer is closed.
        """
        job = _Job(kind, rows)
        with self._gate:
            if self._closed:
                raise BusyError(
                    "the service is going down.", remedy="send it again to another worker, or later", retry_after=2.0
                )
            if self.depth >= self._waiting:
                raise BusyError("too much waits to be written.", value=self.depth, remedy="send it again later, or slower")
            if kind in PATIENT:
                self._patient.append(job)
                if self._awake:
                    return job.future
                self._awake = True  # it sleeps without end: one call for all that come until it looks again
                self._queue.put_nowait(_NUDGE)
            else:
                self._queue.put_nowait(job)
        return job.future

    def _run(self) -> None:
        left: list[_Job] = []
        going = True
        while going or left:
            jobs, left, going = self._gather(left, going)
            taken = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            if taken:
                self._write(taken)

    def _gather(self, before: list[_Job], going: bool) -> tuple[list[_Job], list[_Job], bool]:
        """Return what is to be written now, up to the limit of rows; what is left over; and whether more may come.

        Where nobody waits for what has come, a little time is given for company.
        """
        came = list(before)
        if going and not came:
            came, going = self._await()
        while going:
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                break
            going = job is not None
            if job is not None and job is not _NUDGE:
                came.append(job)
        while self._patient:
            came.append(self._patient.popleft())
        size = stop = 0
        for stop, job in enumerate(came):
            size += len(job.rows)
            if size > self.rows and stop:
                return came[:stop], came[stop:], going
        return came, [], going

    def _await(self) -> tuple[list[_Job], bool]:
        """Sleep until something that somebody waits for comes, or something else has waited for company long enough."""
        with self._gate:
            self._awake = bool(self._patient)
        until = time.monotonic() + LINGER if self._awake else None
        while True:
            try:
                job = self._queue.get(timeout=None if until is None else max(0.0, until - time.monotonic()))
            except queue.Empty:
                return [], True
            if job is not _NUDGE:
                return ([], False) if job is None else ([job], True)
            until = time.monotonic() + LINGER

    def _write(self, jobs: Sequence[_Job]) -> None:
        try:
            outcomes = self._transaction(jobs)
        except Unavailable as error:
            outcomes = [error] * len(jobs)
        except Exception as error:
            if len(jobs) > 1:
                for job in jobs:
                    self._write([job])
                return
            outcomes = [
                error if isinstance(error, PalateError) else StoreError("the write failed.", value=type(error).__name__)
            ]
        self._checkpoints.written()
        for job, outcome in zip(jobs, outcomes, strict=True):
            if isinstance(outcome, PalateError):
                job.future.set_exception(outcome)
            else:
                job.future.set_result(outcome)

    def _transaction(self, jobs: Sequence[_Job]) -> Outcomes:
        """Write jobs in one transaction; the outcomes count when it has committed."""
        found: dict[int, Added | PalateError] = {}
        with self.store.database.write() as connection:
            now = self.store.clock()
            for kind, write in KINDS.items():
                places = [at for at, job in enumerate(jobs) if job.kind == kind]
                if places:
                    found.update(zip(places, write(connection, [jobs[at].rows for at in places], now), strict=True))
        return [found[at] for at in range(len(jobs))]
