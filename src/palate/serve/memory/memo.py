"""Memo: answers that may be a few seconds old, made again beside the requests, never in front of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class _Kept:
    made: float
    value: Any


class Memo:
    """Values by key, with an age.

    A value younger than ``fresh`` is given as it is. One younger than ``usable`` is given too, while one thread makes the next.
    Anything older is made anew while the caller waits; callers that come meanwhile wait for the same.

    Parameters
    ----------
    fresh, usable
        Seconds.
    clock
        Seconds of any origin.
    """

    def __init__(self, fresh: float, usable: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.fresh, self.usable, self.clock = fresh, usable, clock
        self._kept: dict[Hashable, _Kept] = {}
        self._making: dict[Hashable, Future[Any]] = {}
        self._lock = threading.Lock()
        self._maker = ThreadPoolExecutor(1, thread_name_prefix="palate-memo")

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the value of a key; what ``make`` raises, it raises, and nothing is kept (nor is ``None``)."""
        found = self.peek(key, make)
        if found is not None:
            return found
        future, mine = self._claim(key)
        if mine:
            self._make(key, make, future)
        return future.result()

    def peek(self, key: Hashable, make: Callable[[], T]) -> T | None:
        """Return the value of a key where that needs no waiting; ``make`` is called in another thread where it is due."""
        found = self._kept.get(key)
        age = self.usable if found is None else self.clock() - found.made
        if found is None or age >= self.usable:
            return None
        if age >= self.fresh:
            self.begin(key, make)
        return found.value

    def begin(self, key: Hashable, make: Callable[[], Any]) -> None:
        """Make a value in another thread, unless it is being made; who asks for it meanwhile waits for that."""
        future, mine = self._claim(key)
        if mine:
            self._maker.submit(self._make, key, make, future)

    def clear(self) -> None:
        """Drop everything; what is being made now is not kept either."""
        with self._lock:
            self._kept, self._making = {}, {}

    def close(self) -> None:
        """Make nothing more."""
        self._maker.shutdown(wait=True, cancel_futures=True)

    def _claim(self, key: Hashable) -> tuple[Future[Any], bool]:
        """Return what is being made of a key, and whether the caller has to make it."""
        with self._lock:
            found = self._making.get(key)
            return (found, False) if found is not None else (self._making.setdefault(key, Future()), True)

    def _make(self, key: Hashable, make: Callable[[], Any], future: Future[Any]) -> None:
        began = self.clock()
        try:
            value = make()
        except BaseException as error:
            with self._lock:
                self._making.pop(key, None)
                self._kept = {k: v for k, v in self._kept.items() if k != key}  # the next caller shall meet the trouble
            future.set_exception(error)
            return
        with self._lock:
            if self._making.get(key) is future:
                del self._making[key]
                old = {k: v for k, v in self._kept.items() if began - v.made < self.usable}
                self._kept = {**old, key: _Kept(began, value)}
        future.set_result(value)
