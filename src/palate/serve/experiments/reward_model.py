"""A reward model for the service's own log: what an item earns at a position, from what is known without looking at any reward.

    q(person, item, position) = b + β · (categories and price of the item, likeness to the person's taste, position)

It is fitted by ridge regression on the logged rewards, crosswise: nobody's rewards are predicted by a model that saw any of
theirs. Models of the service are no features, because the active one may have learnt from the very clicks that are predicted.
It need not be right: doubly robust estimates use it to be narrower and are unbiased with any; the direct method is as good as
it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from palate.evaluation.offpolicy.crossfit import RewardModel, deal, fit
from palate.serve.memory.catalogue import Catalogue
from palate.serve.memory.people import Person

#: Folds; categories that are told apart, at most: the most common ones.
FOLDS, CATEGORIES = 3, 50


class ItemFacts:
    """What the model sees of items, people and positions."""

    def __init__(self, catalogue: Catalogue) -> None:
        items = catalogue.items
        common = Counter(name for item in items for name in item.categories).most_common(CATEGORIES)
        column = {name: at for at, (name, _) in enumerate(common)}
        self.shares = np.zeros((len(items), len(column)))
        for row, item in enumerate(items):
            for name in item.categories:
                if name in column:
                    self.shares[row, column[name]] = 1 / len(item.categories)
        price = np.array([np.nan if item.price is None else np.log1p(item.price) for item in items], np.float64)
        priced = np.isfinite(price)
        self.prices = np.stack([np.where(priced, price, 0.0), priced], axis=1)

    def of(self, person: Person, rows: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Return ``float64[m, d]`` features of rows (-1: gone) at positions (from 0)."""
        known = (rows >= 0)[:, None]
        taste = self.shares[person.rows].mean(axis=0) if len(person.rows) else np.zeros(self.shares.shape[1])
        shares, prices = self.shares[rows] * known, self.prices[rows] * known
        place = np.stack([1 / (1.0 + positions), positions == 0], axis=1)
        return np.concatenate([shares, prices, (shares @ taste)[:, None], place], axis=1)


class CrossRewards:
    """Reward models of folds, each asked about people that it didn't see.

    Parameters
    ----------
    facts
        Of the catalogue.
    people
        Whose slate each row of the log is, as they were then.
    shown
        ``int64[n, K]`` rows of the catalogue.
    reward
        ``float64[n, K]``.
    unit
        ``int64[n]``: number of the person.
    """

    def __init__(
        self, facts: ItemFacts, people: Sequence[Person], shown: np.ndarray, reward: np.ndarray, unit: np.ndarray
    ) -> None:
        self.facts, self.people = facts, people
        places = np.arange(shown.shape[1])
        told = np.stack([facts.of(person, rows, places) for person, rows in zip(people, shown, strict=True)])
        self.fold = deal(len(shown), FOLDS, unit, 0)
        self.models: list[RewardModel] = []
        for fold in range(FOLDS):
            x, y = told[self.fold != fold].reshape(-1, told.shape[2]), reward[self.fold != fold].ravel()
            self.models.append(fit(x, y, np.ones(len(y))))

    def expected(self, slate: int, rows: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Return ``float64[m]``: what rows at positions (from 0) would earn on the visit of a logged slate."""
        return self.models[self.fold[slate]].predict(self.facts.of(self.people[slate], rows, positions))
