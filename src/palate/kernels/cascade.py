"""Cascades: people who scan a list and click the first item that attracts them; what they do, and counting it. Each twice.

One step: in state ``s`` the list ``lists[h, s]`` is scanned; item ``a`` attracts with the chance ``q(s, a)``; the first that
does is clicked, and the next state is drawn from ``p(·|s, a)``, or from ``p(·|s, n)`` (the last row) where nothing is clicked.
"""

from __future__ import annotations

import numpy as np

from palate.kernels.cascade_plan import Counts
from palate.kernels.compile import compiled


def walk_reference(
    chances: np.ndarray, moves: np.ndarray, lists: np.ndarray, starts: np.ndarray, draws: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return states ``int32[b, H + 1]`` and positions of clicks ``int32[b, H]`` (-1: no click) of visits of ``H`` steps.

    Parameters
    ----------
    chances
        ``float64[S, n]``: ``q``.
    moves
        ``float64[S, n + 1, S]``: running sums of ``p`` over the next state.
    lists
        ``int32[H, S, m]``, -1 at their end.
    starts
        ``int32[b]`` first states.
    draws
        ``float64[b, H, m + 1]`` even draws from [0, 1): one a position, the last for the next state.
    """
    states, clicks = np.empty((len(starts), len(lists) + 1), np.int32), np.full((len(starts), len(lists)), -1, np.int32)
    states[:, 0] = starts
    for row, draw in enumerate(draws):
        for h, drawn in enumerate(draw):
            s = states[row, h]
            items = lists[h, s][lists[h, s] >= 0]
            hits = np.flatnonzero(drawn[: len(items)] < chances[s, items])
            clicks[row, h] = hits[0] if len(hits) else -1
            outcome = items[hits[0]] if len(hits) else chances.shape[1]
            states[row, h + 1] = min(int((drawn[-1] >= moves[s, outcome]).sum()), len(chances) - 1)
    return states, clicks


def walk(
    chances: np.ndarray, moves: np.ndarray, lists: np.ndarray, starts: np.ndarray, draws: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`walk_reference`, fast."""
    states, clicks = np.empty((len(starts), len(lists) + 1), np.int32), np.empty((len(starts), len(lists)), np.int32)
    _walk(chances, moves, lists, starts, draws, states, clicks)
    return states, clicks


def tally_reference(
    counts: Counts, states: np.ndarray, lists: np.ndarray, looked: np.ndarray, clicks: np.ndarray, nexts: np.ndarray
) -> None:
    """Add what happened to the counts.

    Parameters
    ----------
    states, lists
        ``int32[b]`` and ``int32[b, m]``: where, and what was shown.
    looked
        ``bool[b, m]``: which positions were looked at; nothing is learnt from the others.
    clicks
        ``int32[b]`` position of the click, -1 where there was none.
    nexts
        ``int32[b]`` the next state, -1 where it is not known.
    """
    for s, items, seen, click, after in zip(states, lists, looked, clicks, nexts, strict=True):
        shown = items[seen & (items >= 0)]
        counts.examined[s, shown] += 1
        outcome = items[click] if click >= 0 else -1
        if click >= 0:
            counts.clicked[s, outcome] += 1
        if after >= 0:
            counts.moved[s, outcome, after] += 1
            counts.visits[s, outcome] += 1


def tally(
    counts: Counts, states: np.ndarray, lists: np.ndarray, looked: np.ndarray, clicks: np.ndarray, nexts: np.ndarray
) -> None:
    """As :func:`tally_reference`, fast."""
    _tally(*counts, states, lists, looked, clicks, nexts)


@compiled()
def _walk(chances, moves, lists, starts, draws, states, clicks):  # type: ignore[no-untyped-def]
    n, top = chances.shape[1], chances.shape[0] - 1
    horizon, _, m = lists.shape
    for row in range(starts.shape[0]):
        states[row, 0] = starts[row]
        for h in range(horizon):
            s = states[row, h]
            click, outcome = -1, n
            for at in range(m):
                a = lists[h, s, at]
                if a < 0:
                    break
                if draws[row, h, at] < chances[s, a]:
                    click, outcome = at, a
                    break
            after = 0
            while after < top and draws[row, h, m] >= moves[s, outcome, after]:
                after += 1
            clicks[row, h], states[row, h + 1] = click, after


@compiled()
def _tally(examined, clicked, moved, visits, states, lists, looked, clicks, nexts):  # type: ignore[no-untyped-def]
    n = examined.shape[1]
    for row in range(states.shape[0]):
        s, outcome = states[row], n
        for at in range(lists.shape[1]):
            a = lists[row, at]
            if a >= 0 and looked[row, at]:
                examined[s, a] += 1
        if clicks[row] >= 0:
            outcome = lists[row, clicks[row]]
            clicked[s, outcome] += 1
        if nexts[row] >= 0:
            moved[s, outcome, nexts[row]] += 1
            visits[s, outcome] += 1
