"""Recommenders whose person vector is a free part plus a sum over the history: one formula for known and unseen people.

    v(u, H) = c + r_u + 1/√n Σ_{i in H} f_i        score(u, j) = <v(u, H), q_j>

``H`` is the history of the request (distinct items that were seen in training; ``n`` of them) and ``r_u`` belongs to people
known from training (zero for others). So the answer follows the history that is given, one request at a time or many, and
splits exactly into the shares of its items and a rest.

Where people were trained freely, ``f`` is what best tells their vectors from their histories: :func:`fold` sums a history, and
:func:`ridge` finds the linear map from such sums to the vectors.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from palate.contracts.explanation import Explanation
from palate.contracts.recommender import VectorRecommender
from palate.contracts.requests import Requests
from palate.data.histories import Histories
from palate.kernels.rows import sum_rows
from palate.recommend.shares import explain_by_shares, one_history

#: Weight of the ridge penalty of the fold-in, as a share of the mean square of its inputs.
RIDGE = 1e-3


class FoldedRecommender(VectorRecommender):
    """Base of recommenders of this form; ``_fit`` sets the four arrays.

    Attributes
    ----------
    item_vectors_
        ``float32[n_items, d]``, ``q``.
    shares_
        ``float32[n_items, d]``, ``f``.
    own_
        ``float32[n_users, d]``, ``r``.
    common_
        ``float32[d]``, ``c``.
    """

    item_vectors_: np.ndarray
    shares_: np.ndarray
    own_: np.ndarray
    common_: np.ndarray

    @property
    def item_vectors(self) -> np.ndarray:
        """``float32[n_items, d]``."""
        return self.item_vectors_

    def request_vectors(self, requests: Requests) -> np.ndarray:
        """Return ``float32[n, d]``, one vector a request (zero where the history says nothing)."""
        seen, counts = requests.histories.ragged.distinct, self._known_items(requests)
        out = sum_rows(seen.offsets, seen.values, self.shares_)
        out /= np.sqrt(np.maximum(counts, 1))[:, None]
        known = np.flatnonzero(requests.users >= 0)
        out[known] += self.own_[requests.users[known]]
        out += self.common_
        out[counts == 0] = 0
        return out

    def explain(self, request: Requests, item: int) -> Explanation:
        """Return the exact share of each item of the history; the rest is the person's own part and the item's."""
        history = one_history(self, request, item)
        history = history[self.item_counts_[history] > 0]
        score = float(self.score(request, np.full((1, 1), item, np.int32))[0, 0])
        shares = (self.shares_[history] @ self.item_vectors_[item]).astype(np.float64) / np.sqrt(max(1, len(history)))
        return explain_by_shares(self, request, item, history, shares, "shares of the history", score=score)

    def _informed(self, requests: Requests) -> np.ndarray:
        return self._known_items(requests) > 0

    def _known_items(self, requests: Requests) -> np.ndarray:
        """Return ``int64[n]``: distinct items of each history that were seen in training."""
        seen = requests.histories.ragged.distinct
        known = np.concatenate([[0], np.cumsum(self.item_counts_[seen.values] > 0)])
        return known[seen.offsets[1:]] - known[seen.offsets[:-1]]

    def _state(self) -> dict[str, np.ndarray]:
        return {"items": self.item_vectors_, "shares": self.shares_, "own": self.own_, "common": self.common_}

    def _forget(self, numbers: np.ndarray) -> None:
        self.own_ = self.own_.copy()
        self.own_[numbers] = 0

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.item_vectors_, self.shares_ = state["items"], state["shares"]
        self.own_, self.common_ = state["own"], state["common"]


def fold(histories: Histories, vectors: np.ndarray) -> np.ndarray:
    """Return ``float32[n, d]``: the sum of the vectors of each history's distinct items, over the root of their number."""
    counts = sum_rows(histories.offsets, histories.items, np.ones((len(vectors), 1), np.float32))
    total: np.ndarray = sum_rows(histories.offsets, histories.items, vectors) / np.sqrt(np.maximum(counts, 1))
    return total


def ridge(inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Return ``float64[d, e]``: the linear map from ``inputs[n, d]`` to ``outputs[n, e]`` with the smallest squared error."""
    x = inputs.astype(np.float64)
    gram = x.T @ x
    gram.flat[:: len(gram) + 1] += RIDGE * max(float(np.trace(gram)) / len(gram), 1e-12)
    weights: np.ndarray = np.linalg.solve(gram, x.T @ outputs.astype(np.float64))
    return weights
