"""Identify: play a cascade until the plan is known to be good enough, then say which plan and after how many visits.

The learner's plan is played; where its bound on the gap, over the first states, is at most ``ε``, it is returned::

    stop when  Σ_s start(s) G_0(s) <= ε

Source: Y. Du, R. Srikant and W. Chen, "Cascading Reinforcement Learning", ICLR 2024, algorithm 3.
Differences: several visits may be played with one plan (``batch``), which stops at most that many visits late.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from palate.errors import ConfigError
from palate.explore.cascading_learners import CascadingBPI
from palate.explore.cascading_lists import ListActions

#: Plays lists ``int32[H, S, m]`` for a number of visits; returns states ``int32[b, H + 1]`` and clicks ``int32[b, H]``.
Play = Callable[[np.ndarray, int, np.random.Generator], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Identified:
    """What was found.

    Attributes
    ----------
    lists
        ``int32[H, S, m]``, the plan.
    visits
        Visits played.
    gap
        Bound on how much less the plan is worth than the best.
    stopped
        Whether the gap came below ``ε``, rather than the visits to an end.
    """

    lists: np.ndarray
    visits: int
    gap: float
    stopped: bool


def identify(
    learner: CascadingBPI | ListActions,
    play: Play,
    start: np.ndarray,
    epsilon: float,
    rng: np.random.Generator,
    *,
    batch: int = 1,
    most: int = 1_000_000,
) -> Identified:
    """Play until the plan is within ``epsilon`` of the best, or ``most`` visits are over.

    Parameters
    ----------
    learner
        Bounds the gap of its plan.
    play
        The world.
    start
        ``float64[S]`` chances of the first state.
    epsilon
        In units of reward a visit.
    rng
        The only source of chance.
    batch
        Visits played with one plan.
    """
    if epsilon <= 0 or batch < 1:
        raise ConfigError("epsilon is above 0 and a batch at least 1.", where="identify", value=(epsilon, batch))
    visits = 0
    while True:
        lists = learner.plan(rng)
        gap = float(start @ learner.gap)
        if gap <= epsilon or visits >= most:
            return Identified(lists, visits, gap, gap <= epsilon)
        some = min(batch, most - visits)
        states, clicks = play(lists, some, rng)
        for h in range(len(lists)):
            learner.observe(states[:, h], lists[h, states[:, h]], clicks[:, h], states[:, h + 1])
        visits += some
