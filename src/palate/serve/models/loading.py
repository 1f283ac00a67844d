"""Loading: models and rankers are brought into memory in threads of their own, beside those that answer.

What running experiments and the pipeline answer with is loaded as soon as it is known, and never let go; a load that fails is
tried again from time to time. What a caller names (``model=VERSION``) is loaded when it is first asked for, few at a time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from palate.contracts.bundle import read_manifest
from palate.errors import PalateError
from palate.serve.errors import BusyError, Unavailable
from palate.serve.models.shelf import MOST, Shelf
from palate.serve.models.succession import RETRY, Trouble
from palate.serve.pipeline.config import Need

log = logging.getLogger("palate.serve")
#: Seconds after which asking again for a model that is being loaded makes sense.
AGAIN = 2.0


class Loading:
    """Loads what answers need, and what callers name.

    Parameters
    ----------
    shelf
        Where it is put.
    folder_of
        Folder of a published version; raises :class:`~palate.serve.errors.NotFound` where there is none.
    clock
        Seconds of any origin.
    """

    def __init__(self, shelf: Shelf, folder_of: Callable[[str], Path], *, clock: Callable[[], float] = time.monotonic) -> None:
        self.shelf, self.folder_of, self.clock = shelf, folder_of, clock
        self._under_way: dict[Need, Future[None]] = {}
        self._troubles: dict[Need, Trouble] = {}
        self._lock, self._closed = threading.Lock(), False
        self._needed = ThreadPoolExecutor(1, thread_name_prefix="palate-needed")
        self._named = ThreadPoolExecutor(1, thread_name_prefix="palate-named")

    def need(self, owner: object, needs: Iterable[Need]) -> None:
        """Keep what an owner answers with in memory, in place of what it needed before; nobody waits for what is loaded."""
        wanted = frozenset(needs)
        self.shelf.keep(owner, wanted)
        with self._lock:
            for need in () if self._closed else sorted(wanted):
                known = self._troubles.get(need)
                if not self.shelf.holds(need) and (known is None or self.clock() >= known.again):
                    self._begin(need, self._needed)

    def check(self, needs: Iterable[Need]) -> None:
        """Raise what is wrong where a bundle is gone from the disk, also one that is in memory: it would be lost at a restart.

        Raises
        ------
        NotFound
            If there is no such version.
        BundleError
            If there is no bundle of it.
        """
        for need in needs:
            read_manifest(self.folder_of(need.version))

    def ask(self, need: Need) -> Future[None] | None:
        """Have a version loaded that a caller names; return what ends with the load, or ``None`` where it is in memory.

        Raises
        ------
        NotFound
            If there is no such version.
        BusyError
            If several others are being loaded.
        PalateError
            What was wrong with it a moment ago.
        """
        if self.shelf.holds(need):
            return None
        self.folder_of(need.version)
        with self._lock:
            known = self._troubles.get(need)
            if known is not None and self.clock() < known.again:
                raise known.error.with_traceback(None)
            if need not in self._under_way and (self._closed or len(self._under_way) >= MOST):
                remedy = f"ask again; at most {MOST} are loaded at once"
                raise BusyError("other models are being loaded.", where="model", value=need.version, remedy=remedy)
            return self._begin(need, self._named)

    def require(self, need: Need) -> None:
        """Go on only where a version that a caller names is in memory; where it isn't, it is loaded meanwhile.

        Raises
        ------
        Unavailable
            If it has to be loaded first; and what :meth:`ask` raises.
        """
        if self.ask(need) is not None:
            raise being_loaded(need.version)

    def trouble(self, need: Need) -> Trouble | None:
        """Return why something can't be loaded; ``None`` where it is in memory, being loaded, or was never asked for."""
        return None if self.shelf.holds(need) else self._troubles.get(need)

    def wait(self) -> None:
        """Wait until nothing is being loaded."""
        while under_way := list(self._under_way.values()):
            for future in under_way:
                future.exception()

    def close(self) -> None:
        """Load nothing more; what is being loaded is finished first."""
        with self._lock:
            self._closed = True
        for pool in (self._needed, self._named):
            pool.shutdown(wait=True, cancel_futures=True)

    def _begin(self, need: Need, pool: ThreadPoolExecutor) -> Future[None]:
        """Return the load of something, begun now unless it is under way (with the lock)."""
        found = self._under_way.get(need)
        if found is None:
            found = self._under_way[need] = pool.submit(self._load, need)
        return found

    def _load(self, need: Need) -> None:
        try:
            self.shelf.load(need, self.folder_of)
        except Exception as error:
            log.error(
                "the %s %s can't be loaded: %s", need.kind, need.version, error, exc_info=not isinstance(error, PalateError)
            )
            self._ended(need, Trouble(need.version, error, self.clock() + RETRY))
            raise
        self._ended(need, None)

    def _ended(self, need: Need, trouble: Trouble | None) -> None:
        with self._lock:
            self._under_way.pop(need, None)
            self._troubles.pop(need, None)
            if trouble is not None:
                self._troubles[need] = trouble


def being_loaded(version: str) -> Unavailable:
    """Return the error for who asks for a model that isn't in memory yet."""
    return Unavailable(
        "the model is being loaded.", where="model", value=version, remedy="ask again in a moment", retry_after=AGAIN
    )
