"""BestPerm: the best list for a person who scans it from the top and takes the first item that attracts them. Each twice.

With the chance ``u(a)`` that item ``a`` attracts who looks at it, the worth ``w(a)`` of a click on it, and the worth ``w0``
of no click at all, an ordered list ``A`` of at most ``m`` items is worth::

    f(A) = Σ_i Π_{j<i} (1 - u(a_j)) u(a_i) w(a_i) + Π_j (1 - u(a_j)) w0

Of a given set the order of falling ``w`` is the best, and an item helps exactly where ``w(a) > w0`` and there is room. With the
``J`` items above ``w0`` sorted by falling ``w``, and ``M = min(m, J)``::

    F[i][0] = w0      F[i][k] = max( F[i+1][k],  u(a_i) w(a_i) + (1 - u(a_i)) F[i+1][k-1] )      max_A f(A) = F[1][M]

which takes O(n m + n log n). Items of equal worth stand in the order of their numbers, and where taking and leaving an item are
worth the same it is taken; so the list is as long as it can be.

Where no item is above ``w0``, the empty list is the best. Where a list must hold something, the caller gives ``low``, chances
with which such an item is then reckoned: one item with the highest ``low(a) w(a) + (1 - low(a)) w0``. With ``low = u`` that is
exact for known chances; for upper bounds ``u`` of unknown ones it isn't an upper bound any more (each of these values *falls*
with ``u``), and lower bounds of the chances must be given.

Source: Y. Du, R. Srikant and W. Chen, "Cascading Reinforcement Learning", ICLR 2024, lemma 1 and algorithm 1.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np

from palate.kernels.compile import compiled


def list_value_reference(items: np.ndarray, chances: np.ndarray, values: np.ndarray, rest: float) -> float:
    """Return ``f`` of a list (see the module's text); numbers below 0 end it."""
    reached, total = 1.0, 0.0
    for a in items.tolist():
        if a < 0:
            break
        total += reached * chances[a] * values[a]
        reached *= 1 - chances[a]
    return float(total + reached * rest)


def best_perm_reference(
    chances: np.ndarray, values: np.ndarray, rest: float, m: int, low: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
    """Return the worth of the best list of at most ``m`` items, and the list ``int32[k]``.

    Parameters
    ----------
    chances, values
        ``float64[n]``: ``u`` in [0, 1] and ``w``; an item of worth ``-inf`` may not be shown.
    rest
        ``w0``.
    m
        Most items of the list.
    low
        Chances of the item that a list must hold when none is above ``rest``; ``None`` lets it be empty.
    """
    order = [a for a in np.argsort(-values, kind="stable").tolist() if values[a] > rest]
    n, most = len(order), min(m, len(order))
    if n == 0:
        return _single_reference(values, rest, m, low)
    best, take = np.full((n + 1, most + 1), -np.inf), np.zeros((n + 1, most + 1), bool)
    best[:, 0] = rest
    for i in reversed(range(n)):
        u, w = chances[order[i]], values[order[i]]
        for k in range(1, min(most, n - i) + 1):
            taken = u * w + (1 - u) * best[i + 1, k - 1]
            take[i, k] = taken >= best[i + 1, k]
            best[i, k] = taken if take[i, k] else best[i + 1, k]
    chosen, k = [], most
    for i in range(n):
        if take[i, k]:
            chosen.append(order[i])
            k -= 1
    return float(best[0, most]), np.array(chosen, np.int32)


def _single_reference(values: np.ndarray, rest: float, m: int, low: np.ndarray | None) -> tuple[float, np.ndarray]:
    """Return the best list where no item is above ``rest``."""
    shown = np.flatnonzero(values > -np.inf)
    if low is None or m == 0 or not len(shown):
        return float(rest), np.empty(0, np.int32)
    worth = low[shown] * values[shown] + (1 - low[shown]) * rest
    at = int(np.argmax(worth))
    return float(worth[at]), shown[at : at + 1].astype(np.int32)


def best_perms(
    chances: np.ndarray, values: np.ndarray, rest: np.ndarray, m: int, low: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`best_perm_reference` for many rows at once, fast.

    Parameters
    ----------
    chances, values, low
        ``float64[b, n]``.
    rest
        ``float64[b]``.

    Returns
    -------
    tuple
        Worths ``float64[b]`` and lists ``int32[b, m]``, -1 where a list is shorter.
    """
    lists, worth = np.empty((len(values), m), np.int32), np.empty(len(values))
    chances, values = np.ascontiguousarray(chances, np.float64), np.ascontiguousarray(values, np.float64)
    forced = low is not None
    lower = chances if low is None else np.ascontiguousarray(low, np.float64)
    _best_perms(chances, values, np.ascontiguousarray(rest, np.float64), lower, forced, lists, worth)
    return worth, lists


def every_list(n: int, m: int) -> np.ndarray:
    """Return ``int32[Σ_{k=1..m} n!/(n-k)!, m]``: every ordered list of 1 to ``m`` of ``n`` items, padded with -1."""
    parts = []
    for k in range(1, min(m, n) + 1):
        part = np.full((_arrangements(n, k), m), -1, np.int32)
        part[:, :k] = np.fromiter((a for one in permutations(range(n), k) for a in one), np.int32).reshape(-1, k)
        parts.append(part)
    return np.concatenate([np.empty((0, m), np.int32), *parts])


def _arrangements(n: int, k: int) -> int:
    total = 1
    for factor in range(n - k + 1, n + 1):
        total *= factor
    return total


@compiled()
def worth_of_list(items, chances, values, rest):  # type: ignore[no-untyped-def]
    """As :func:`list_value_reference`, compiled."""
    reached, total = 1.0, 0.0
    for a in items:
        if a < 0:
            break
        total += reached * chances[a] * values[a]
        reached *= 1 - chances[a]
    return total + reached * rest


@compiled()
def single_item(values, rest, low, forced, out):  # type: ignore[no-untyped-def]
    """Write the list where no item is above ``rest``: empty, or one item; return its worth."""
    chosen, best = -1, -np.inf
    if forced and out.shape[0] > 0:
        for a in range(values.shape[0]):
            if values[a] > -np.inf:
                worth = low[a] * values[a] + (1 - low[a]) * rest
                if worth > best:
                    chosen, best = a, worth
    if chosen < 0:
        return rest
    out[0] = chosen
    return best


@compiled()
def best_list(chances, values, rest, low, forced, out):  # type: ignore[no-untyped-def]
    """Write the best list of one row into ``out`` (as long as a list may be); return its worth."""
    n, m = values.shape[0], out.shape[0]
    out[:] = -1
    order = np.argsort(-values, kind="mergesort")
    count = 0
    while count < n and values[order[count]] > rest:
        count += 1
    if count == 0:
        return single_item(values, rest, low, forced, out)
    m = min(m, count)
    take = np.zeros((count, m + 1), np.bool_)
    best = np.full(m + 1, -np.inf)
    best[0] = rest
    for i in range(count - 1, -1, -1):
        a = order[i]
        gain, miss = chances[a] * values[a], 1 - chances[a]
        for k in range(min(m, count - i), 0, -1):  # downwards: best[k - 1] is still that of the items behind
            taken = gain + miss * best[k - 1]
            if taken >= best[k]:
                take[i, k] = True
                best[k] = taken
    k, at = m, 0
    for i in range(count):
        if take[i, k]:
            out[at] = order[i]
            at += 1
            k -= 1
    return best[m]


@compiled()
def _best_perms(chances, values, rest, low, forced, lists, worth):  # type: ignore[no-untyped-def]
    for row in range(values.shape[0]):
        worth[row] = best_list(chances[row], values[row], rest[row], low[row], forced, lists[row])


@compiled()
def best_of_lists(table, chances, values, rest, low, forced, out):  # type: ignore[no-untyped-def]
    """As :func:`best_list`, by trying every list of a table, the last of equals: what the dynamic programme saves."""
    out[:] = -1
    chosen, best = -1, rest
    for row in range(table.shape[0]):
        worth = worth_of_list(table[row], chances, values, rest)
        if worth > best or (worth == best and chosen >= 0):
            chosen, best = row, worth
    if chosen < 0:
        return single_item(values, rest, low, forced, out)
    out[:] = table[chosen]
    return best
