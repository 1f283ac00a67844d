"""Plans for cascades with states: optimal values, and optimistic ones from counts. Each twice.

People in state ``s`` scan a list, click the first item that attracts them (chance ``q(s, a)``), earn ``r(s, a)`` and go on to a
state drawn from ``p(·|s, a)``; no click is the item ``n`` (the last column), with ``r = 0``. ``h`` counts the steps from 0, and
``T = H - 1 - h`` is how many follow; ``V_H = 0``::

    w_h(s, a) = r(s, a) + Σ_s' p(s'|s, a) V_{h+1}(s')         V_h(s) = max_A f(A, q(s,·), w_h(s,·))

with ``f`` of :mod:`palate.kernels.best_perm`. From counts (``q̂``, ``p̂`` are shares, ``n_q`` times looked at, ``n_p`` times
moved on from; ``L`` a logarithm, ``c`` a factor), bonuses are, where a count is 0, as large as they can be, and else::

    b_q = min{ c (2 sqrt(q̂(1 - q̂) L / n_q) + 5 L / n_q), 1 }
    b_p = min{ c (2 sqrt(Var_p̂(V⁺) L / n_p) + 2 sqrt(E_p̂[(V⁺ - V⁻)²] L / n_p) + 5 T L / n_p), T }
    w⁺  = r + min{ p̂·V⁺ + b_p, T }          V⁺ = max_A f(A, q⁺, w⁺)
    w⁻  = r + max{ p̂·V⁻ - b_p, 0 }          V⁻ = Σ_i Π_{j<i} (1 - q⁺) q⁻ w⁻,    of the same list, then no click

Without regard to variance: ``b_q = min{c sqrt(L / n_q), 1}`` and ``b_p = min{c T sqrt(L / n_p), T}``, the same leading term at
the largest variance that there can be. For stopping (``G`` bounds how far the plan's value is from the best)::

    b_p = min{ c (4 sqrt(Var_p̂(V⁺) L₁ / n_p) + 15 T² L₂ / n_p) + (2 / H) p̂·G, T }
    G   = min{ H - h, Σ_i Π_{j<i} (1 - q⁻) (6 (H - h) b_q + q⁺ (2 b_p + p̂·G)) }
    L₁  = L + log(8 e (n_p + 1)),    L₂ = L + S log(8 e (n_p + 1));    b_q with L₁ of n_q

Source: Y. Du, R. Srikant and W. Chen, "Cascading Reinforcement Learning", ICLR 2024, algorithms 1 to 3.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from palate.kernels.best_perm import best_list, best_of_lists, best_perm_reference, worth_of_list
from palate.kernels.compile import compiled

#: Forms of the bonus, as the compiled code knows them.
VARIANCE, WORST_CASE, STOPPING = 0, 1, 2


class Counts(NamedTuple):
    """What was seen of a cascade with states.

    Attributes
    ----------
    examined, clicked
        ``float64[S, n]`` times an item was looked at, and clicked, in a state.
    moved
        ``float64[S, n + 1, S]`` times a click (last: no click) in a state led to a state.
    visits
        ``float64[S, n + 1]``: their sums.
    """

    examined: np.ndarray
    clicked: np.ndarray
    moved: np.ndarray
    visits: np.ndarray

    @classmethod
    def empty(cls, states: int, items: int) -> Counts:
        """Return counts of nothing."""
        shape = (states, items)
        more = (states, items + 1)
        return cls(np.zeros(shape), np.zeros(shape), np.zeros((*more, states)), np.zeros(more))


class Plan(NamedTuple):
    """A plan and its bounds.

    Attributes
    ----------
    lists
        ``int32[H, S, m]``, -1 where a list is shorter.
    upper, lower
        ``float64[H + 1, S]``: ``V⁺``, and ``V⁻`` (or, for stopping, the gap ``G``).
    chances, low
        ``float64[S, n]``: ``q⁺`` and ``q⁻``.
    worth
        ``float64[H, S, n + 1]``: ``w⁺``.
    """

    lists: np.ndarray
    upper: np.ndarray
    lower: np.ndarray
    chances: np.ndarray
    low: np.ndarray
    worth: np.ndarray

    @classmethod
    def empty(cls, horizon: int, states: int, items: int, m: int) -> Plan:
        """Return arrays to be filled."""
        values, chances = (horizon + 1, states), (states, items)
        lists, worth = np.full((horizon, states, m), -1, np.int32), np.zeros((horizon, states, items + 1))
        return cls(lists, np.zeros(values), np.zeros(values), np.ones(chances), np.zeros(chances), worth)


class Bonus(NamedTuple):
    """How bounds are made: ``kind`` (VARIANCE, WORST_CASE or STOPPING), the factor ``c`` and the logarithm ``L``."""

    kind: int
    scale: float
    log: float


def solve_reference(
    chances: np.ndarray, moves: np.ndarray, rewards: np.ndarray, horizon: int, m: int, forced: bool = False
) -> Plan:
    """Return the best plan where all is known; ``lower`` is ``upper``.

    Parameters
    ----------
    chances, moves, rewards
        ``float64[S, n]``, ``float64[S, n + 1, S]``, ``float64[S, n + 1]``.
    horizon, m
        Steps, and most items of a list.
    forced
        Whether a list must hold an item.
    """
    plan = Plan.empty(horizon, len(chances), chances.shape[1], m)
    plan.chances[:], plan.low[:] = chances, chances
    for h in reversed(range(horizon)):
        plan.worth[h] = rewards + moves @ plan.upper[h + 1]
        for s in range(len(chances)):
            worth = plan.worth[h, s]
            value, items = best_perm_reference(chances[s], worth[:-1], worth[-1], m, chances[s] if forced else None)
            plan.upper[h, s], plan.lists[h, s, : len(items)] = value, items
    plan.lower[:] = plan.upper
    return plan


def solve(chances: np.ndarray, moves: np.ndarray, rewards: np.ndarray, horizon: int, m: int, forced: bool = False) -> Plan:
    """As :func:`solve_reference`, fast."""
    plan = Plan.empty(horizon, len(chances), chances.shape[1], m)
    plan.chances[:], plan.low[:] = chances, chances
    _solve(plan.chances, moves, rewards, forced, plan.lists, plan.upper, plan.worth)
    plan.lower[:] = plan.upper
    return plan


def value_of_reference(lists: np.ndarray, chances: np.ndarray, moves: np.ndarray, rewards: np.ndarray) -> np.ndarray:
    """Return ``float64[H + 1, S]``: what lists ``int32[H, S, m]`` are worth where all is known."""
    horizon, states, _ = lists.shape
    values = np.zeros((horizon + 1, states))
    for h in reversed(range(horizon)):
        worth = rewards + moves @ values[h + 1]
        for s in range(states):
            reached = 1.0
            for a in lists[h, s][lists[h, s] >= 0].tolist():
                values[h, s] += reached * chances[s, a] * worth[s, a]
                reached *= 1 - chances[s, a]
            values[h, s] += reached * worth[s, -1]
    return values


def value_of(lists: np.ndarray, chances: np.ndarray, moves: np.ndarray, rewards: np.ndarray) -> np.ndarray:
    """As :func:`value_of_reference`, fast."""
    values = np.zeros((lists.shape[0] + 1, lists.shape[1]))
    _value_of(lists, chances, moves, rewards, values)
    return values


def bounds_reference(counts: Counts, rewards: np.ndarray, bonus: Bonus, horizon: int, m: int, forced: bool = False) -> Plan:
    """Return the optimistic plan of counts (see the module's text); rewards are ``float64[S, n + 1]``."""
    states, items = counts.examined.shape
    plan = Plan.empty(horizon, states, items, m)
    share, width = _chance_widths(counts, bonus, states)
    plan.chances[:], plan.low[:] = np.minimum(share + width, 1), np.maximum(share - width, 0)
    seen = counts.visits[:, :, None]
    p = np.divide(counts.moved, seen, out=np.zeros_like(counts.moved), where=seen > 0)
    for h in reversed(range(horizon)):
        after = horizon - 1 - h
        high, low = plan.upper[h + 1], plan.lower[h + 1]
        spread = _move_widths(p, counts.visits, high, low, bonus, horizon, after, states)
        plan.worth[h] = rewards + np.minimum(p @ high + spread, after)
        for s in range(states):
            worth = plan.worth[h, s]
            value, chosen = best_perm_reference(plan.chances[s], worth[:-1], worth[-1], m, plan.low[s] if forced else None)
            plan.upper[h, s], plan.lists[h, s, : len(chosen)] = value, chosen
            listed = [*chosen.tolist(), items]
            up = np.append(plan.chances[s], 1.0)[listed]
            down = np.append(plan.low[s], 1.0)[listed]
            if bonus.kind == STOPPING:
                reach = np.concatenate([[1.0], np.cumprod(1 - down[:-1])])
                part = 6 * (horizon - h) * np.append(width[s], 0.0)[listed] + up * (2 * spread[s] + p[s] @ low)[listed]
                plan.lower[h, s] = min(horizon - h, float((reach * part).sum()))
            else:
                reach = np.concatenate([[1.0], np.cumprod(1 - up[:-1])])
                least = (rewards[s] + np.maximum(p[s] @ low - spread[s], 0))[listed]
                plan.lower[h, s] = float((reach * down * least).sum())
    return plan


def _chance_widths(counts: Counts, bonus: Bonus, states: int) -> tuple[np.ndarray, np.ndarray]:
    """Return shares and their bonuses ``float64[S, n]``."""
    n = counts.examined
    some = n > 0
    safe = np.where(some, n, 1)
    share = np.where(some, counts.clicked / safe, 0)
    log = bonus.log + np.log(8 * np.e * (n + 1)) if bonus.kind == STOPPING else bonus.log
    if bonus.kind == WORST_CASE:
        width = bonus.scale * np.sqrt(log / safe)
    else:
        width = bonus.scale * (2 * np.sqrt(share * (1 - share) * log / safe) + 5 * log / safe)
    return share, np.where(some, np.minimum(width, 1), 1.0)


def _move_widths(
    p: np.ndarray,
    n: np.ndarray,
    high: np.ndarray,
    low: np.ndarray,
    bonus: Bonus,
    horizon: int,
    after: int,
    states: int,
) -> np.ndarray:
    """Return the bonus ``float64[S, n + 1]`` of what follows a click."""
    some = n > 0
    safe = np.where(some, n, 1)
    variance = (p * (high - (p @ high)[:, :, None]) ** 2).sum(-1)
    if bonus.kind == WORST_CASE:
        width = bonus.scale * after * np.sqrt(bonus.log / safe)
    elif bonus.kind == VARIANCE:
        gap = p @ (high - low) ** 2
        width = 2 * np.sqrt(variance * bonus.log / safe) + 2 * np.sqrt(gap * bonus.log / safe)
        width = bonus.scale * (width + 5 * after * bonus.log / safe)
    else:
        own = np.log(8 * np.e * (n + 1))
        width = 4 * np.sqrt(variance * (bonus.log + own) / safe) + 15 * after**2 * (bonus.log + states * own) / safe
        width = bonus.scale * width + 2 / horizon * (p @ low)
    return np.where(some, np.minimum(width, after), float(after))


def bounds(
    counts: Counts,
    rewards: np.ndarray,
    bonus: Bonus,
    horizon: int,
    m: int,
    forced: bool = False,
    table: np.ndarray | None = None,
) -> Plan:
    """As :func:`bounds_reference`, fast; with a ``table`` of lists, each list is found by trying them all."""
    states, items = counts.examined.shape
    plan = Plan.empty(horizon, states, items, m)
    tried = np.empty((0, m), np.int32) if table is None else table
    _bounds(counts, rewards, bonus, forced, table is not None, tried, plan)
    return plan


@compiled()
def _solve(chances, moves, rewards, forced, lists, upper, worth):  # type: ignore[no-untyped-def]
    horizon, states, _ = lists.shape
    for h in range(horizon - 1, -1, -1):
        for s in range(states):
            for a in range(rewards.shape[1]):
                total = rewards[s, a]
                for t in range(states):
                    total += moves[s, a, t] * upper[h + 1, t]
                worth[h, s, a] = total
            upper[h, s] = best_list(chances[s], worth[h, s, :-1], worth[h, s, -1], chances[s], forced, lists[h, s])


@compiled()
def _value_of(lists, chances, moves, rewards, values):  # type: ignore[no-untyped-def]
    horizon, states, _ = lists.shape
    items = chances.shape[1]
    worth = np.empty(items + 1)
    for h in range(horizon - 1, -1, -1):
        for s in range(states):
            for at in range(lists.shape[2] + 1):
                a = items if at == lists.shape[2] else lists[h, s, at]
                if a < 0:
                    continue
                worth[a] = rewards[s, a]
                for t in range(states):
                    worth[a] += moves[s, a, t] * values[h + 1, t]
            values[h, s] = worth_of_list(lists[h, s], chances[s], worth, worth[items])


@compiled()
def _chance_width(share, n, bonus):  # type: ignore[no-untyped-def]
    log = bonus.log
    if n == 0:
        return 1.0
    if bonus.kind == WORST_CASE:
        return min(bonus.scale * np.sqrt(log / n), 1.0)
    if bonus.kind == STOPPING:
        log = log + np.log(8 * np.e * (n + 1))
    return min(bonus.scale * (2 * np.sqrt(share * (1 - share) * log / n) + 5 * log / n), 1.0)


@compiled()
def move_width(moved, n, high, low, bonus, horizon, after):  # type: ignore[no-untyped-def]
    """Return the bonus of what follows, and ``p̂·V⁺`` and ``p̂·V⁻`` (for stopping, ``p̂·G``) of one row of moves."""
    log = bonus.log
    if n == 0 or after == 0:
        return after, 0.0, 0.0
    mean, least = 0.0, 0.0
    for t in range(moved.shape[0]):
        mean += moved[t] * high[t]
        least += moved[t] * low[t]
    mean, least = mean / n, least / n
    if bonus.kind == WORST_CASE:
        return min(bonus.scale * after * np.sqrt(log / n), after), mean, least
    variance, gap = 0.0, 0.0
    for t in range(moved.shape[0]):
        variance += moved[t] * (high[t] - mean) ** 2
        gap += moved[t] * (high[t] - low[t]) ** 2
    variance, gap = variance / n, gap / n
    if bonus.kind == VARIANCE:
        width = bonus.scale * (2 * np.sqrt(variance * log / n) + 2 * np.sqrt(gap * log / n) + 5 * after * log / n)
    else:
        own = np.log(8 * np.e * (n + 1))
        width = 4 * np.sqrt(variance * (log + own) / n) + 15 * after**2 * (log + moved.shape[0] * own) / n
        width = bonus.scale * width + 2 / horizon * least
    return min(width, after), mean, least


@compiled()
def _bounds(counts, rewards, bonus, forced, tried, table, plan):  # type: ignore[no-untyped-def]
    horizon, states, m = plan.lists.shape
    items, stopping = counts.examined.shape[1], bonus.kind == STOPPING
    width = np.zeros((states, items + 1))
    chances, low, upper, lower = plan.chances, plan.low, plan.upper, plan.lower
    for s in range(states):
        for a in range(items):
            n = counts.examined[s, a]
            share = counts.clicked[s, a] / n if n > 0 else 0.0
            width[s, a] = _chance_width(share, n, bonus)
            chances[s, a], low[s, a] = min(share + width[s, a], 1.0), max(share - width[s, a], 0.0)
    least = np.empty(items + 1)
    for h in range(horizon - 1, -1, -1):
        after = float(horizon - 1 - h)
        for s in range(states):
            worth, out = plan.worth[h, s], plan.lists[h, s]
            for a in range(items + 1):
                moved, n = counts.moved[s, a], counts.visits[s, a]
                b, mean, down = move_width(moved, n, upper[h + 1], lower[h + 1], bonus, horizon, after)
                worth[a] = rewards[s, a] + min(mean + b, after)
                least[a] = 2 * b + down if stopping else rewards[s, a] + max(down - b, 0.0)
            if tried:
                upper[h, s] = best_of_lists(table, chances[s], worth[:-1], worth[items], low[s], forced, out)
            else:
                upper[h, s] = best_list(chances[s], worth[:-1], worth[items], low[s], forced, out)
            reached, total = 1.0, 0.0
            for at in range(m):
                a = out[at]
                if a < 0:
                    break
                if stopping:
                    total += reached * (6 * (horizon - h) * width[s, a] + chances[s, a] * least[a])
                    reached *= 1 - low[s, a]
                else:
                    total += reached * low[s, a] * least[a]
                    reached *= 1 - chances[s, a]
            total += reached * least[items]
            lower[h, s] = min(total, float(horizon - h)) if stopping else total
