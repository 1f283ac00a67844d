"""Turns: one thread at a time works on something; others that want the same wait, and nobody else does."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Turns(Generic[K]):
    """A lock for each of many things, made when it is first wanted."""

    def __init__(self) -> None:
        self._locks: dict[K, threading.Lock] = {}
        self._lock = threading.Lock()

    def had(self) -> list[K]:
        """Return whatever anybody had a turn at so far, or is having one."""
        with self._lock:
            return list(self._locks)

    @contextmanager
    def alone(self, thing: K) -> Iterator[None]:
        """Be the only one at it."""
        with self._lock:
            turn = self._locks.setdefault(thing, threading.Lock())
        with turn:
            yield
