"""Learners of cascades with states, for simulations: CascadingVI and what it is compared with.

A learner plans a list for every step and state, sees what happened with it, and plans anew. Bounds and plans are those of
:mod:`palate.kernels.cascade_plan`::

    OptimisticVI     the upper plan of the counts; L = log(K H S N / δ) for K visits
    Thompson         q(s, a) ~ Beta(a₀ + clicks, b₀ + looks without one), p(·|s, a) ~ Dirichlet(α₀ + moves); the best plan
    EpsilonGreedy    the best plan of the means of these; with chance ε a visit's lists are drawn at random
    Myopic           OptimisticVI of one step, shown at every step: it earns the next click and doesn't see what follows

Source: Y. Du, R. Srikant and W. Chen, "Cascading Reinforcement Learning", ICLR 2024, algorithm 2.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from palate.contracts.shapes import check_rows, check_shape
from palate.errors import ConfigError
from palate.kernels.best_perm import every_list
from palate.kernels.cascade import tally
from palate.kernels.cascade_plan import STOPPING, VARIANCE, WORST_CASE, Bonus, Counts, Plan, bounds, solve

BonusName = Literal["variance", "worst_case"]
OracleName = Literal["best_perm", "exhaustive"]

#: Lists that an exhaustive search goes through, at most.
MOST_LISTS = 200_000


@dataclass(frozen=True, eq=False)
class Cascade:
    """What is known of a cascade beforehand.

    Attributes
    ----------
    rewards
        ``float64[S, n + 1]`` reward of a click in [0, 1]; the last column, of no click, is 0.
    horizon, length
        Steps of a visit, and most items of a list.
    forced
        Whether a list must hold an item.
    """

    rewards: np.ndarray
    horizon: int
    length: int
    forced: bool = False

    def __post_init__(self) -> None:
        check_shape(self.rewards, (None, None), "rewards")
        good = (self.rewards >= 0) & (self.rewards <= 1)
        check_rows(good, self.rewards, "a reward lies in [0, 1].", "rewards", "divide by the largest")
        check_rows(self.rewards[:, -1:] == 0, self.rewards[:, -1:], "no click has no reward.", "rewards, last column")
        for name, value in (("horizon", self.horizon), ("length", self.length), ("items", self.items)):
            if value < 1:
                raise ConfigError(f"a cascade has at least one of {name}.", where=name, value=value)

    @property
    def states(self) -> int:
        """Number of states."""
        return len(self.rewards)

    @property
    def items(self) -> int:
        """Number of items."""
        return self.rewards.shape[1] - 1

    def table(self) -> np.ndarray:
        """Return every ordered list, ``int32[A, m]``."""
        total, some = 0, 1
        for k in range(min(self.length, self.items)):
            some *= self.items - k
            total += some
        if total > MOST_LISTS:
            raise ConfigError(
                "there are too many lists to try them all.",
                where="items and length",
                value=total,
                remedy=f"at most {MOST_LISTS}",
            )
        return every_list(self.items, self.length)


class CascadeLearner(ABC):
    """Base of learners.

    Attributes
    ----------
    counts
        What was seen.
    lists
        ``int32[H, S, m]`` of the last plan, -1 where a list is shorter.
    """

    def __init__(self, cascade: Cascade) -> None:
        self.cascade = cascade
        self.counts = Counts.empty(cascade.states, cascade.items)
        self.lists = np.full((cascade.horizon, cascade.states, cascade.length), -1, np.int32)

    @abstractmethod
    def plan(self, rng: np.random.Generator) -> np.ndarray:
        """Plan the next visit from what was seen; return ``lists``."""

    def act(self, state: int, step: int) -> np.ndarray:
        """Return the list ``int32[k]`` of the last plan, for a state and a step counted from 0."""
        items: np.ndarray = self.lists[step, state]
        return items[items >= 0]

    def observe(
        self,
        states: np.ndarray,
        lists: np.ndarray,
        clicks: np.ndarray,
        nexts: np.ndarray,
        looked: np.ndarray | None = None,
    ) -> None:
        """Take up what happened in ``b`` steps.

        Parameters
        ----------
        states, lists
            ``int32[b]`` and ``int32[b, m]``.
        clicks
            ``int32[b]`` position of the click, or -1.
        nexts
            ``int32[b]`` state that followed, -1 where it is not known (or the visit ended).
        looked
            ``bool[b, m]`` positions looked at; by default all up to the click.
        """
        if looked is None:
            looked = up_to_click(clicks, lists.shape[1])
        tally(self.counts, states, lists, looked, clicks, nexts)


class OptimisticVI(CascadeLearner):
    """CascadingVI: optimistic value iteration with BestPerm (see :mod:`palate.kernels.cascade_plan`).

    Parameters
    ----------
    cascade
        What is known.
    visits, delta
        Visits expected and chance of failure, in the logarithm.
    scale
        Factor of all bonuses; 1 is the theory's.
    bonus
        ``"variance"``, or ``"worst_case"`` for bonuses that don't look at variance.
    oracle
        ``"best_perm"``, or ``"exhaustive"``, which tries every list.
    """

    def __init__(
        self,
        cascade: Cascade,
        *,
        visits: int,
        scale: float = 1.0,
        delta: float = 0.005,
        bonus: BonusName = "variance",
        oracle: OracleName = "best_perm",
    ) -> None:
        super().__init__(cascade)
        log = np.log(visits * cascade.horizon * cascade.states * cascade.items / delta)
        self.bonus = Bonus(VARIANCE if bonus == "variance" else WORST_CASE, float(scale), float(log))
        self.table = cascade.table() if oracle == "exhaustive" else None

    def bounds(self) -> Plan:
        """Return the upper plan of what was seen, with its bounds."""
        c = self.cascade
        return bounds(self.counts, c.rewards, self.bonus, c.horizon, c.length, c.forced, self.table)

    def plan(self, rng: np.random.Generator) -> np.ndarray:
        """Plan the next visit."""
        self.lists = self.bounds().lists
        return self.lists


class CascadingBPI(CascadeLearner):
    """CascadingBPI: plays until its plan is within ``epsilon`` of the best, with chance ``1 - delta``.

    The plan is upper, and ``gap`` bounds how much less it is worth than the best; see :func:`identify`. The constants of the
    bonuses are those of the family of BPI-UCBVI (Ménard et al., ICML 2021), ``L = log(3 S N H / δ)``.

    Attributes
    ----------
    gap
        ``float64[S]`` of the last plan, at the first step.
    """

    def __init__(self, cascade: Cascade, *, scale: float = 1.0, delta: float = 0.005, oracle: OracleName = "best_perm") -> None:
        super().__init__(cascade)
        log = np.log(3 * cascade.horizon * cascade.states * cascade.items / delta)
        self.bonus = Bonus(STOPPING, float(scale), float(log))
        self.table = cascade.table() if oracle == "exhaustive" else None
        self.gap = np.full(cascade.states, float(cascade.horizon))

    def plan(self, rng: np.random.Generator) -> np.ndarray:
        """Plan the next visit, and bound the gap."""
        c = self.cascade
        found = bounds(self.counts, c.rewards, self.bonus, c.horizon, c.length, c.forced, self.table)
        self.lists, self.gap = found.lists, found.lower[0]
        return self.lists


class Thompson(CascadeLearner):
    """Draws a cascade from its posterior, and plans as if it were true.

    Parameters
    ----------
    cascade
        What is known.
    prior
        Clicks, and looks without a click, known beforehand (Beta).
    moves
        Moves to every state known beforehand (Dirichlet); 1/S by default.
    """

    def __init__(self, cascade: Cascade, *, prior: tuple[float, float] = (1.0, 1.0), moves: float | None = None) -> None:
        super().__init__(cascade)
        self.prior, self.moves = prior, 1 / cascade.states if moves is None else moves
        if min(*self.prior, self.moves) <= 0:
            raise ConfigError("prior counts are above 0.", where="prior, moves", value=(*prior, moves))

    def plan(self, rng: np.random.Generator) -> np.ndarray:
        """Draw, then plan."""
        good, bad = self._posterior()
        gammas = rng.standard_gamma(self.counts.moved + self.moves)
        gammas += 1e-300  # all may round to 0 where the prior is small
        return self._solve(rng.beta(good, bad), gammas / gammas.sum(axis=2, keepdims=True))

    def _posterior(self) -> tuple[np.ndarray, np.ndarray]:
        seen = self.counts
        return self.prior[0] + seen.clicked, self.prior[1] + seen.examined - seen.clicked

    def _solve(self, chances: np.ndarray, moves: np.ndarray) -> np.ndarray:
        c = self.cascade
        self.lists = solve(chances, moves, c.rewards, c.horizon, c.length, c.forced).lists
        return self.lists


class EpsilonGreedy(Thompson):
    """Plans with the posterior's means; with chance ``epsilon`` a visit shows lists drawn at random."""

    def __init__(
        self,
        cascade: Cascade,
        *,
        epsilon: float = 0.05,
        prior: tuple[float, float] = (1.0, 1.0),
        moves: float | None = None,
    ) -> None:
        super().__init__(cascade, prior=prior, moves=moves)
        self.epsilon = epsilon

    def plan(self, rng: np.random.Generator) -> np.ndarray:
        """Plan, or draw lists."""
        c = self.cascade
        if rng.random() < self.epsilon:
            order = rng.permuted(np.tile(np.arange(c.items, dtype=np.int32), (c.horizon, c.states, 1)), axis=2)
            self.lists = np.full((c.horizon, c.states, c.length), -1, np.int32)
            self.lists[:, :, : min(c.length, c.items)] = order[:, :, : c.length]
            return self.lists
        good, bad = self._posterior()
        mass = self.counts.moved + self.moves
        return self._solve(good / (good + bad), mass / mass.sum(axis=2, keepdims=True))


class Myopic(CascadeLearner):
    """An optimistic cascading bandit: it plans one step only; ``blind`` takes all states for one, too.

    Parameters are those of :class:`OptimisticVI`.
    """

    def __init__(
        self,
        cascade: Cascade,
        *,
        visits: int,
        scale: float = 1.0,
        delta: float = 0.005,
        bonus: BonusName = "variance",
        blind: bool = False,
    ) -> None:
        super().__init__(cascade)
        rewards = cascade.rewards.mean(axis=0, keepdims=True) if blind else cascade.rewards
        inner = replace(cascade, rewards=rewards, horizon=1)
        self.inner = OptimisticVI(inner, visits=visits * cascade.horizon, scale=scale, delta=delta, bonus=bonus)
        self.blind = blind

    def plan(self, rng: np.random.Generator) -> np.ndarray:
        """Plan a step."""
        self.lists = np.broadcast_to(self.inner.plan(rng), self.lists.shape).copy()
        return self.lists

    def observe(
        self,
        states: np.ndarray,
        lists: np.ndarray,
        clicks: np.ndarray,
        nexts: np.ndarray,
        looked: np.ndarray | None = None,
    ) -> None:
        """Take up what happened; what follows is left out."""
        nobody = np.full_like(nexts, -1)
        self.inner.observe(np.zeros_like(states) if self.blind else states, lists, clicks, nobody, looked)


def up_to_click(clicks: np.ndarray, length: int) -> np.ndarray:
    """Return ``bool[b, m]``: positions up to the click, all where there is none."""
    looked: np.ndarray = (np.arange(length)[None, :] <= clicks[:, None]) | (clicks < 0)[:, None]
    return looked
