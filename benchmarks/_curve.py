"""The course of a fit: seconds and validation value after each epoch."""

from __future__ import annotations

import time
from collections.abc import Sequence

from palate.progress import ProgressEvent

#: What progress calls the validation value.
VALUE = "valid_ndcg@10"


class Curve:
    """A progress callback that notes the end of every epoch.

    Attributes
    ----------
    ends
        Seconds since the curve was made, for each epoch.
    points
        Seconds and validation NDCG@10 of each look at validation.
    """

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.ends: list[float] = []
        self.points: list[tuple[float, float]] = []

    def __call__(self, event: ProgressEvent) -> None:
        """Note the end of an epoch."""
        if not event.stage.endswith(": epoch"):
            return
        now = time.perf_counter() - self.started
        self.ends.append(now)
        if VALUE in event.metrics:
            self.points.append((now, float(event.metrics[VALUE])))

    @property
    def best(self) -> float:
        """The highest value."""
        return max(value for _, value in self.points)


def seconds_to(points: Sequence[tuple[float, float]], level: float) -> float | None:
    """Return when a level was first reached."""
    return next((seconds for seconds, value in points if value >= level), None)
