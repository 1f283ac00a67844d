"""Cascades with known truth: worlds in which a click leads to a state, their optimal values, and the regret of learners.

One visit has ``H`` steps. In state ``s`` a list is scanned, the first item that attracts (chance ``q(s, a)``) is clicked, earns
``r(s, a)`` and leads to a next state drawn from ``p(·|s, a)``; no click leads on too (the last column). Optimal values are
exact (:func:`palate.kernels.cascade_plan.solve`), and so is what a learner's lists are worth: regret has no noise of clicks::

    regret(K) = Σ_{k<K} Σ_s start(s) (V*_0(s) - V^{π_k}_0(s))
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from palate.contracts.shapes import check_rows, check_shape
from palate.errors import ConfigError
from palate.explore.cascading_learners import Cascade, CascadeLearner
from palate.kernels.cascade import walk
from palate.kernels.cascade_plan import Plan, solve, value_of


@dataclass(frozen=True, eq=False)
class CascadingWorld:
    """A cascade with states, all of it known.

    Attributes
    ----------
    chances
        ``float64[S, n]``: ``q``.
    moves
        ``float64[S, n + 1, S]``: ``p``, of no click last.
    rewards
        ``float64[S, n + 1]`` in [0, 1]; the last column is 0.
    start
        ``float64[S]`` chances of the first state.
    horizon, length
        Steps of a visit, most items of a list.
    forced
        Whether a list must hold an item.
    """

    chances: np.ndarray
    moves: np.ndarray
    rewards: np.ndarray
    start: np.ndarray
    horizon: int = 3
    length: int = 3
    forced: bool = False

    def __post_init__(self) -> None:
        check_shape(self.chances, (None, None), "chances")
        s, n = self.chances.shape
        check_shape(self.moves, (s, n + 1, s), "moves")
        check_shape(self.rewards, (s, n + 1), "rewards")
        check_shape(self.start, (s,), "start")
        check_rows((self.chances >= 0) & (self.chances <= 1), self.chances, "a chance lies in [0, 1].", "chances")
        check_rows(self.moves >= 0, self.moves, "a chance is below 0.", "moves")
        for rows, where in ((self.moves.reshape(-1, s), "moves"), (self.start[None], "start")):
            sums = rows.sum(axis=1)
            check_rows(np.abs(sums - 1) < 1e-9, sums, "the chances of a row don't sum to 1.", where)

    @property
    def cascade(self) -> Cascade:
        """What a learner may know of it."""
        return Cascade(self.rewards, self.horizon, self.length, self.forced)

    @cached_property
    def best(self) -> Plan:
        """The optimal lists ``int32[H, S, m]`` and values."""
        return solve(self.chances, self.moves, self.rewards, self.horizon, self.length, self.forced)

    @property
    def optimum(self) -> float:
        """What a visit earns in the mean under the optimal lists."""
        return float(self.start @ self.best.upper[0])

    def value(self, lists: np.ndarray) -> float:
        """Return what a visit earns in the mean under lists ``int32[H, S, m]``."""
        return float(self.start @ value_of(lists, self.chances, self.moves, self.rewards)[0])

    def play(self, lists: np.ndarray, visits: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return states ``int32[b, H + 1]`` and positions of clicks ``int32[b, H]`` (-1: none) of some visits."""
        starts = rng.choice(len(self.start), size=visits, p=self.start).astype(np.int32)
        draws = rng.random((visits, self.horizon, self.length + 1))
        return walk(self.chances, self._running, lists, starts, draws)

    @cached_property
    def _running(self) -> np.ndarray:
        return np.cumsum(self.moves, axis=2)


@dataclass(frozen=True, eq=False)
class Run:
    """How a learner did.

    Attributes
    ----------
    visits, regret
        ``int64[p]`` numbers of visits, and ``float64[p]`` cumulative regret after each.
    seconds
        Spent in planning and learning.
    """

    visits: np.ndarray
    regret: np.ndarray
    seconds: float


def run(world: CascadingWorld, learner: CascadeLearner, visits: int, rng: np.random.Generator, *, points: int = 40) -> Run:
    """Let a learner plan, see and learn, visit by visit; note its regret at ``points`` numbers of visits, evenly in log."""
    if visits < 1:
        raise ConfigError("there must be a visit.", where="visits", value=visits)
    marks = np.unique(np.geomspace(1, visits, points).astype(np.int64))
    curve, total, seconds, shortfall = np.zeros(len(marks)), 0.0, 0.0, 0.0
    known, at = None, 0
    for visit in range(1, visits + 1):
        began = time.perf_counter()
        lists = learner.plan(rng)
        seconds += time.perf_counter() - began
        if known is None or not np.array_equal(lists, known):
            known, shortfall = lists, world.optimum - world.value(lists)
        total += shortfall
        states, clicks = world.play(lists, 1, rng)
        began = time.perf_counter()
        s = states[0, :-1]
        learner.observe(s, lists[np.arange(world.horizon), s], clicks[0], states[0, 1:])
        seconds += time.perf_counter() - began
        if visit == marks[at]:
            curve[at] = total
            at += 1
    return Run(marks, curve, seconds)


def random_world(
    states: int, items: int, rng: np.random.Generator, *, horizon: int = 3, length: int = 3, spread: float = 0.3
) -> CascadingWorld:
    """Return a world without design: chances and rewards even in [0, 1], moves from a Dirichlet of ``spread``."""
    rewards = rng.random((states, items + 1))
    rewards[:, -1] = 0
    moves = rng.dirichlet(np.full(states, spread), size=(states, items + 1))
    return CascadingWorld(rng.random((states, items)), moves, rewards, _at(0, states), horizon, length)


def bored_world(
    rng: np.random.Generator, *, states: int = 5, items: int = 10, horizon: int = 3, length: int = 3, baits: float = 0.3
) -> CascadingWorld:
    """Return a world in which what is clicked most bores: baits attract more than all else and lead to where little attracts.

    State 0 is the keenest, the last is bored; chances fall to a tenth along the way. A share ``baits`` of the items attracts
    with 0.6 to 0.9 and leads to the bored state in four of five cases; the others attract with 0.2 to 0.5 and lead a state up.
    No click leads one state down in half the cases. Clicks earn 0.5 to 1.
    """
    if states < 2 or not 0 < baits < 1:
        raise ConfigError("it takes two states, and baits among other items.", where="bored_world", value=(states, baits))
    n_baits = max(1, round(baits * items))
    bait = rng.permutation(items) < n_baits
    base = np.where(bait, rng.uniform(0.6, 0.9, items), rng.uniform(0.2, 0.5, items))
    keenness = np.linspace(1.0, 0.1, states)
    moves = np.zeros((states, items + 1, states))
    for s in range(states):
        up, down = max(s - 1, 0), min(s + 1, states - 1)
        moves[s, :-1][bait] += 0.2 * _at(s, states) + 0.8 * _at(states - 1, states)
        moves[s, :-1][~bait] += 0.8 * _at(up, states) + 0.2 * _at(s, states)
        moves[s, -1] = 0.5 * _at(s, states) + 0.5 * _at(down, states)
    rewards = np.zeros((states, items + 1))
    rewards[:, :-1] = rng.uniform(0.5, 1.0, items)
    return CascadingWorld(keenness[:, None] * base, moves, rewards, _at(1, states), horizon, length)


def _at(state: int, states: int) -> np.ndarray:
    """Return the distribution that is in one state."""
    row = np.zeros(states)
    row[state] = 1.0
    return row


def merged(world: CascadingWorld) -> CascadingWorld:
    """Return the same world where what is clicked doesn't matter to what follows: every item moves as no click does."""
    return replace(world, moves=np.repeat(world.moves[:, -1:], world.moves.shape[1], axis=1))
