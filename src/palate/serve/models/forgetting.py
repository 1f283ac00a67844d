"""Forgetting: whoever was erased, by whichever process, is dropped from this one's memory.

The store counts erasures. A service that sees the count grow at its next look drops what it remembers for a few seconds, takes
whoever was erased for a stranger from that moment on, and reads anew, beside the requests, the bundles whose files the erasure
changed. A bundle that can't be read anew is tried again from time to time; those who were erased stay strangers until then.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from palate.contracts.bundle import read_manifest
from palate.errors import PalateError
from palate.serve.models.shelf import Shelf
from palate.serve.store import Store
from palate.serve.store.privacy import Erasures

log = logging.getLogger("palate.serve")
#: Seconds after which bundles that could not be read anew are tried again.
RETRY = 30.0


class Forgetting:
    """Keeps a process's memory clean of people who were erased.

    Parameters
    ----------
    store, shelf
        Of the process.
    seen
        Number of the last erasure (:attr:`~palate.serve.store.Pulse.erasures`) before any model was loaded.
    drop
        Called at every erasure: drops what is remembered for a few seconds.
    clock
        Seconds of any origin.
    """

    def __init__(
        self, store: Store, shelf: Shelf, seen: int, drop: Callable[[], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.store, self.shelf, self.drop, self.clock = store, shelf, drop, clock
        self._seen = seen
        self._barred = Erasures()  # erased, and perhaps still in a model in memory
        self._trouble: Exception | None = None
        self._again = 0.0
        self._thread: threading.Thread | None = None
        self._lock, self._closed = threading.Lock(), False

    @property
    def trouble(self) -> str | None:
        """What keeps an erased person in memory, without any place on this machine; ``None`` where nobody is kept."""
        found = self._trouble
        if found is None:
            return None
        words = found.what if isinstance(found, PalateError) else "it could not be loaded."
        return f"a bundle can't be read anew after an erasure, so those who were erased are answered as strangers: {words}"

    def bars(self, user: str) -> bool:
        """Say whether a person was erased whom a model in memory may still know."""
        return user in self._barred

    def see(self, counted: int) -> None:
        """Take up erasures up to a number; nobody waits for bundles that are read."""
        if counted <= self._seen and self._trouble is None:
            return
        with self._lock:
            if counted > self._seen:
                gone = self.store.erasures_since(self._seen)
                self._barred |= gone
                self.drop()
                self._seen = gone.last
            elif self._trouble is None or self.clock() < self._again:
                return
            self._begin()

    def catch_up(self) -> None:
        """Take up every erasure so far, and wait until bundles are read anew (what can't be read is told by ``trouble``)."""
        self.drop()
        with self._lock:
            self._again = self.clock()
        self.see(self.store.pulse().erasures)
        self.wait()

    def wait(self) -> None:
        """Wait until no bundle is being read."""
        thread = self._thread
        if thread is not None:
            thread.join()

    def close(self) -> None:
        """Read nothing more; what is being read is finished first."""
        with self._lock:
            self._closed = True
        self.wait()

    def _begin(self) -> None:
        """Have bundles read anew, unless a thread is at it: that one looks again at its end."""
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._work, name="palate-forgetting", daemon=True)
            self._thread.start()

    def _read_changed(self) -> None:
        """Read anew what is in memory and whose bundle is another now; raise what is wrong with one after trying them all."""
        troubles: list[Exception] = []
        for held in self.shelf.settled():
            try:
                if read_manifest(held.folder)["checksum"] != held.facts["checksum"]:
                    self.shelf.reload(held.version)
            except Exception as error:
                troubles.append(error)
        if troubles:
            raise troubles[0]

    def _work(self) -> None:
        while True:
            upto, trouble = self._seen, None
            try:
                self._read_changed()
            except Exception as error:  # whatever it was, the model goes on and the thread has nobody to raise it to
                known = isinstance(error, PalateError)
                log.error("a bundle can't be read anew after an erasure: %s", error, exc_info=not known)
                trouble = error
            with self._lock:
                self._trouble, self._again = trouble, self.clock() + RETRY
                done = trouble is None and self._seen == upto
                if done:
                    self._barred = Erasures()
                if done or trouble is not None or self._closed:
                    self._thread = None
                    return
