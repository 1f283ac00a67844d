"""LimitedPerm: the best list of :mod:`palate.kernels.best_perm` where limits say how many items of a kind it may hold. Twice.

Item ``a`` counts against the limits ``G(a)``; a list may hold at most ``room(g)`` items that count against ``g``. Of all lists
``A`` of at most ``m`` items that keep to this, the one of highest worth is sought::

    f(A) = Σ_i Π_{j<i} (1 - u(a_j)) u(a_i) w(a_i) + Π_j (1 - u(a_j)) w0

Of a set of items the order of falling ``w`` is still the best, and items of ``w(a) <= w0`` are of no use. So items are gone
through by falling ``w`` and taken or left, first as BestPerm would; a branch that can't beat the best list so far, even if
nothing were limited from there on, is cut off::

    f(taken) + Π_{j taken} (1 - u(a_j)) (F[i][k] - w0) <= best

Before, items go that are never needed: those of which ``u`` and ``w`` are no higher than of ``r`` others that count against the
same limits, where no list can hold more than ``r`` of these. (One of the ``r`` is not in the list and could stand for it: a
list gains by a higher ``u`` or ``w``.) With limits of several kinds the problem is hard in general, so the search ends after
``most`` steps; what it found then is a list that keeps to the limits, and the second answer, the least upper bound that is
known, says how far from the best it can be.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from palate.kernels.best_perm import list_value_reference
from palate.kernels.compile import compiled

#: Steps after which a search ends.
STEPS = 200_000


def limited_perm_reference(
    chances: np.ndarray, values: np.ndarray, rest: float, m: int, member: np.ndarray, room: np.ndarray
) -> tuple[float, np.ndarray]:
    """Return the worth of the best list within limits, and the list ``int32[k]``, by trying every set.

    Parameters
    ----------
    chances, values
        ``float64[n]``: ``u`` in [0, 1] and ``w``.
    rest
        ``w0``.
    m
        Most items of the list.
    member
        ``bool[n, g]``: which limits an item counts against.
    room
        ``int64[g]``: how many items of a limit a list may hold.
    """
    order = [a for a in np.argsort(-values, kind="stable").tolist() if values[a] > rest]
    best, found = float(rest), np.empty(0, np.int32)
    for size in range(1, min(m, len(order)) + 1):
        for chosen in combinations(order, size):
            items = np.array(chosen, np.int32)
            if (member[items].sum(0) <= room).all():
                worth = list_value_reference(items, chances, values, rest)
                if worth > best:
                    best, found = worth, items
    return best, found


def limited_perm(
    chances: np.ndarray,
    values: np.ndarray,
    rest: float,
    m: int,
    member: np.ndarray,
    room: np.ndarray,
    most: int = STEPS,
) -> tuple[float, float, np.ndarray]:
    """As :func:`limited_perm_reference`, fast: worth, an upper bound of any list's worth, and the list.

    The bound is the worth itself where the list is proven to be the best.
    """
    room = np.asarray(room, np.int64)
    order = np.argsort(-values, kind="stable")
    order = order[(values[order] > rest) & (~member[order] | (room > 0)).all(1)]
    order = order[_needed(chances[order], values[order], member[order], room, m)]
    if not len(order) or m < 1:
        return float(rest), float(rest), np.empty(0, np.int32)
    out = np.empty(min(m, len(order)), np.int64)
    held = np.ascontiguousarray(member[order], np.bool_)
    u, w = np.ascontiguousarray(chances[order], np.float64), np.ascontiguousarray(values[order], np.float64)
    worth, bound, count = _search(u, w, float(rest), held, room, most, out)
    return float(worth), float(bound), order[out[:count]].astype(np.int32)


def _needed(chances: np.ndarray, values: np.ndarray, member: np.ndarray, room: np.ndarray, m: int) -> np.ndarray:
    """Return ``bool[n]``: which items the best list may need; items come by falling value."""
    kinds, kind_of = np.unique(member, axis=0, return_inverse=True)
    needed = np.ones(len(chances), bool)
    for number, kind in enumerate(kinds):
        own = np.flatnonzero(kind_of.reshape(-1) == number)
        fit = min([m, *room[kind].tolist()])
        better = np.tri(len(own), k=-1, dtype=bool) & (chances[own][None, :] >= chances[own][:, None])
        needed[own] = better.sum(1) < fit
    return needed


@compiled()
def _suffixes(u, w, rest, m):  # type: ignore[no-untyped-def]
    """Return ``F``: the worth of the best list of at most ``k`` of the items from ``i`` on, without limits."""
    n = len(u)
    best = np.full((n + 1, m + 1), rest)
    for i in range(n - 1, -1, -1):
        for k in range(1, m + 1):
            best[i, k] = max(best[i + 1, k], u[i] * w[i] + (1 - u[i]) * best[i + 1, k - 1])
    return best


@compiled()
def _search(u, w, rest, member, room, most, out):  # type: ignore[no-untyped-def]
    """Write the best list into ``out``; return its worth, an upper bound, and its length."""
    n, m = len(u), len(out)
    best = _suffixes(u, w, rest, m)
    levels, counts, items = np.zeros(n + 2, np.int64), np.zeros(n + 2, np.int64), np.full(n + 2, -1)
    reached, gained = np.ones(n + 2), np.zeros(n + 2)
    chosen, top, steps = np.empty(m, np.int64), 1, 0
    found, length, open_bound = rest, 0, -np.inf
    while top > 0:  # a stack of branches; what was chosen before a branch still stands when its turn comes
        top -= 1
        level, count, reach, gain = levels[top], counts[top], reached[top], gained[top]
        if items[top] >= 0:
            chosen[count - 1] = items[top]
        worth, bound = gain + reach * rest, gain + reach * best[level, m - count]
        if worth > found:
            found, length = worth, count
            out[:count] = chosen[:count]
        if level == n or count == m or bound <= found + 1e-12 * abs(found):
            continue
        if steps >= most:
            open_bound = max(open_bound, bound)
            continue
        steps += 1
        with_it = gain + reach * u[level] * w[level]
        fits = _fits(level, chosen, count, member, room)
        first = u[level] * w[level] + (1 - u[level]) * best[level + 1, m - count - 1] >= best[level + 1, m - count]
        for take in (False, True) if first else (True, False):  # the later one has its turn first
            if take and not fits:
                continue
            levels[top], counts[top], items[top] = level + 1, count + take, level if take else -1
            reached[top], gained[top] = (reach * (1 - u[level]), with_it) if take else (reach, gain)
            top += 1
    return found, max(found, open_bound), length


@compiled()
def _fits(item, chosen, count, member, room):  # type: ignore[no-untyped-def]
    """Say whether an item may join those that were chosen."""
    for g in range(len(room)):
        if member[item, g]:
            left = room[g]
            for at in range(count):
                left -= member[chosen[at], g]
            if left < 1:
                return False
    return True
