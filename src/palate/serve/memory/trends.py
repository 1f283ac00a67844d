"""Trends: what was chosen most in a moving window, counted by its two ends instead of anew.

A window over a million events costs a second of a core to count. Within a few seconds it changes by the events that came in and
by those that grew too old, so only these are asked for: events by number after the last count, and times that left the window.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from palate.data.positive import Positive
from palate.serve.store import Store

#: Seconds after which a window is counted anew: until then it may lack what other processes committed out of order (the numbers
#: of PostgreSQL are given before the commit), and may still hold what other processes erased.
ANEW = 3_600.0
#: Items kept of a window's answer.
MOST = 2_000
#: Rows ``int32[n]`` of items and their counts ``float32[n]``, most first.
Best = tuple[np.ndarray, np.ndarray]


@dataclass
class _Window:
    counted: float
    since: float
    position: int
    numbers: dict[str, int]


class Trends:
    """Counts of events by item, for windows that end now.

    Parameters
    ----------
    store
        Open; it stays the caller's to close.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._windows: dict[tuple[float, tuple[str, ...], Positive | None], _Window] = {}
        self._lock = threading.Lock()

    def best(
        self, now: float, hours: float, types: tuple[str, ...], rows: Mapping[str, int], positive: Positive | None = None
    ) -> Best:
        """Return rows and counts of the items chosen most, most first, then by id; items without a row are left out.

        Only events of some types, and those that are positive, count (all by default).
        """
        with self._lock:
            numbers = self._counted(now, hours, types, positive)
            found = heapq.nsmallest(MOST, ((-number, item) for item, number in numbers.items() if item in rows))
        best = np.array([rows[item] for _, item in found], np.int32)
        return best, np.array([-number for number, _ in found], np.float32)

    def clear(self) -> None:
        """Count everything anew when it is next asked for."""
        with self._lock:
            self._windows = {}

    def _counted(self, now: float, hours: float, types: tuple[str, ...], positive: Positive | None) -> dict[str, int]:
        since, position = now - 3_600.0 * hours, self.store.position()
        tally, key = partial(self.store.tally, types=types, positive=positive), (hours, types, positive)
        window = self._windows.get(key)
        if window is None or not 0 <= now - window.counted < ANEW or since < window.since:
            numbers = tally(since, upto=position)
            self._windows[key] = _Window(now, since, position, numbers)
            return numbers
        new = tally(since, after=window.position, upto=position) if position > window.position else {}
        for item, number in new.items():
            window.numbers[item] = window.numbers.get(item, 0) + number
        for item, number in tally(window.since, since, upto=window.position).items():
            left = window.numbers.get(item, 0) - number
            if left > 0:
                window.numbers[item] = left
            else:
                window.numbers.pop(item, None)
        window.since, window.position = since, position
        return window.numbers
