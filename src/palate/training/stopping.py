"""Early stopping: keep the best epoch, and stop when nothing has improved for a while."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


class Stopping:
    """Watches a value that should rise.

    Parameters
    ----------
    patience
        Looks in a row without improvement after which to stop; 0 means never.

    Attributes
    ----------
    best_epoch, best_value
        The best look so far (``None`` before the first). Of equal values the earliest counts.
    waited
        Looks since then.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.best_epoch: int | None = None
        self.best_value: float | None = None
        self.waited = 0

    def look(self, epoch: int, value: float) -> bool:
        """Note a value; say whether it is the best so far."""
        if math.isnan(value):
            raise ValueError("the watched value is not a number")
        if self.best_value is None or value > self.best_value:
            self.best_epoch, self.best_value, self.waited = epoch, value, 0
            return True
        self.waited += 1
        return False

    @property
    def stop(self) -> bool:
        """Whether to stop now."""
        return 0 < self.patience <= self.waited

    def state(self) -> dict[str, Any]:
        """Return plain facts from which :meth:`restore` goes on."""
        return {"best_epoch": self.best_epoch, "best_value": self.best_value, "waited": self.waited}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state` gave."""
        self.best_epoch, self.best_value, self.waited = state["best_epoch"], state["best_value"], state["waited"]
