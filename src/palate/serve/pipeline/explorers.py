"""Explorers: turn a ranked pool into a slate by chance, and say how likely each position was.

Epsilon: position by position, with chance ε an even draw from what is left of the pool, else the best left::

    p(item | positions before) = ε/|left| + (1 - ε) [item is the best left]

Thompson: every item has a Beta posterior over its click rate, from what was shown and clicked. ``D`` joint draws of all rates
are made; a position goes to item ``i`` with the smoothed share of draws in which it is the best of what is left::

    p(i | positions before) = (n_i + 1/|left|) / (D + 1),     n_i = draws in which i has the highest rate of those left

The item is drawn from these very numbers, so the propensity is exact given the draws, and never zero within the pool: inverse
weighting is unbiased.

Policy: a published policy says how likely each item that it knows is to come next, in the context of the request. Where some
of what is left is unknown to it (new since it learnt), that gets an even share::

    p(i | positions before) = (1 - ε) policy(i | positions before) + ε/|unknown left| [i is unknown]

and without ε where all is known. Where it knows nothing of what is left, or can't be asked because the request lacks a number
that it reads, the best that is left stands in for its choice (as with epsilon).

Items that no longer fit (limits of exposure) leave the pool before the next position, which keeps all of this exact.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

import numpy as np

from palate.contracts.policy import NextChances
from palate.kernels.slate_draws import mixed_share
from palate.serve.pipeline.config import ExploreConfig
from palate.serve.pipeline.sources import Question, World

#: Tells which of some places in the pool still fit, now that a place was taken; called once for each place taken, in order.
Fits = Callable[[int, np.ndarray], np.ndarray]
#: Gives the chance of each place that is left to come next, now that a place was taken (-1: none yet); called once for each
#: position, in order. Places are in the order of the pool.
Chances = NextChances


class Rates(Protocol):
    """Who knows how often items were shown and clicked."""

    def counts(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return ``float64[n]`` times clicked and times shown."""


class Explorer(ABC):
    """What turns a ranked pool into a slate: it says how likely each item left is to come next, and draws from just that."""

    #: How many of the best may be drawn (never fewer than the slate is long).
    pool: int = 2**31
    #: What a trace should say of the latest slate.
    note: str = ""

    def asked(self, question: Question) -> Explorer:
        """Return the explorer that answers this question."""
        return self

    @abstractmethod
    def begin(self, pool: np.ndarray, rng: np.random.Generator) -> Chances:
        """Return the chances for one slate; ``pool`` are rows of the catalogue, best first."""

    def choose(self, pool: np.ndarray, k: int, rng: np.random.Generator, fits: Fits) -> tuple[np.ndarray, np.ndarray]:
        """Draw a slate: places in the pool ``int64[k']``, and the chance ``float64[k']`` of each given those before it."""
        pool = pool[: max(self.pool, k)]
        chances, left = self.begin(pool, rng), np.arange(len(pool))
        chosen: list[int] = []
        likely: list[float] = []
        while len(chosen) < k and len(left):
            share = chances(chosen[-1] if chosen else -1, left)
            last = int(np.flatnonzero(share)[-1])  # the shares may add up to a little less than 1
            at = min(int(np.searchsorted(np.cumsum(share), rng.random(), side="right")), last)
            chosen.append(int(left[at]))
            likely.append(float(share[at]))
            left = np.delete(left, at)
            left = left[fits(chosen[-1], left)]
        return np.array(chosen, np.int64), np.array(likely, np.float64)

    def likelihood(self, pool: np.ndarray, places: np.ndarray, rng: np.random.Generator, fits: Fits, k: int = 0) -> np.ndarray:
        """Return ``float64[m]``: how likely this explorer fills the positions with these places, each given those before it.

        Places of -1 are not in the pool: they, and what follows a place that can't come, have the chance 0. ``k`` is how many
        were wanted, where fewer came.
        """
        found = np.zeros(len(places))
        for position, (left, share) in enumerate(self.along(pool, places, rng, fits, k)):
            found[position] = share[left == places[position]].sum()
        return found

    def along(
        self, pool: np.ndarray, places: np.ndarray, rng: np.random.Generator, fits: Fits, k: int = 0
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return for each position the places left, and the chance of each to come next, given these places before it.

        Up to the first position that can't be filled as given: what would follow it never comes. See :meth:`likelihood`.
        """
        pool = pool[: max(self.pool, k, len(places))]
        chances, left = self.begin(pool, rng), np.arange(len(pool))
        found: list[tuple[np.ndarray, np.ndarray]] = []
        taken = -1
        for place in places.tolist():
            if not len(left):
                break
            share = chances(taken, left)
            found.append((left, share))
            at = np.flatnonzero(left == place)
            if not len(at) or share[at[0]] == 0:
                break
            left = np.delete(left, at[0])
            left, taken = left[fits(place, left)], place
        return found


class Greedy(Explorer):
    """Shows the pool in its order; the chance of the best that is left is 1."""

    def begin(self, pool: np.ndarray, rng: np.random.Generator) -> Chances:
        """Return the chances."""
        return _first


class Epsilon(Explorer):
    """Even draws with chance ε (see the module's text)."""

    def __init__(self, config: ExploreConfig) -> None:
        self.epsilon, self.pool = config.epsilon, config.pool

    def begin(self, pool: np.ndarray, rng: np.random.Generator) -> Chances:
        """Return the chances."""

        def chances(taken: int, left: np.ndarray) -> np.ndarray:
            share: np.ndarray = mixed_share(_first(taken, left), 1, len(left), self.epsilon)
            return share

        return chances


class Thompson(Explorer):
    """Draws from posteriors of click rates (see the module's text)."""

    def __init__(self, config: ExploreConfig, rates: Rates) -> None:
        self.config, self.rates, self.pool = config, rates, config.pool

    def begin(self, pool: np.ndarray, rng: np.random.Generator) -> Chances:
        """Draw the rates, and return the chances that they give."""
        clicked, shown = self.rates.counts(pool)
        good, bad = self.config.prior
        draws = self.config.draws
        rates = rng.beta(good + clicked, bad + np.maximum(shown - clicked, 0), size=(draws, len(pool)))

        def chances(taken: int, left: np.ndarray) -> np.ndarray:
            wins = np.bincount(np.argmax(rates[:, left], axis=1), minlength=len(left))
            share: np.ndarray = mixed_share(wins, draws, len(left), 1 / (draws + 1))
            return share

        return chances


class ByPolicy(Explorer):
    """What a published policy chooses (see the module's text); it answers one question, see :meth:`asked`."""

    def __init__(self, config: ExploreConfig, world: World, question: Question | None = None) -> None:
        self.config, self.world, self.question, self.pool = config, world, question, config.pool

    def asked(self, question: Question) -> ByPolicy:
        """Return the explorer that answers this question."""
        return ByPolicy(self.config, self.world, question)

    def begin(self, pool: np.ndarray, rng: np.random.Generator) -> Chances:
        """Ask the policy, and return the chances that it gives."""
        assert self.question is not None
        turn = self.world.turn(self.config.model, self.question, pool)
        self.note, known = turn.note, turn.known
        own = np.where(known, np.cumsum(known) - 1, -1)  # places among those that the policy knows

        def chances(taken: int, left: np.ndarray) -> np.ndarray:
            strange, share = ~known[left], _first(taken, left)
            if turn.chances is not None and not strange.all():
                share[:] = 0.0
                share[~strange] = turn.chances(int(own[taken]) if taken >= 0 else -1, own[left[~strange]])
            if strange.any():
                share *= 1 - self.config.epsilon
                share[strange] += self.config.epsilon / strange.sum()
            return share

        return chances


def _first(taken: int, left: np.ndarray) -> np.ndarray:
    """Return 1 for the first, 0 for the others."""
    share = np.zeros(len(left))
    share[0] = 1.0
    return share


def explorer(config: ExploreConfig, rates: Rates, world: World) -> Explorer:
    """Return the explorer that a configuration names."""
    if config.kind == "epsilon":
        return Epsilon(config)
    if config.kind == "policy":
        return ByPolicy(config, world)
    return Thompson(config, rates) if config.kind == "thompson" else Greedy()
