"""Random: a list by lot, the floor under every table.

    score(u, j) = h(seed, u, j) in [0, 1)

``h`` is a hash, so a person gets the same list whenever they ask, alone or in a batch; another seed gives another. An unseen
person is told apart by the set of items of their history.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from palate.contracts.explanation import Explanation
from palate.contracts.model import Fitting
from palate.contracts.recommender import Recommender
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.kernels.draws import uniform


class Random(Recommender):
    """Items by lot (see the module's text)."""

    name: ClassVar[str] = "random"

    key_: np.ndarray  # uint64[1]

    def _fit(self, dataset: Dataset, fitting: Fitting) -> None:
        self.key_ = fitting.rng("random").integers(0, 2**64, 1, dtype=np.uint64)
        fitting.report("Random", 1, 1)

    def _scores(self, requests: Requests) -> np.ndarray:
        return uniform(self._keys(requests), self.n_items)

    def _keys(self, requests: Requests) -> np.ndarray:
        """Return ``uint64[n]``, one key a person."""
        person = requests.users.astype(np.int64).astype(np.uint64)
        for row in np.flatnonzero(requests.users < 0).tolist():
            items = np.unique(requests.histories.ragged[row]).astype(np.uint64)
            person[row] = _mix(items).sum(dtype=np.uint64) | np.uint64(2**63)
        return _mix(person ^ self.key_)

    def _informed(self, requests: Requests) -> np.ndarray:
        return np.ones(len(requests), bool)

    def explain(self, request: Requests, item: int) -> Explanation:
        """Refuse: chance has no reasons."""
        raise self._refuse("say why", "ask a model that learns something, such as ease")

    def _state(self) -> dict[str, np.ndarray]:
        return {"key": self.key_}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.key_ = state["key"]


def _mix(values: np.ndarray) -> np.ndarray:
    """Return ``uint64[n]`` hashes of ``uint64`` values."""
    x = values + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
