"""Succession: the model that the store wants takes over from the one that answers, beside the requests.

Who activates a model in another process (``palate retrain``, ``publish --activate``, ``rollback``) only changes the store. A
service sees that at its next look, loads and warms the new model up in a thread of its own, and turns to it by one assignment;
until then the old one answers. A model that can't be loaded leaves the old one where it is: the failure is counted, told by
``/v1/ready``, the console and the meters, and tried again from time to time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from palate.errors import BundleError, PalateError
from palate.serve.errors import Unavailable
from palate.serve.models.shelf import Shelf

log = logging.getLogger("palate.serve")
#: Seconds after which a model that could not be loaded is tried again.
RETRY = 30.0


@dataclass(frozen=True)
class Trouble:
    """Why a model does not take over.

    Attributes
    ----------
    version
        Which one.
    error
        What was wrong.
    again
        When it is tried again, by the clock of the succession.
    """

    version: str
    error: Exception
    again: float

    @property
    def words(self) -> str:
        """What is wrong, without any place on this machine."""
        return self.error.what if isinstance(self.error, PalateError) else "it could not be loaded."


class Succession:
    """Has a shelf answer with the model that is wanted.

    Parameters
    ----------
    shelf
        Whose active model is changed.
    folder_of
        Folder of a published version.
    clock
        Seconds of any origin.

    Attributes
    ----------
    wanted
        The version that the store wants active, or ``None``.
    failures
        How often a model could not be loaded.
    """

    def __init__(self, shelf: Shelf, folder_of: Callable[[str], Path], *, clock: Callable[[], float] = time.monotonic) -> None:
        self.shelf, self.folder_of, self.clock = shelf, folder_of, clock
        self.wanted: str | None = None
        self.failures = 0
        self._trouble: Trouble | None = None
        self._thread: threading.Thread | None = None
        self._lock, self._closed = threading.Lock(), False

    @property
    def trouble(self) -> Trouble | None:
        """What keeps the wanted model from answering; ``None`` where nothing does."""
        found = self._trouble
        return found if found is not None and found.version == self.wanted else None

    @property
    def behind(self) -> bool:
        """Whether another model answers than the one wanted, or none does."""
        active = self.shelf.active
        return self.wanted is not None and (active is None or active.version != self.wanted)

    def begin(self, version: str) -> None:
        """Load the first model while the caller waits.

        Raises
        ------
        BundleError
            If its bundle is damaged or gone: nothing else could answer.
        """
        self.wanted = version
        folder = self.folder_of(version)
        try:
            self.shelf.activate(version, folder)
        except BundleError as error:
            raise BundleError(
                f"the active model {version} can't be loaded, and no other is in memory: {error.what}",
                where=error.where,
                value=error.value,
                remedy="restore the bundle, or activate another: palate rollback, or palate publish DIR --activate",
            ) from error

    def want(self, version: str) -> None:
        """Have a version answer: at once where it is in memory, else as soon as it is loaded; nobody waits for that."""
        self.wanted = version
        active = self.shelf.active
        if active is not None and active.version == version:
            self._trouble = None
            return
        with self._lock:
            if self._closed or (self._thread is not None and self._thread.is_alive()):
                return
            if self._trouble is not None and self._trouble.version == version and self.clock() < self._trouble.again:
                return
            if self.shelf.turn_to(version):
                self._trouble = None
                return
            self._thread = threading.Thread(target=self._load, args=(version,), name="palate-succession", daemon=True)
            self._thread.start()

    def wait(self, seconds: float) -> None:
        """Wait until nothing is being loaded.

        Raises
        ------
        Unavailable
            If it takes longer.
        PalateError
            What is wrong with the model that is wanted.
        """
        thread = self._thread
        if thread is not None:
            thread.join(seconds)
            if thread.is_alive():
                raise Unavailable("the model is still being loaded.", remedy="look again at /v1/ready", retry_after=5.0)
        found = self.trouble
        if found is not None:
            raise found.error

    def close(self) -> None:
        """Load nothing more; what is being loaded is finished first."""
        with self._lock:
            self._closed = True
        if self._thread is not None:
            self._thread.join()

    def _load(self, version: str) -> None:
        try:
            self.shelf.get(version, self.folder_of)
        except Exception as error:  # whatever it was, the old model goes on and the thread has nobody to raise it to
            log.error("the model %s can't take over: %s", version, error, exc_info=not isinstance(error, PalateError))
            self.failures += 1
            self._trouble = Trouble(version, error, self.clock() + RETRY)
            return
        if self.wanted == version:
            self.shelf.turn_to(version)
            self._trouble = None
            log.info("the model %s answers now", version)
