"""What a report is made of: runs, estimates, values of slices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Run:
    """One system with one seed.

    Attributes
    ----------
    title, seed
        Which system, and which fit of it.
    per_user, weights
        Metric to ``float64[n]`` values of people (NaN where there is none), and their weights where they have any.
    overall
        Metric to its value over all people.
    dropped
        Metric to the number of people without a value.
    info
        ``fit_seconds``, ``requests_per_s``, ``settings``, ``n_trials``, ``cold_share`` and whatever else is known.
    """

    title: str
    seed: int
    per_user: Mapping[str, np.ndarray]
    weights: Mapping[str, np.ndarray]
    overall: Mapping[str, float]
    dropped: Mapping[str, int]
    info: Mapping[str, Any]


@dataclass(frozen=True)
class Estimate:
    """A system's value of a metric.

    Attributes
    ----------
    value
        Mean over seeds.
    low, high
        Bootstrap interval over people, or ``None`` for a metric that has no values of people (such as coverage).
    best
        Whether no other system has a better value.
    spread
        Standard deviation over seeds, or ``None`` for one seed.
    n
        People with a value.
    error
        Standard error over people (bootstrap), or ``None`` as for the interval.
    """

    value: float
    low: float | None
    high: float | None
    best: bool
    spread: float | None
    n: int
    error: float | None = None


@dataclass(frozen=True)
class SliceValue:
    """A system's value of a metric for one group of people, with its bootstrap interval."""

    slicing: str
    group: str
    system: str
    n: int
    value: float
    low: float
    high: float


def average(columns: list[np.ndarray]) -> np.ndarray:
    """Return, row by row, the mean of the columns that have a value."""
    if len(columns) == 1:
        return columns[0]
    table = np.stack(columns)
    known = (~np.isnan(table)).sum(0)
    return np.divide(np.nansum(table, axis=0), known, out=np.full(table.shape[1], np.nan), where=known > 0)
