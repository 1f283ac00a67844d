"""Trace: what happened on the way to an answer, step by step, and to each item."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Step:
    """One line of a trace."""

    step: str
    came: int
    left: int
    ms: float
    note: str = ""


@dataclass
class Trace:
    """What happened on the way to an answer, and to each item; words are made of it only where somebody reads them."""

    steps: list[Step] = field(default_factory=list)
    _told: dict[int, list[str]] = field(default_factory=dict)
    _untold: list[Callable[[], Iterable[tuple[int, str]]]] = field(default_factory=list)

    @property
    def moves(self) -> dict[int, list[str]]:
        """What moved each row, in order."""
        for tell in self._untold:
            for row, what in tell():
                self._told.setdefault(row, []).append(what)
        self._untold.clear()
        return self._told

    def add(self, step: str, came: int, left: int, started: float, note: str = "") -> None:
        """Note a step."""
        self.steps.append(Step(step, came, left, round(1_000 * (time.perf_counter() - started), 3), note))

    def moved(self, row: int, what: str) -> None:
        """Note what moved an item."""
        self._untold.append(lambda: [(row, what)])

    def reordered(self, rows: np.ndarray, order: np.ndarray, words: Callable[[int, int], str], *, still: bool = False) -> None:
        """Note a new order of rows.

        Parameters
        ----------
        rows, order
            The rows as they were, and the place among them of each that stands now (neither may change any more).
        words
            What is said of an item, from its place (from 0) before and now.
        still
            Whether something is said of those, too, that stand where they stood.
        """
        self._untold.append(
            lambda: [(int(rows[place]), words(place, at)) for at, place in enumerate(order.tolist()) if still or place != at]
        )
