"""Slates drawn position by position from joint draws of values, with the exact chance of every position.

A row has ``D`` draws of the values of all items (one draw where nothing is random). A position goes to item ``i`` with the
share of draws in which it has the highest value of all that are left, mixed with an even share::

    p(i | positions before) = (1 - ε) n_i / D + ε / |left|

    D = 1, ε = 0             the best that is left, for certain
    D = 1, ε > 0             epsilon-greedy
    D draws of a posterior   Thompson sampling; ε = s/(D + s) adds s draws that are even over what is left

``joint`` counts, beside the chosen item, only the draws that agree with every position before: a slate is then the ranking of
one draw, as in Thompson sampling with one sample a slate (where no draw agrees any more, all count again).

Equal values rank by :func:`palate.kernels.topk.tie_key`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from palate.kernels.compile import compiled
from palate.kernels.spans import each_span, even_rows
from palate.kernels.topk import tie_key


def mixed_share(wins: Any, draws: Any, left: Any, epsilon: Any) -> Any:
    """Return ``(1 - ε) wins / draws + ε / left`` (numbers or arrays)."""
    return (1.0 - epsilon) * (wins / draws) + epsilon / left


def draw_slates_reference(
    values: np.ndarray, allowed: np.ndarray, epsilon: float, uniforms: np.ndarray, *, joint: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Draw slates by the plain definition.

    Parameters
    ----------
    values
        ``float64[m, D, L]`` draws of the values of ``L`` items, for each of ``n`` rows or, with ``m = 1``, for all of them.
    allowed
        ``bool[n, L]`` (or ``[1, L]``): what may be shown.
    epsilon
        Share of even choice.
    uniforms
        ``float64[n, k]`` in [0, 1): what each position is drawn with.
    joint
        Whether a slate follows one draw.

    Returns
    -------
    items, chances
        ``int32[n, k]`` (-1 where nothing was left) and ``float64[n, k]`` (1 there).
    """
    n, k = uniforms.shape
    items, chances = np.full((n, k), -1, np.int32), np.ones((n, k))
    for row in range(n):
        state = _Row(values, allowed, row, joint)
        for position in range(k):
            if not state.left.any():
                break
            share = state.shares(epsilon)
            at = np.flatnonzero(share > 0)
            place = min(int(np.searchsorted(np.cumsum(share[at]), uniforms[row, position], side="right")), len(at) - 1)
            items[row, position], chances[row, position] = at[place], share[at[place]]
            state.take(int(at[place]))
    return items, chances


def slate_chances_reference(
    values: np.ndarray, allowed: np.ndarray, epsilon: float, items: np.ndarray, *, joint: bool = False
) -> np.ndarray:
    """Return ``float64[n, k]``: the chance of each position of given slates, given the positions before it.

    After a position that can't come all are 0. An empty position (-1) has chance 1 where nothing is left, else 0.
    """
    n, k = items.shape
    chances = np.zeros((n, k))
    for row in range(n):
        state = _Row(values, allowed, row, joint)
        for position, item in enumerate(items[row].tolist()):
            if item < 0:
                chances[row, position] = 0.0 if state.left.any() else 1.0
            elif state.left[item]:
                chances[row, position] = state.shares(epsilon)[item]
            if chances[row, position] == 0:
                break
            if item >= 0:
                state.take(item)
    return chances


class _Row:
    """What is left of a row, and which draws count."""

    def __init__(self, values: np.ndarray, allowed: np.ndarray, row: int, joint: bool) -> None:
        self.values = values[0 if len(values) == 1 else row]
        self.left = allowed[0 if len(allowed) == 1 else row].copy()
        self.alive, self.joint = np.ones(len(self.values), bool), joint
        self.keys = tie_key(np.arange(self.values.shape[1]))

    def _winners(self) -> np.ndarray:
        order = np.lexsort(
            (np.broadcast_to(self.keys, self.values.shape), -self.values, np.tile(~self.left, (len(self.values), 1)))
        )
        first: np.ndarray = order[:, 0]
        return first

    def shares(self, epsilon: float) -> np.ndarray:
        wins = np.bincount(self._winners()[self.alive], minlength=len(self.left))
        share: np.ndarray = np.where(self.left, mixed_share(wins, self.alive.sum(), self.left.sum(), epsilon), 0.0)
        return share

    def take(self, item: int) -> None:
        if self.joint:
            self.alive &= self._winners() == item
            if not self.alive.any():
                self.alive[:] = True
        self.left[item] = False


def draw_slates(
    values: np.ndarray, allowed: np.ndarray, epsilon: float, uniforms: np.ndarray, *, joint: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`draw_slates_reference`, fast."""
    n, k = uniforms.shape
    items, chances = np.full((n, k), -1, np.int32), np.ones((n, k))
    keys, values = _keys(values.shape[2]), np.ascontiguousarray(values, np.float64)
    work = n * k * values.shape[1] * values.shape[2]
    each_span(lambda a, b: _draw(values, allowed, keys, epsilon, joint, uniforms, items, chances, a, b), even_rows(n), work)
    return items, chances


def slate_chances(
    values: np.ndarray, allowed: np.ndarray, epsilon: float, items: np.ndarray, *, joint: bool = False
) -> np.ndarray:
    """As :func:`slate_chances_reference`, fast."""
    n, k = items.shape
    keys, values = _keys(values.shape[2]), np.ascontiguousarray(values, np.float64)
    chances, items = np.zeros((n, k)), np.ascontiguousarray(items, np.int32)
    work = n * k * values.shape[1] * values.shape[2]
    each_span(lambda a, b: _chances(values, allowed, keys, epsilon, joint, items, chances, a, b), even_rows(n), work)
    return chances


class SlateFilling:
    """One slate that is filled from outside: the exact chances of what is left, position by position.

    Where whoever fills it leaves out only what was taken, these are the chances of :func:`slate_chances`.

    Parameters
    ----------
    values
        ``float64[D, m]`` draws of the values of ``m`` items.
    items
        ``int[m]`` their numbers, which settle ties.
    epsilon, joint
        As in :func:`draw_slates_reference`.
    """

    def __init__(self, values: np.ndarray, items: np.ndarray, epsilon: float, *, joint: bool = False) -> None:
        self._values, self._keys = np.ascontiguousarray(values, np.float64), tie_key(items)
        self._epsilon, self._joint = epsilon, joint
        draws, width = values.shape
        self._alive, self._winners = np.ones(draws, np.bool_), np.empty(draws, np.int64)
        self._left, self._wins = np.zeros(width, np.bool_), np.empty(width, np.int64)

    def __call__(self, taken: int, left: np.ndarray) -> np.ndarray:
        """Return ``float64[l]``: the chance of each place that is left, now that ``taken`` (-1: none of these) was."""
        if taken >= 0:
            _take(taken, self._left, self._alive, self._winners, self._joint)
        self._left[:] = False
        self._left[left] = True
        counted = _wins(self._values, self._left, self._alive, self._keys, self._winners, self._wins)
        share: np.ndarray = mixed_share(self._wins[left], counted, len(left), self._epsilon)
        return share


@lru_cache(maxsize=8)
def _keys(n_items: int) -> np.ndarray:
    return tie_key(np.arange(n_items))


_share = compiled(inline="always")(mixed_share)


@compiled()
def _wins(values, left, alive, keys, winners, wins):  # type: ignore[no-untyped-def]
    """Count in how many draws that count each item is the best left; return how many draws count."""
    wins[:] = 0
    counted = 0
    for draw in range(values.shape[0]):
        best = -1
        for item in range(values.shape[1]):
            if not left[item]:
                continue
            equal = best >= 0 and values[draw, item] == values[draw, best]
            if best < 0 or values[draw, item] > values[draw, best] or (equal and keys[item] < keys[best]):
                best = item
        winners[draw] = best
        if alive[draw]:
            wins[best] += 1
            counted += 1
    return counted


@compiled()
def _take(item, left, alive, winners, joint):  # type: ignore[no-untyped-def]
    left[item] = False
    if not joint:
        return
    some = False
    for draw in range(len(alive)):
        alive[draw] = alive[draw] and winners[draw] == item
        some = some or alive[draw]
    if not some:
        alive[:] = True


@compiled()
def _draw(values, allowed, keys, epsilon, joint, uniforms, items, chances, low, high):  # type: ignore[no-untyped-def]
    draws, width = values.shape[1], values.shape[2]
    winners, alive = np.empty(draws, np.int64), np.empty(draws, np.bool_)
    left, wins = np.empty(width, np.bool_), np.empty(width, np.int64)
    for row in range(low, high):
        own = values[0 if values.shape[0] == 1 else row]
        left[:] = allowed[0 if allowed.shape[0] == 1 else row]
        alive[:] = True
        count = left.sum()
        for position in range(uniforms.shape[1]):
            if count == 0:
                break
            counted = _wins(own, left, alive, keys, winners, wins)
            total, at, chance = 0.0, -1, 0.0
            for item in range(width):
                if not left[item]:
                    continue
                share = _share(wins[item], counted, count, epsilon)
                if share > 0.0:
                    total, at, chance = total + share, item, share
                    if uniforms[row, position] < total:
                        break
            items[row, position], chances[row, position] = at, chance
            _take(at, left, alive, winners, joint)
            count -= 1


@compiled()
def _chances(values, allowed, keys, epsilon, joint, items, chances, low, high):  # type: ignore[no-untyped-def]
    draws, width = values.shape[1], values.shape[2]
    winners, alive = np.empty(draws, np.int64), np.empty(draws, np.bool_)
    left, wins = np.empty(width, np.bool_), np.empty(width, np.int64)
    for row in range(low, high):
        own = values[0 if values.shape[0] == 1 else row]
        left[:] = allowed[0 if allowed.shape[0] == 1 else row]
        alive[:] = True
        count = left.sum()
        for position in range(items.shape[1]):
            item = items[row, position]
            if item < 0:
                chances[row, position] = 1.0 if count == 0 else 0.0
            elif left[item]:
                counted = _wins(own, left, alive, keys, winners, wins)
                chances[row, position] = _share(wins[item], counted, count, epsilon)
            if chances[row, position] == 0.0:
                break
            if item >= 0:
                _take(item, left, alive, winners, joint)
                count -= 1
