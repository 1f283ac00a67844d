"""Early stopping: keep the best epoch, and stop when nothing has improved for a while.

A recommender's first epochs often rank by popularity: its validation value rises to that of popularity, dips while people's own
tastes are only beginning to be told apart, and rises above it much later. Looks without improvement therefore count only from
the look on in which the best value is clearly above what popularity reaches (``floor``, by :data:`CLEAR`), and only after the
epochs of a warm-up, in which what is to be trained has not begun.

On small data an epoch is a few steps, and a plateau of a hundred steps lasts many of them. So patience has two measures: looks
without improvement, and the steps taken meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

#: The share by which a value must be above its floor before patience counts.
CLEAR = 0.1


class Stopping:
    """Watches a value that should rise.

    Parameters
    ----------
    patience
        Looks in a row without improvement after which to stop; 0 means never.
    floor
        Gives what a ranking that learnt nothing of people reaches; ``None``: nothing is known of it. Asked only when it
        matters.
    warmup
        Epochs in which looks don't count towards ``patience``. Their best is kept as that of any other.
    least
        Steps without improvement that it takes, too, before it stops.

    Attributes
    ----------
    best_epoch, best_value
        The best look so far (``None`` before the first). Of equal values the earliest counts.
    waited, steps
        Looks since then, or since the floor was clearly passed, or since the warm-up; and steps.
    """

    def __init__(self, patience: int, floor: Callable[[], float] | None = None, warmup: int = 0, least: int = 0) -> None:
        self.patience, self.floor, self.warmup, self.least = patience, floor, warmup, least
        self.best_epoch: int | None = None
        self.best_value: float | None = None
        self.waited = self.steps = 0

    def look(self, epoch: int, value: float, steps: int = 0) -> bool:
        """Note a value, and the steps taken since the last look; say whether it is the best so far."""
        if math.isnan(value):
            raise ValueError("the watched value is not a number")
        if self.best_value is None or value > self.best_value:
            self.best_epoch, self.best_value = epoch, value
            self.waited = self.steps = 0
            return True
        counts = epoch > self.warmup and (not self.patience or self.passed)
        self.waited, self.steps = (self.waited + 1, self.steps + steps) if counts else (0, 0)
        return False

    @property
    def passed(self) -> bool:
        """Whether the best value is clearly above the floor."""
        if self.floor is None or self.best_value is None:
            return self.floor is None
        floor = self.floor()
        return self.best_value > floor + CLEAR * abs(floor)

    @property
    def stop(self) -> bool:
        """Whether to stop now."""
        return 0 < self.patience <= self.waited and self.steps >= self.least

    def state(self) -> dict[str, Any]:
        """Return plain facts from which :meth:`restore` goes on."""
        waited = {"waited": self.waited, "steps": self.steps}
        return {"best_epoch": self.best_epoch, "best_value": self.best_value, **waited}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state` gave."""
        self.best_epoch, self.best_value = state["best_epoch"], state["best_value"]
        self.waited, self.steps = state["waited"], state["steps"]
