"""Desk and visit: what all pages of a console share, and what one open page knows of the person before it."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from nicegui import ui
from pydantic import ValidationError

from palate.console.curves import EPOCH
from palate.console.format import Complaint, complaint
from palate.errors import PalateError
from palate.progress import Progress, ProgressEvent
from palate.serve.errors import ConflictError
from palate.serve.http.metrics import Meters
from palate.serve.http.problems import Refusal
from palate.serve.http.security import INCLUDES, Caller, Doorman, Scope
from palate.serve.service import Service

log = logging.getLogger("palate.console")
T = TypeVar("T")
#: What is told to the person, and never as a trace.
TOLD = (PalateError, Refusal, ValidationError)


class Job(Generic[T]):
    """Work that takes longer than a page may: it goes on in a thread of its own when the page is left.

    Attributes
    ----------
    title
        What is being done.
    event
        The latest step.
    epochs
        Steps that ended an epoch of a fit, with its figures.
    result
        What came out, once it is done.
    trouble
        Why nothing did.
    """

    def __init__(self, title: str, work: Callable[[Progress], T]) -> None:
        self.title, self._work = title, work
        self.event: ProgressEvent | None = None
        self.epochs: list[ProgressEvent] = []
        self.result: T | None = None
        self.trouble: Complaint | None = None
        self.done = False

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, name=f"console: {self.title}", daemon=True).start()

    def _run(self) -> None:
        try:
            self.result = self._work(self._note)
        except Exception as error:
            if not isinstance(error, TOLD):
                log.exception("%s failed", self.title)
            self.trouble = complaint(error)
        self.done = True

    def _note(self, event: ProgressEvent) -> None:
        self.event = event
        if event.metrics and event.stage.endswith(EPOCH):
            self.epochs.append(event)


@dataclass
class Desk:
    """What all pages of one console share.

    Attributes
    ----------
    service
        What is seen and steered.
    doorman
        Checks keys.
    meters
        What the service counts.
    jobs
        Long work by kind; one of a kind at a time.
    """

    service: Service
    doorman: Doorman
    meters: Meters
    jobs: dict[str, Job[Any]] = field(default_factory=dict)
    _found: dict[str, tuple[float, Any]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def lately(self, name: str, seconds: float, work: Callable[[], T]) -> T:
        """Return what some work found, at most so many seconds ago."""
        known, now = self._found.get(name), time.monotonic()
        if known is None or now - known[0] > seconds:
            known = self._found[name] = (now, work())
        found: T = known[1]
        return found

    def begin(self, kind: str, title: str, work: Callable[[Progress], T]) -> Job[T]:
        """Start long work, unless some of its kind is under way."""
        job = Job(title, work)
        with self._lock:
            before = self.jobs.get(kind)
            if before is not None and not before.done:
                raise ConflictError(
                    "this is under way already.", where=kind, value=before.title, remedy="wait until it is done"
                )
            self.jobs[kind] = job
        job.start()
        return job


@dataclass
class Visit:
    """One open page.

    Attributes
    ----------
    desk
        Of the console.
    key
        API key of the session; ``None`` on a loopback address without keys.
    caller
        Whose key it is.
    dark
        Whether the page is dark now.
    chosen
        Whether day or night was chosen before, in this browser.
    repaint
        Called when it turns dark or light (charts draw themselves anew).
    """

    desk: Desk
    key: str | None
    caller: Caller
    dark: bool = False
    chosen: bool = True
    repaint: list[Callable[[], None]] = field(default_factory=list)

    @property
    def service(self) -> Service:
        """The service."""
        return self.desk.service

    def may(self, scope: Scope) -> bool:
        """Say whether the person may do what needs a scope."""
        return INCLUDES[scope] <= self.caller.scopes

    async def call(self, work: Callable[..., T], *args: Any, scope: Scope = "read") -> T:
        """Check the key once more, and do something in a thread."""

        def checked() -> T:
            self.desk.doorman.admit(self.key, scope)
            return work(*args)

        return await asyncio.to_thread(checked)

    async def begin(self, kind: str, title: str, work: Callable[[Progress], T]) -> Job[T]:
        """Check that the key is an administrator's, and start long work."""
        return await self.call(self.desk.begin, kind, title, work, scope="admin")

    def guarded(self, handler: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        """Return a handler whose errors are told in words."""

        async def safe(*args: Any) -> None:
            try:
                await handler(*args)
            except Exception as error:
                if not isinstance(error, TOLD):
                    log.exception("the console could not do it")
                self.complain(complaint(error))

        return safe

    def complain(self, trouble: Complaint) -> None:
        """Tell what went wrong, until it is closed."""
        ui.notify(
            str(trouble), type="negative", multi_line=True, timeout=0, close_button="Close", position="bottom", classes="told"
        )

    def say(self, text: str) -> None:
        """Tell that something is done."""
        ui.notify(text, type="positive", position="bottom", timeout=3_000)
