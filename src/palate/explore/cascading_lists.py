"""Lists as single actions: general learners of decisions in steps on a cascade, which see nothing of what is inside a list.

Every ordered list is an action with a reward and a next state of its own (:mod:`palate.kernels.list_plan`). They stand for the
adapted baselines of the cascading paper, AdaptVI (Zanette and Brunskill's Euler over lists) and AdaptRM (stopping), and are as
slow and as slow to learn as lists are many. Both are written from what is said of them there, not from code.
"""

from __future__ import annotations

import numpy as np

from palate.explore.cascading_learners import Cascade, CascadeLearner
from palate.kernels.cascade_plan import STOPPING, VARIANCE, Bonus
from palate.kernels.list_plan import ListCounts, list_bounds


class ListActions(CascadeLearner):
    """Optimistic value iteration over lists; with ``stopping``, it bounds the gap of its plan as CascadingBPI does.

    Parameters
    ----------
    cascade
        What is known. Rewards are used to look up what a click earned, not to plan.
    rng
        Fixes the order in which lists that were never shown are tried.
    visits, scale, delta
        As for :class:`~palate.explore.cascading_learners.OptimisticVI`.
    stopping
        Whether bonuses hold at every count, and ``gap`` is bounded.
    """

    def __init__(
        self,
        cascade: Cascade,
        rng: np.random.Generator,
        *,
        visits: int = 1,
        scale: float = 1.0,
        delta: float = 0.005,
        stopping: bool = False,
    ) -> None:
        super().__init__(cascade)
        self.table = rng.permutation(cascade.table())
        self.seen = ListCounts.empty(cascade.states, len(self.table))
        size = cascade.horizon * cascade.states * len(self.table)
        log = np.log(3 * size / delta) if stopping else np.log(visits * size / delta)
        self.bonus = Bonus(STOPPING if stopping else VARIANCE, float(scale), float(log))
        self.gap = np.full(cascade.states, float(cascade.horizon))
        self._number = {tuple(items): at for at, items in enumerate(self.table.tolist())}

    def plan(self, rng: np.random.Generator) -> np.ndarray:
        """Plan the next visit."""
        chosen, _, lower = list_bounds(self.seen, self.bonus, self.cascade.horizon)
        self.lists, self.gap = self.table[chosen], lower[0]
        return self.lists

    def observe(
        self,
        states: np.ndarray,
        lists: np.ndarray,
        clicks: np.ndarray,
        nexts: np.ndarray,
        looked: np.ndarray | None = None,
    ) -> None:
        """Take up what happened; a step without a known next state is left out."""
        known = nexts >= 0
        s, c = states[known], clicks[known]
        actions = np.array([self._number[tuple(items)] for items in lists[known].tolist()], np.int64)
        clicked = np.take_along_axis(lists[known], np.maximum(c, 0)[:, None], axis=1)[:, 0]
        earned = np.where(c >= 0, self.cascade.rewards[s, clicked], 0.0)
        for table, amount in ((self.seen.shown, 1.0), (self.seen.earned, earned), (self.seen.squares, earned**2)):
            np.add.at(table, (s, actions), amount)
        np.add.at(self.seen.moved, (s, actions, nexts[known]), 1.0)
