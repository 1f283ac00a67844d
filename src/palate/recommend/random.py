"""Random: a fixed random order for each person, the floor under every table.

    score(u, j) = hash(seed, u or history, j)        uniform in [0, 1)

The same person gets the same order every time; the order of different people is independent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from palate.contracts.config import Config
from palate.contracts.explanation import Explanation
from palate.contracts.model import Fitting
from palate.contracts.recommender import Recommender
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset


class RandomConfig(Config):
    """Random has no settings: the seed of the fit fixes it."""


class Random(Recommender):
    """A random order for each person (see the module's text)."""

    name: ClassVar[str] = "random"
    Settings = RandomConfig

    salt_: np.ndarray  # uint64[1]

    def _fit(self, dataset: Dataset, fitting: Fitting) -> None:
        self.salt_ = fitting.rng("random").integers(0, 2**63, 1, dtype=np.uint64)
        fitting.report("Random", 1, 1)

    def _scores(self, requests: Requests) -> np.ndarray:
        rows = requests.histories.ragged.row_numbers
        person = np.zeros(len(requests), np.uint64)
        np.add.at(person, rows, _mix(requests.histories.items.astype(np.uint64) + np.uint64(1)))
        known = requests.users >= 0
        person[known] = _mix(requests.users[known].astype(np.uint64) + np.uint64(2**40))
        keys = _mix(person[:, None] ^ self.salt_[0]) ^ _mix(np.arange(self.n_items, dtype=np.uint64))[None, :]
        return ((_mix(keys) >> np.uint64(40)) * np.float32(2.0**-24)).astype(np.float32)

    def _informed(self, requests: Requests) -> np.ndarray:
        return np.ones(len(requests), bool)

    def explain(self, request: Requests, item: int) -> Explanation:
        """Refuse: chance has no reasons."""
        raise self._refuse("say why", "ask a model that learns something, such as ease")

    def _state(self) -> dict[str, np.ndarray]:
        return {"salt": self.salt_}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.salt_ = state["salt"]


def _mix(x: np.ndarray) -> np.ndarray:
    """Return a well-mixed 64-bit hash of each number (the finaliser of splitmix64)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = x ^ (x >> np.uint64(31))
    return mixed
