"""Recommenders on a graph whose layers are not linear in the history: a person climbs them again for every request.

A person's neighbours are items only, and items are as training left them, so all layers of one person follow from their free
vector and their items' layers::

    x⁰(u, H) = e_u - F(H_u) + F(H),     F(H) = 1/√|H| Σ_{i in H} V e_i,     x^k(u, H) = layer_k( x^{k-1}, {x_i^{k-1} : i in H} )

where ``H_u`` is the training history and ``V`` is the ridge regression of ``e_u`` on ``1/√|H_u| Σ e_i`` over the training
people. With the training history this is exactly the trained vector; for an unseen person ``x⁰ = F(H)``, the best linear
guess of the free vector that training would have found. Items of the history without edges say nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from palate.contracts.explanation import Evidence, Explanation
from palate.contracts.model import Fitting
from palate.contracts.recommender import VectorRecommender
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.data.histories import Histories
from palate.kernels.rows import sum_rows
from palate.nn.adam import Adam
from palate.recommend.folded import fold, ridge
from palate.recommend.shares import explain_by_shares, one_history
from palate.training.config import TrainConfig
from palate.training.loop import TrainingRecord, fit_module
from palate.training.validation import validator


class LayeredRecommender(VectorRecommender):
    """Base of recommenders of this form; ``_finish`` sets the arrays, ``_climb`` goes through the layers.

    Attributes
    ----------
    item_vectors_
        ``float32[n_items, d]``, what people's vectors are multiplied with; zero rows for items without edges.
    below_
        ``float32[n_items, d_k]`` of each layer, the free one first and without the last.
    weights_
        What the layers need beside them.
    shares_, own_
        ``float32[n_items, d_0]``, ``V e_i``; ``float32[n_users, d_0]``, ``e_u - F(H_u)``.
    """

    title: ClassVar[str]
    config: TrainConfig

    item_vectors_: np.ndarray
    below_: list[np.ndarray]
    weights_: list[np.ndarray]
    shares_: np.ndarray
    own_: np.ndarray
    linked_: np.ndarray

    def _descend(
        self,
        network: Any,
        dataset: Dataset,
        fitting: Fitting,
        batches: Callable[[int, np.random.Generator], Any],
        steps: Callable[..., Tensor],
    ) -> TrainingRecord:
        """Train a network with free vectors ``free``; validation answers by what ``_finish`` makes of it so far."""
        c = self.config

        on_cpu = network.free.device.type == "cpu"
        record = fit_module(
            network,
            batches=batches,
            loss=steps,
            config=c,
            fitting=fitting,
            title=self.title,
            evaluate=validator(self, fitting.validation, before=lambda: self._finish(network, dataset)),
            optimizer=Adam(network.parameters(), lr=c.lr, weight_decay=c.weight_decay) if on_cpu else None,
        )
        self._finish(network, dataset)
        return record

    def _finish(self, network: Any, dataset: Dataset) -> None:
        """Set the arrays that answer."""
        raise NotImplementedError

    def _climb(self, x: np.ndarray, offsets: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return ``float32[n, d]`` vectors of people with free vectors ``x`` and the ragged items given."""
        raise NotImplementedError

    def _fold(self, dataset: Dataset, people: np.ndarray, items: np.ndarray) -> None:
        """Set what free vectors of the history need, from the free vectors of people and items; then prepare for answers."""
        active = dataset.histories.lengths > 0
        inputs = fold(dataset.histories, items)
        self.shares_ = (items @ ridge(inputs[active], people[active])).astype(np.float32)
        own = np.where(active[:, None], people - fold(dataset.histories, self.shares_), 0)
        self.own_ = own.astype(np.float32)
        self._prepare()

    def _prepare(self) -> None:
        """Derive what answers need from the arrays."""
        self.linked_ = np.asarray(self.item_vectors_.any(axis=1))

    @property
    def item_vectors(self) -> np.ndarray:
        """``float32[n_items, d]``."""
        return self.item_vectors_

    def request_vectors(self, requests: Requests) -> np.ndarray:
        """Return ``float32[n, d]``, one vector a request (zero where the history holds no item with edges)."""
        offsets, items = self._neighbours(requests)
        count = np.diff(offsets)
        x = sum_rows(offsets, items, self.shares_) / np.sqrt(np.maximum(count, 1))[:, None].astype(np.float32)
        known = np.flatnonzero(requests.users >= 0)
        x[known] += self.own_[requests.users[known]]
        out = self._climb(x, offsets, items)
        out[count == 0] = 0
        return out

    def explain(self, request: Requests, item: int) -> Explanation:
        """Return how far the score falls when an item of the history is left out and the person stays."""
        history = one_history(self, request, item)
        if not self._informed(request).all():
            return explain_by_shares(self, request, item, history, np.zeros(len(history)), "")
        rows = [history, *(np.delete(history, at) for at in range(len(history)))]
        asked = Requests(np.full(len(rows), request.users[0], np.int32), Histories.from_rows(rows))
        scores = self.score(asked, np.full((len(rows), 1), item, np.int32))[:, 0]
        # A history that says nothing any more would be answered by popularity, in other units.
        known = self._informed(asked)[1:]
        falls = zip(history[known], (scores[0] - scores[1:])[known], strict=True)
        reasons = sorted((Evidence("history", int(i), float(w)) for i, w in falls), key=lambda e: -abs(e.weight))
        return Explanation(item, float(scores[0]), tuple(reasons), exact=False, method="leave one out of the history")

    def _neighbours(self, requests: Requests) -> tuple[np.ndarray, np.ndarray]:
        """Return the distinct items with edges of each history: offsets and values."""
        seen = requests.histories.ragged.distinct
        kept = self.linked_[seen.values]
        return np.concatenate([[0], np.cumsum(kept)])[seen.offsets].astype(np.int64), seen.values[kept]

    def _informed(self, requests: Requests) -> np.ndarray:
        return np.diff(self._neighbours(requests)[0]) > 0

    def _state(self) -> dict[str, np.ndarray]:
        lists = {"below": self.below_, "weights": self.weights_}
        parts = {f"{name}_{k:02d}": array for name, arrays in lists.items() for k, array in enumerate(arrays)}
        return {"items": self.item_vectors_, "shares": self.shares_, "own": self.own_, **parts}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.below_, self.weights_ = (
            [state[key] for key in sorted(state) if key.startswith(p)] for p in ("below_", "weights_")
        )
        self.item_vectors_, self.shares_, self.own_ = state["items"], state["shares"], state["own"]
        self._prepare()

    def _forget(self, numbers: np.ndarray) -> None:
        self.own_ = self.own_.copy()
        self.own_[numbers] = 0
