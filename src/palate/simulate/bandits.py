"""Worlds for bandits: people whose clicks follow a law that is known, and a loop that measures regret.

    regret(T) = Σ_{t ≤ T} ( value of the best slate - value of the slate shown )        (expected values, so no noise of clicks)

==================  =================================================================================================
``CascadeWorld``    item ``i`` attracts with chance ``w_i``; the first attractive item is clicked: ``1 - Π (1 - w_i)``
``PositionWorld``   position ``j`` is looked at with chance ``κ_j``, whatever stands above: ``Σ_j κ_j w_j``
``LinearWorld``     a cascade whose attraction depends on person and item, ``w_ri = c_rᵀ B z_i``
==================  =================================================================================================

In the linear world people are mixtures ``c`` of tastes and items mixtures ``z`` of topics (Dirichlet), and ``B`` holds chances,
so that attraction is exactly linear: in ``c`` for each item, and in ``c ⊗ z`` for all. Items may appear late (``arrivals``):
before, they are no candidates. What a person looked at is not told, as in a log of clicks; policies infer it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy import stats

from palate.contracts.policy import Feedback, Policy
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset, Entities
from palate.data.histories import Histories
from palate.data.interactions import Interactions
from palate.data.ragged import Ragged, offsets_of
from palate.data.vocabulary import Vocabulary
from palate.errors import DataError
from palate.progress import Progress, ProgressEvent, silent
from palate.runtime import generator

#: Points of a regret curve.
POINTS = 200


class BanditWorld(ABC):
    """People who answer slates by a known law.

    Attributes
    ----------
    k
        Positions of a slate.
    arrivals
        ``int64[n_items]``: the round in which each item appears.
    """

    k: int
    arrivals: np.ndarray

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return len(self.arrivals)

    @property
    def dataset(self) -> Dataset:
        """The catalogue, without events."""
        nothing = np.empty(0, np.int32)
        items = Entities(Vocabulary.range(self.n_items), self._attributes())
        return Dataset(Interactions.sorted(nothing, nothing), Entities(Vocabulary.range(0)), items, name="bandit world")

    def requests(self, first: int, rounds: int, rng: np.random.Generator) -> Requests:
        """Return the people of some rounds (their number stands in ``times``)."""
        times = np.arange(first, first + rounds, dtype=np.int64)
        candidates = None
        if self.arrivals.any():
            there = self.arrivals <= times[:, None]
            candidates = Ragged(offsets_of(there.sum(axis=1)), np.nonzero(there)[1].astype(np.int32))
        users, histories = np.full(rounds, -1, np.int32), Histories.empty(rounds)
        return Requests(users, histories, candidates=candidates, times=times, context=self._context(rounds, rng))

    def attraction_of(self, requests: Requests) -> np.ndarray:
        """Return ``float64[n or 1, n_items]``: how attractive each item is to each person, -1 where it isn't there yet."""
        attraction = self._attraction(requests)
        if requests.times is None or not self.arrivals.any():
            return attraction
        there = self.arrivals <= requests.times[:, None]
        return np.where(there, attraction, -1.0)

    def shown(self, requests: Requests, items: np.ndarray) -> np.ndarray:
        """Return ``float64[n, k]``: attraction of the items shown, 0 at empty positions."""
        attraction = self.attraction_of(requests)
        rows = np.zeros(len(items), np.int64) if len(attraction) == 1 else np.arange(len(items))
        return np.where(items >= 0, np.maximum(attraction[rows[:, None], np.maximum(items, 0)], 0.0), 0.0)

    def value(self, requests: Requests, items: np.ndarray) -> np.ndarray:
        """Return ``float64[n]``: expected clicks of slates."""
        return self.worth(self.shown(requests, items))

    def best(self, requests: Requests) -> np.ndarray:
        """Return ``float64[n or 1]``: expected clicks of the best slate."""
        width = min(self.k, self.n_items)
        ordered = -np.sort(-self.attraction_of(requests), axis=1)[:, :width]
        return self.worth(np.maximum(ordered, 0.0))

    @abstractmethod
    def worth(self, attraction: np.ndarray) -> np.ndarray:
        """Return ``float64[n]``: expected clicks of slates whose items attract so much, first position first."""

    @abstractmethod
    def clicks(self, attraction: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """Return ``float64[n, k]``: clicks, by uniform numbers of the same shape."""

    @abstractmethod
    def _attraction(self, requests: Requests) -> np.ndarray:
        """Return ``float64[n or 1, n_items]`` for the whole catalogue."""

    def _context(self, rounds: int, rng: np.random.Generator) -> pa.Table | None:
        return None

    def _attributes(self) -> pa.Table | None:
        return None


class CascadeWorld(BanditWorld):
    """People who click the first attractive item.

    Parameters
    ----------
    attraction
        ``float64[n_items]`` chances.
    k
        Positions of a slate.
    arrivals
        Round in which each item appears; all are there from the start by default.
    """

    def __init__(self, attraction: np.ndarray | Sequence[float], k: int, arrivals: np.ndarray | None = None) -> None:
        self.attraction, self.k = _chances(attraction, "attraction"), k
        self.arrivals = np.zeros(len(self.attraction), np.int64) if arrivals is None else np.asarray(arrivals, np.int64)
        if self.arrivals.shape != self.attraction.shape:
            raise DataError("there is not one arrival an item.", where="arrivals", value=list(self.arrivals.shape))

    @classmethod
    def two_levels(cls, n_items: int = 16, k: int = 4, high: float = 0.2, low: float = 0.1) -> CascadeWorld:
        """Return a world of ``k`` better items among ``n_items``, spread over the item numbers."""
        attraction = np.full(n_items, low)
        attraction[np.linspace(0, n_items - 1, k).round().astype(int)] = high
        return cls(attraction, k)

    def worth(self, attraction: np.ndarray) -> np.ndarray:
        """Return the chance of a click."""
        return 1.0 - np.prod(1.0 - attraction, axis=1)

    def clicks(self, attraction: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """Return a 1 at the first position that attracts."""
        attracts = uniforms < attraction
        first: np.ndarray = attracts & (np.cumsum(attracts, axis=1) == 1)
        return first.astype(np.float64)

    def _attraction(self, requests: Requests) -> np.ndarray:
        return self.attraction[None]


class PositionWorld(CascadeWorld):
    """People who look at each position with a chance of its own.

    Parameters
    ----------
    attraction, arrivals
        As in a cascade.
    examination
        ``float64[k]`` chances that a position is looked at, falling.
    """

    def __init__(
        self,
        attraction: np.ndarray | Sequence[float],
        examination: np.ndarray | Sequence[float],
        arrivals: np.ndarray | None = None,
    ) -> None:
        self.examination = _chances(examination, "examination")
        if (np.diff(self.examination) > 0).any():
            raise DataError("examination rises along the slate.", where="examination", value=self.examination.tolist())
        super().__init__(attraction, len(self.examination), arrivals)

    def worth(self, attraction: np.ndarray) -> np.ndarray:
        """Return the expected number of clicks."""
        worth: np.ndarray = attraction @ self.examination[: attraction.shape[1]]
        return worth

    def clicks(self, attraction: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """Return clicks on positions that are looked at and attract."""
        return (uniforms < attraction * self.examination).astype(np.float64)


class LinearWorld(CascadeWorld):
    """A cascade whose attraction is linear in features of person and item.

    Parameters
    ----------
    n_items, k
        Size of the catalogue and of a slate.
    tastes, topics
        Length of ``c`` and of ``z``.
    low, high
        Range of the chances in ``B``.
    seed
        Fixes items and ``B``.
    """

    def __init__(
        self,
        n_items: int = 50,
        k: int = 4,
        *,
        tastes: int = 4,
        topics: int = 6,
        low: float = 0.0,
        high: float = 0.6,
        seed: int = 0,
    ) -> None:
        rng = generator(seed, "linear world")
        self.topics = rng.dirichlet(np.full(topics, 0.3), size=n_items)
        self.chances = rng.uniform(low, high, size=(tastes, topics))
        super().__init__(np.zeros(n_items), k)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the context columns; the last taste is what the others leave."""
        return tuple(f"taste {number}" for number in range(len(self.chances) - 1))

    def _context(self, rounds: int, rng: np.random.Generator) -> pa.Table:
        tastes = rng.dirichlet(np.full(len(self.chances), 0.3), size=rounds)
        return pa.table({name: tastes[:, at] for at, name in enumerate(self.columns)})

    def _attributes(self) -> pa.Table:
        width = self.topics.shape[1] - 1
        flat = pa.array(self.topics[:, :-1].ravel())
        return pa.table({"topics": pa.FixedSizeListArray.from_arrays(flat, width)})

    def _attraction(self, requests: Requests) -> np.ndarray:
        assert requests.context is not None
        known = np.stack([requests.context.column(name).to_numpy() for name in self.columns], axis=1)
        tastes = np.column_stack([known, 1.0 - known.sum(axis=1)])
        attraction: np.ndarray = np.clip(tastes @ self.chances @ self.topics.T, 0.0, 1.0)
        return attraction


@dataclass(frozen=True, eq=False)
class Run:
    """What a policy did in a world.

    Attributes
    ----------
    rounds
        ``int64[p]``: points of the curve, evenly spaced on a logarithmic scale, the last round included.
    regret
        ``float64[p]``: expected clicks lost up to each point.
    earned
        Clicks of all rounds.
    """

    rounds: np.ndarray
    regret: np.ndarray
    earned: float

    def slope(self, since: float = 0.1) -> float:
        """Return the slope of ``log regret`` in ``log t`` over the last rounds, from the share ``since`` of all.

        1 is regret in line with time, 0 a regret that stands still; ``log t`` has ``1 / ln t``.
        """
        late = (self.rounds >= since * self.rounds[-1]) & (self.regret > 0)
        if late.sum() < 2:
            return 0.0
        fit = stats.linregress(np.log(self.rounds[late]), np.log(self.regret[late]))
        return float(fit.slope)


def run(policy: Policy, world: BanditWorld, rounds: int, *, seed: int = 0, batch: int = 1, progress: Progress = silent) -> Run:
    """Let a policy act and learn, and measure its regret.

    Parameters
    ----------
    policy
        Is fitted on the world's catalogue anew.
    rounds
        Slates shown.
    seed
        Fixes the policy, the people and their clicks. Worlds under one seed show every policy the same people with the same
        luck, so differences between policies are paired.
    batch
        Slates shown before the policy learns from them.
    """
    policy.fit(world.dataset, seed=seed)
    people, luck, acting = (generator(seed, "bandit", part) for part in ("people", "luck", "act"))
    lost, earned, block = np.empty(rounds), 0.0, max(batch, 4096 // batch * batch)
    for start in range(0, rounds, block):
        size = min(block, rounds - start)
        requests = world.requests(start, size, people)
        uniforms = luck.random((size, world.k))
        items = np.empty((size, world.k), np.int32)
        for low in range(0, size, batch):
            high = min(low + batch, size)
            asked = _part(requests, low, high)
            slate = policy.act(asked, world.k, acting)
            clicks = world.clicks(world.shown(asked, slate.items), uniforms[low:high])
            policy.update(asked, Feedback(slate, clicks))
            items[low:high] = slate.items
            earned += float(clicks.sum())
        lost[start : start + size] = world.best(requests) - world.value(requests, items)
        progress(ProgressEvent(f"{policy.name}: rounds", start + size, rounds))
    at = np.unique(np.geomspace(1, rounds, POINTS).round().astype(np.int64))
    return Run(at, np.cumsum(lost)[at - 1], earned)


def runs(make: Callable[[], Policy], world: BanditWorld, rounds: int, seeds: Sequence[int], *, batch: int = 1) -> list[Run]:
    """Return one run a seed, each of a new policy."""
    return [run(make(), world, rounds, seed=seed, batch=batch) for seed in seeds]


def mean_interval(values: np.ndarray | Sequence[float]) -> tuple[float, float, float]:
    """Return the mean of values of independent seeds and its 95% interval (Student's t)."""
    values = np.asarray(values, float)
    if len(values) < 2:
        raise DataError("an interval needs two seeds at least.", value=len(values))
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def _part(requests: Requests, low: int, high: int) -> Requests:
    """Return some consecutive requests."""
    if low == 0 and high == len(requests):
        return requests
    return Requests(
        requests.users[low:high],
        Histories.empty(high - low),
        candidates=None if requests.candidates is None else requests.candidates.slice(low, high),
        times=None if requests.times is None else requests.times[low:high],
        context=None if requests.context is None else requests.context.slice(low, high - low),
    )


def _chances(values: np.ndarray | Sequence[float], where: str) -> np.ndarray:
    found = np.asarray(values, np.float64)
    if found.ndim != 1 or not len(found) or not ((found >= 0) & (found <= 1)).all():
        raise DataError("these are no chances from 0 to 1.", where=where, value=found.tolist())
    return found
