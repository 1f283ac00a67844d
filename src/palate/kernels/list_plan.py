"""Optimistic plans where every list of items is one action, as general methods for decisions in steps have it. Each twice.

A list's reward and its next state are learnt as wholes, from ``n`` times it was shown in a state (``r̂``, ``v̂`` are mean and
variance of its rewards; other letters as in :mod:`palate.kernels.cascade_plan`)::

    b_r = min{ c (2 sqrt(v̂ L / n) + 5 L / n), 1 }
    V⁺  = max_A min{ r̂ + b_r, 1 } + min{ p̂·V⁺ + b_p, T }         V⁻ = max{ r̂ - b_r, 0 } + max{ p̂·V⁻ - b_p, 0 } of the same list
    G   = min{ H - h, 2 (b_r + b_p) + p̂·G }                      for stopping, with b_r of L₁

Nothing is shared between lists that hold the same items, so the counts are as many as the lists.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from palate.kernels.cascade_plan import STOPPING, Bonus, move_width
from palate.kernels.compile import compiled


class ListCounts(NamedTuple):
    """What was seen of lists: times shown, sums and squares of rewards ``float64[S, A]``, next states ``float64[S, A, S]``."""

    shown: np.ndarray
    earned: np.ndarray
    squares: np.ndarray
    moved: np.ndarray

    @classmethod
    def empty(cls, states: int, lists: int) -> ListCounts:
        """Return counts of nothing."""
        shape = (states, lists)
        return cls(np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros((*shape, states)))


def list_bounds_reference(counts: ListCounts, bonus: Bonus, horizon: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the upper plan ``int32[H, S]`` (numbers of lists), ``V⁺`` and ``V⁻`` (or ``G``), ``float64[H + 1, S]``."""
    states, actions = counts.shown.shape
    plan = np.zeros((horizon, states), np.int32)
    upper, lower = np.zeros((horizon + 1, states)), np.zeros((horizon + 1, states))
    for h in reversed(range(horizon)):
        after = float(horizon - 1 - h)
        for s in range(states):
            best = -np.inf
            for a in range(actions):
                n = counts.shown[s, a]
                b, mean, down = move_width.py_func(counts.moved[s, a], n, upper[h + 1], lower[h + 1], bonus, horizon, after)
                share = counts.earned[s, a] / n if n else 0.0
                width = _reward_width(share, counts.squares[s, a], n, bonus)
                value = min(share + width, 1) + min(mean + b, after)
                if value > best:
                    best, plan[h, s] = value, a
                    least = min(2 * (width + b) + down, horizon - h)
                    if bonus.kind != STOPPING:
                        least = max(share - width, 0) + max(down - b, 0)
            upper[h, s], lower[h, s] = best, least
    return plan, upper, lower


def _reward_width(share: float, squares: float, n: float, bonus: Bonus) -> float:
    """Return the bonus of a list's reward."""
    if not n:
        return 1.0
    log = bonus.log + np.log(8 * np.e * (n + 1)) if bonus.kind == STOPPING else bonus.log
    return float(min(bonus.scale * (2 * np.sqrt(max(squares / n - share**2, 0) * log / n) + 5 * log / n), 1))


def list_bounds(counts: ListCounts, bonus: Bonus, horizon: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As :func:`list_bounds_reference`, fast."""
    states = counts.shown.shape[0]
    plan, upper, lower = (
        np.zeros((h, states), t) for h, t in ((horizon, np.int32), (horizon + 1, float), (horizon + 1, float))
    )
    _list_bounds(counts, bonus, horizon, plan, upper, lower)
    return plan, upper, lower


@compiled()
def _list_bounds(counts, bonus, horizon, plan, upper, lower):  # type: ignore[no-untyped-def]
    states, actions = counts.shown.shape
    stopping = bonus.kind == STOPPING
    for h in range(horizon - 1, -1, -1):
        after = float(horizon - 1 - h)
        for s in range(states):
            best, least = -np.inf, 0.0
            for a in range(actions):
                n = counts.shown[s, a]
                share, width, b, mean, down = 0.0, 1.0, after, 0.0, 0.0
                if n > 0:
                    log = bonus.log + np.log(8 * np.e * (n + 1)) if stopping else bonus.log
                    share = counts.earned[s, a] / n
                    variance = max(counts.squares[s, a] / n - share**2, 0.0)
                    width = min(bonus.scale * (2 * np.sqrt(variance * log / n) + 5 * log / n), 1.0)
                    b, mean, down = move_width(counts.moved[s, a], n, upper[h + 1], lower[h + 1], bonus, horizon, after)
                value = min(share + width, 1.0) + min(mean + b, after)
                if value > best:
                    best, plan[h, s] = value, a
                    if stopping:
                        least = min(2 * (width + b) + down, float(horizon - h))
                    else:
                        least = max(share - width, 0.0) + max(down - b, 0.0)
            upper[h, s], lower[h, s] = best, least
