"""What is true in the synthetic world: preferences, relevance, exposure, and the ranking that nobody can beat.

For person ``u`` with taste ``θ_u`` over topics, and item ``i`` with appeal ``w_i`` and topic weights ``m_ik`` (``π_k`` is the
appeal of topic ``k``)::

    P(i | u)   = Σ_k θ_uk w_i m_ik / π_k           what is chosen when everything is seen
    lift       = P(i | u) / w_i                    taste beyond appeal
    utility    = log lift
    relevance  = lift / (1 + lift)                 chance of a click on something examined
    observed   ∝ P(i | u) e_i                      what is chosen when item i is seen with chance e_i

Events of a person are independent draws from ``observed`` (without return where ``repeats`` is off, and with a session's topic
kept at times where ``focus`` > 0), so ranking unseen items by ``observed`` is Bayes-optimal for an event outside the current
session.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from palate.contracts.config import Config
from palate.contracts.model import Fitting
from palate.contracts.recommender import Recommender
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.errors import DataError, UnsupportedError

if TYPE_CHECKING:
    from palate.simulate.world import World

Kind = Literal["observed", "preference"]


class Truth:
    """Answers about one world; arrays over all items have shape ``[n, n_items]``, so ask for some people at a time."""

    def __init__(self, world: World) -> None:
        self._world = world

    @property
    def appeal(self) -> np.ndarray:
        """``float64[n_items]``: shares of all choices if everything were seen."""
        return self._world.items.appeal

    @property
    def exposure(self) -> np.ndarray:
        """``float64[n_items]``: chance that an item is seen (the propensity of an observed choice)."""
        return self._world.items.exposure

    def tastes(self, users: np.ndarray) -> np.ndarray:
        """Return ``float64[n, n_topics]``: ``θ``, rows sum to 1."""
        config, items = self._world.config, self._world.items
        topics, shares = self._world.interests(users)
        theta = np.tile(config.background * items.topic_appeal / items.topic_appeal.sum(), (len(topics), 1))
        for slot in range(topics.shape[1]):
            np.add.at(theta, (np.arange(len(topics)), topics[:, slot]), (1 - config.background) * shares[:, slot])
        return theta

    def preference(self, users: np.ndarray) -> np.ndarray:
        """Return ``float32[n, n_items]``: ``P(i | u)``."""
        return self.tastes(users).astype(np.float32) @ self._within

    def observed(self, users: np.ndarray) -> np.ndarray:
        """Return ``float32[n, n_items]``: the chance of each item at an event, exposure included (rows sum to 1)."""
        chance = self.preference(users) * self.exposure.astype(np.float32)
        return chance / chance.sum(axis=1, keepdims=True)

    def utilities(self, users: np.ndarray) -> np.ndarray:
        """Return ``float32[n, n_items]``: ``log lift``."""
        return np.log(self.preference(users) / self.appeal.astype(np.float32))

    def relevance(self, users: np.ndarray) -> np.ndarray:
        """Return ``float32[n, n_items]``: chance of a click on an item that is examined."""
        lift = self.preference(users) / self.appeal.astype(np.float32)
        return lift / (1 + lift)

    def relevance_of(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return ``float64[n]``: relevance of pairs of person and item."""
        known, background = self._world.items, self._world.config.background
        topics, shares = self._world.interests(users)
        total = known.topic_appeal.sum()
        lift = np.zeros(len(users))
        for column in range(2):
            topic = known.topics[items, column]
            own = (shares * (topics == topic[:, None])).sum(axis=1)
            theta = (1 - background) * own + background * known.topic_appeal[topic] / total
            mass = known.topic_appeal[topic]
            lift += known.weights[items, column] * np.divide(theta, mass, out=np.zeros(len(users)), where=mass > 0)
        return lift / (1 + lift)

    def logging_policy(self) -> np.ndarray:
        """Return ``float64[n_items]``: chance that the logging policy puts an item in a slot."""
        config = self._world.config
        by_appeal = self.appeal * self.exposure
        return (1 - config.exploration) * by_appeal / by_appeal.sum() + config.exploration / len(self.appeal)

    def recommender(self, dataset: Dataset, kind: Kind = "observed") -> Oracle:
        """Return the Bayes-optimal ranking as a recommender over a data set of this world (any part of it)."""
        return Oracle(self, kind).fit(dataset)

    @cached_property
    def _within(self) -> np.ndarray:
        return self._world.items.within_topic()


class Oracle(Recommender):
    """Ranks by the world's own chances: an upper bound for every model, never a competitor.

    Parameters
    ----------
    truth
        The truth of the world that made the data.
    kind
        ``"observed"`` ranks by what will be chosen next, exposure included; ``"preference"`` by what would be chosen if
        everything were seen.
    """

    name: ClassVar[str] = "oracle"
    Settings = Config

    def __init__(self, truth: Truth, kind: Kind = "observed") -> None:
        super().__init__()
        self.truth, self.kind = truth, kind

    def _fit(self, dataset: Dataset, fitting: Fitting) -> None:
        if dataset.users.ids.is_text or dataset.items.ids.is_text:
            raise DataError("the ids are not those of a synthetic world.", where=dataset.name)

    def _scores(self, requests: Requests) -> np.ndarray:
        if (requests.users < 0).any():
            raise UnsupportedError("the oracle knows only the people of its world.", remedy="ask by user")
        people = np.asarray(self.users_.ids.decode(requests.users), np.int64)
        items = np.asarray(self.items_.ids.raw, np.int64)
        chance = self.truth.observed(people) if self.kind == "observed" else self.truth.preference(people)
        return np.ascontiguousarray(chance[:, items])

    def _informed(self, requests: Requests) -> np.ndarray:
        return np.ones(len(requests), bool)

    def _state(self) -> dict[str, np.ndarray]:
        raise self._refuse("be saved", "save the world's settings instead")

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        raise self._refuse("be loaded", "make the world again from its settings")
